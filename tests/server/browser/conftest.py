"""The browser and a server that the tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.serving import Served, loader, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SLOTS = 2


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Not above: the other tests do without Playwright.
    from support.browsing import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def server(q8_gguf: Path) -> Iterator[Served]:
    from support.browsing import GREEDY

    with served(loader(q8_gguf, 2048, SLOTS), defaults=GREEDY, allowed_hosts=("lan.test",)) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    from support.browsing import opened

    with opened(browser, server.url) as tab:
        yield tab


@pytest.fixture(scope="module")
def shared_page(browser: Browser, server: Served) -> Iterator[Page]:
    """For tests that begin with `show_answer`: what the page kept before does not matter to them."""
    from support.browsing import opened

    with opened(browser, server.url) as tab:
        yield tab
