"""The pictures of the page in docs/: python tools/page_screenshots.py (needs what `make test-page` needs).

The shipped model answers greedily. `pngquant` makes them small.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
QUESTIONS = [
    ("Auto", "Write a Python function that reverses a list"),
    ("Diffusion", "Sort these numbers: 74, 31, 95, 12"),
]
PICTURES: list[tuple[str, dict[str, Any]]] = [
    ("page-light.png", {"color_scheme": "light", "viewport": {"width": 1080, "height": 800}}),
    ("page-dark.png", {"color_scheme": "dark", "viewport": {"width": 1080, "height": 800}}),
    ("page-phone.png", {"color_scheme": "light", "viewport": {"width": 390, "height": 800}}),
]


def draw(browser: Browser, url: str, file: Path, options: dict[str, Any]) -> None:
    """Ask both questions, and show the second answer while half of its passes are done."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.goto(url)
    for i, (mode, question) in enumerate(QUESTIONS):
        page.get_by_role("radio", name=mode).check()
        page.get_by_label("Message", exact=True).fill(question)
        page.keyboard.press("Enter")
        page.locator(".stats:not(:empty)").nth(i).wait_for()
    slider = page.get_by_role("slider").last
    slider.fill(str(int(slider.get_attribute("max") or 2) // 2))
    slider.blur()
    page.locator("#scroller").evaluate("element => element.scrollTop = element.scrollHeight")
    page.screenshot(path=file, style="textarea { caret-color: transparent }")
    context.close()


def draw_race(browser: Browser, url: str, file: Path) -> None:
    """Show a race of self-speculation against one token at a time, both done."""
    context = browser.new_context(color_scheme="light", viewport={"width": 1080, "height": 940})
    page = context.new_page()
    page.goto(url)
    page.get_by_role("switch", name="Race").check()
    page.get_by_label("Message", exact=True).fill("Write a class Car with name and speed.")
    page.keyboard.press("Enter")
    page.locator(".race .result:not(:empty)").wait_for()
    page.locator("#scroller").evaluate("element => element.scrollTop = element.scrollHeight")
    page.wait_for_timeout(1000)  # the bars grow
    page.screenshot(path=file, style="textarea { caret-color: transparent }")
    context.close()


def main() -> None:
    """Start a server, draw, end it."""
    command = [
        sys.executable,
        "-m",
        "pytrimode",
        "serve",
        "--port",
        "0",
        "-np",
        "2",
        "--temp",
        "0",
        "-a",
        "trimode-tiny",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            lines = iter(server.stderr)
            found = next(filter(None, (re.search(r"http://\S+", line) for line in lines)))
            next(line for line in lines if "model loaded" in line)
            threading.Thread(target=lambda: list(lines), daemon=True).start()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                for name, options in PICTURES:
                    draw(browser, found[0], DOCS / name, options)
                draw_race(browser, found[0], DOCS / "page-race.png")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
