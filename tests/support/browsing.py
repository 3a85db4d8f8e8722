"""The page in headless Chromium: how tests open it and what they do with it.

Chromium is the one on the PATH, or Playwright's own (`playwright install chromium`). axe-core comes from
pytrimode/server/page/vendoring/node_modules.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright

from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

expect.set_options(timeout=20_000)  # milliseconds: a machine may have other things to do
AXE = Path(__file__).resolve().parents[2] / "pytrimode/server/page/vendoring/node_modules/axe-core/axe.min.js"
QUESTION = "Write a Python function that reverses a list"
GREEDY = GenerationOptions(sampling=Sampling(temperature=0.0))
ENDLESS = GenerationOptions(mode="ar", ignore_eos=True, loop_window=0)
# Without a sandbox: containers have none to offer, and only our own page is opened. Another name for this machine
# stands for a machine in the network, whose pages get no clipboard.
ARGUMENTS = ["--no-sandbox", "--host-resolver-rules=MAP lan.test 127.0.0.1"]


@contextmanager
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=ARGUMENTS)


@contextmanager
def opened(browser: Browser, url: str, *, expected: tuple[str, ...] = (), **options: Any) -> Iterator[Page]:
    """A page in a browser that knows nothing yet; it must reach no other address and log no error but `expected`."""
    context = browser.new_context(**options)
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(url) else wrong.append(request.url))
    tab.goto(url)
    tab.locator("#conversations li").first.wait_for(state="attached")
    yield tab
    wrong = [text for text in wrong if not any(known in text for known in expected)]
    assert not wrong, wrong
    context.close()


def message_box(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def send(page: Page, text: str) -> Locator:
    """The answer that begins."""
    message_box(page).fill(text)
    page.keyboard.press("Enter")
    return page.locator(".assistant").last


def ask(page: Page, text: str) -> Locator:
    """The answer, complete."""
    answer = send(page, text)
    answer.get_by_role("button", name="Regenerate").wait_for()
    return answer


def mode(page: Page, name: str) -> None:
    page.get_by_role("group", name="Decoding mode").get_by_role("radio", name=name).check()


def menu(page: Page, title: str, entry: str) -> None:
    """Choose an entry of a conversation's menu."""
    page.get_by_role("button", name=f"More for “{title}”").click()
    page.get_by_role("menuitem", name=entry, exact=True).click()


def set_field(page: Page, name: str, value: str) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Save", exact=True).click()


def show_answer(page: Page, text: str) -> Locator:
    """A conversation with an answer that a model could have written; its prose."""
    kept = [{"id": secrets.token_hex(8), "messages": [user("x"), {"role": "assistant", "content": text}]}]
    page.evaluate("kept => localStorage.setItem('pytrimode.conversations', kept)", json.dumps(kept))
    page.reload()
    page.locator(".assistant").get_by_role("button", name="Regenerate").wait_for()
    return page.locator(".prose")


def bodies(page: Page) -> list[Any]:
    """What is sent to the server from now on."""
    sent: list[Any] = []

    def note(request: Request) -> None:
        if request.post_data:
            sent.append(json.loads(request.post_data))

    page.on("request", note)
    return sent


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def expected_text(model: Any, messages: list[dict[str, str]], **options: Any) -> str:
    result: Any = model.create_chat_completion(messages, temperature=0.0, **options)
    return str(result["choices"][0]["message"]["content"])


def check_access(page: Page) -> None:
    """axe finds nothing, and nothing makes the page scroll sideways."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")
    violations = [(v["id"], [node["html"] for node in v["nodes"]]) for v in found["violations"]]
    assert not violations, violations
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no scrolling sideways"
