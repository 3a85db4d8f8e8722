"""The pictures of the page in docs/: python tools/page_screenshots.py (needs what `make test-page` needs).

The shipped model answers greedily. `pngquant` makes the still ones small.

    python tools/page_screenshots.py page-live.gif      # this one alone
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

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


FILM = [
    ("Diffusion", "Sort these numbers: 74, 31, 95, 12"),
    ("Self-spec", "Write a class Car with name and speed."),
]
FRAME, LAST_FRAME = 350, 2500  # milliseconds


def pictures() -> dict[str, Callable[[Browser, str, Path], None]]:
    """Return what draws each file, by its name."""
    still = {name: partial(draw, options=options) for name, options in PICTURES}
    return {**still, "page-race.png": draw_race, "page-live.gif": draw_live}


def ask(page: Page, mode: str, question: str, number: int) -> None:
    """Ask in a mode, and wait for the answer, the `number`-th of the page."""
    page.get_by_role("radio", name=mode).check()
    page.get_by_label("Message", exact=True).fill(question)
    page.keyboard.press("Enter")
    page.locator(".stats:not(:empty)").nth(number).wait_for()


def draw(browser: Browser, url: str, file: Path, options: dict[str, Any]) -> None:
    """Ask both questions, and show the second answer while half of its passes are done."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.goto(url)
    for i, (mode, question) in enumerate(QUESTIONS):
        ask(page, mode, question, i)
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


def draw_live(browser: Browser, url: str, file: Path) -> None:
    """Step through the passes of an answer in diffusion and of one in self-speculation, and keep it as a film."""
    context = browser.new_context(color_scheme="light", viewport={"width": 780, "height": 520})
    page = context.new_page()
    page.goto(url)
    frames: list[Image.Image] = []
    milliseconds: list[int] = []
    for i, (mode, question) in enumerate(FILM):
        ask(page, mode, question, i)
        slider = page.get_by_role("slider").last
        last = int(slider.get_attribute("max") or 0)
        for at in range(last + 1):
            slider.fill(str(at))
            slider.blur()
            page.locator("#scroller").evaluate("element => element.scrollTop = element.scrollHeight")
            picture = page.screenshot(style="textarea { caret-color: transparent }")
            frames.append(Image.open(io.BytesIO(picture)).convert("RGB").quantize(64, dither=Image.Dither.NONE))
            milliseconds.append(LAST_FRAME if at == last else FRAME)
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=True)
    context.close()


def main() -> None:
    """Start a server, draw, end it."""
    wanted = sys.argv[1:]
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
                for name, picture in pictures().items():
                    if not wanted or name in wanted:
                        picture(browser, found[0], DOCS / name)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
