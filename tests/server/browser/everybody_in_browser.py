"""The page for everybody: axe in light and dark, wide and narrow, and as an installed app."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from support.browsing import QUESTION, ask, check_access, mode, opened, send
from support.serving import Served


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 320])
def test_axe_finds_nothing_and_nothing_is_cut_off(browser: Browser, server: Served, scheme: Any, width: int) -> None:
    with opened(
        browser, server.url, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    ) as page:
        page.get_by_role("radio", name="Diffusion").wait_for()
        check_access(page)
        ask(page, QUESTION)
        mode(page, "Diffusion")
        answer = ask(page, "Sort these numbers: 74, 31, 95, 12")
        answer.get_by_role("slider").fill("2")
        answer.get_by_role("button", name="Regenerate").click()
        expect(page.locator(".versions")).to_be_visible()
        check_access(page)
        page.get_by_role("switch", name="Race").check()
        send(page, "Hello")
        expect(page.locator(".race .result")).not_to_be_empty()
        check_access(page)
        if width < 800:
            page.get_by_role("button", name="Conversations").click()
        page.locator("#conversations .title").first.wait_for()
        page.get_by_role("button", name="More for").click()
        check_access(page)
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Settings").click()
        page.get_by_text("More: every option").click()
        page.get_by_label("typical_p").wait_for()
        check_access(page)
        page.keyboard.press("Escape")
        page.locator("#open-info").click()
        check_access(page)


def test_it_can_be_installed(browser: Browser, server: Served) -> None:
    with opened(browser, server.url) as page:
        session = page.context.new_cdp_session(page)
        found = session.send("Page.getAppManifest")
        assert found["url"] == f"{server.url}/page/app.webmanifest" and found["errors"] == []
        errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
        assert [error["errorId"] for error in errors] == ["in-incognito"], "the test's own doing"
