"""The page in headless Chromium: `make test-page`. No part of the default tests: pip cannot bring the browser.

Chromium is the one on the PATH, or Playwright's own (`playwright install chromium`). axe-core comes from
pytrimode/server/page/vendoring/node_modules.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright
from support.serving import LONG_CONTEXT, Served, loader, served, until

from pytrimode import TriMode
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

AXE = Path(__file__).resolve().parents[2] / "pytrimode/server/page/vendoring/node_modules/axe-core/axe.min.js"
QUESTION = "Write a Python function that reverses a list"
GREEDY = GenerationOptions(sampling=Sampling(temperature=0.0))
ENDLESS = GenerationOptions(mode="ar", ignore_eos=True, loop_window=0)
HOSTILE = """<script>window.bad = 1</script><img src=x onerror="window.bad = 1">

![picture](https://example.com/x.png)
[link](javascript:window.bad=1) [fine](https://example.com/) <input type="text"> <a onclick="window.bad=1">x</a>

```js"><img src=x onerror=window.bad=1>
1 < 2
```"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        # Without a sandbox: containers have none to offer, and only our own page is opened.
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def server(q8_gguf: Path) -> Iterator[Served]:
    with served(loader(q8_gguf, 2048), defaults=GREEDY) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    yield from opened(browser, server.url)


def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page in a browser that knows nothing yet; it must reach no other address and log no error."""
    context = browser.new_context(**options)
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(url) else wrong.append(request.url))
    tab.goto(url)
    yield tab
    expected = getattr(tab, "expected_errors", [])
    assert [text for text in wrong if not any(known in text for known in expected)] == []
    context.close()


def ask(page: Page, text: str) -> Locator:
    """The answer, complete."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    answer = page.locator(".assistant").last
    answer.get_by_role("button", name="Regenerate").wait_for()
    return answer


def mode(page: Page, name: str) -> None:
    page.get_by_role("group", name="Decoding mode").get_by_role("radio", name=name).check()


def expected_text(model: TriMode, messages: list[dict[str, str]], **options: Any) -> str:
    result: Any = model.create_chat_completion(messages, temperature=0.0, **options)
    return str(result["choices"][0]["message"]["content"])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


# --- Chat ------------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_models_as_markdown_with_its_figures(page: Page, model: TriMode) -> None:
    expect(page.get_by_role("radio", name="Auto")).to_be_checked()
    mode(page, "Self-spec")
    answer = ask(page, QUESTION)
    code = expected_text(model, [user(QUESTION)]).split("```")[1].removeprefix("python\n")
    expect(answer.locator("pre")).to_have_text(code)
    assert answer.locator(".hljs-keyword").first.inner_text() == "def"
    stats = answer.locator(".stats").inner_text()
    assert stats.startswith("self-spec · ") and "tokens/s" in stats and "% accepted" in stats


def test_a_second_turn_knows_the_first_and_a_reload_keeps_both(page: Page, model: TriMode) -> None:
    first = expected_text(model, [user("Hello")])
    expect(ask(page, "Hello").locator(".prose")).to_have_text(first)
    second = expected_text(model, [user("Hello"), {"role": "assistant", "content": first}, user("How are you?")])
    expect(ask(page, "How are you?").locator(".prose")).to_have_text(second)
    page.reload()
    assert page.locator(".prose").all_inner_texts() == [first, second]
    assert page.locator(".user .text").all_inner_texts() == ["Hello", "How are you?"]


def test_several_conversations(page: Page) -> None:
    ask(page, "Hello")
    page.get_by_role("button", name="New conversation").first.click()
    expect(page.locator(".message")).to_have_count(0)
    ask(page, "How are you?")
    titles = page.locator("#conversations .title")
    assert titles.all_inner_texts() == ["How are you?", "Hello"]
    titles.nth(1).click()
    expect(page.locator(".user .text")).to_have_text("Hello")
    page.get_by_role("button", name="Delete “Hello”").click()
    assert titles.all_inner_texts() == ["How are you?"]
    page.reload()
    assert titles.all_inner_texts() == ["How are you?"]


def test_regenerate_and_edit(page: Page, model: TriMode) -> None:
    ask(page, "Hello")
    ask(page, "How are you?")
    page.locator(".assistant").last.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".assistant .stats:not(:empty)")).to_have_count(2)
    page.locator(".user").first.get_by_role("button", name="Edit").click()
    page.get_by_label("Your message").fill("What can you do?")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".user .text")).to_have_text(["What can you do?"])
    expect(page.locator(".prose")).to_have_text([expected_text(model, [user("What can you do?")])])


def test_the_keyboard_is_enough(page: Page) -> None:
    page.get_by_role("radio", name="Auto").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link to the message box
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Self-spec")).to_be_checked()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".user .text")).to_have_text("Hello\nthere")
    page.locator(".assistant").get_by_role("button", name="Regenerate").wait_for()
    expect(page.get_by_role("status")).to_have_text("The answer is complete.")


# --- Modes and the live view -----------------------------------------------------------------------------------------


def test_diffusion_shows_the_block_being_unmasked(page: Page, server: Served) -> None:
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(body_of(request)))
    mode(page, "Diffusion")
    answer = ask(page, "Sort these numbers: 74, 31, 95, 12, 8, 40")
    assert [body["mode"] for body in sent if body] == ["diffusion"]
    view = answer.get_by_role("figure", name="Live view")
    masks, slider = view.locator(".mask"), view.get_by_role("slider", name="Pass")
    last = int(slider.get_attribute("max") or 0)
    seen = []
    for n in range(1, last + 1):
        slider.fill(str(n))
        seen.append(masks.count())
        expect(view.locator(".count")).to_have_text(f"pass {n} of {last}")
    assert max(seen) > 0 and seen[-1] == 0, "masks, and none left at the end"
    assert view.locator(".sure[title*='%']").count() > 10
    text = answer.locator(".prose").inner_text()
    assert "".join(view.locator(".strip i:not(.end)").all_inner_texts()) == text


def test_self_spec_shows_drafts_kept_and_rejected(page: Page) -> None:
    mode(page, "Self-spec")
    answer = ask(page, QUESTION)
    view = answer.get_by_role("figure", name="Live view")
    share = answer.locator(".stats").inner_text().split(" % accepted")[0].split(" · ")[-1]
    kept, rejected = view.locator(".kept").count(), view.locator(".rejected").count()
    ended = 1  # the end of generation is accepted too, and not shown
    assert kept > 0 and round(100 * (kept + ended) / (kept + ended + rejected)) == int(share)
    view.get_by_role("slider", name="Pass").fill("2")
    assert view.locator(".draft").count() > 0
    view.get_by_role("button", name="Replay").click()
    expect(view.get_by_role("button", name="Pause")).to_be_visible()


def test_the_live_view_can_be_switched_off_and_its_passes_are_kept(page: Page) -> None:
    ask(page, "Hello")
    page.get_by_role("switch", name="Live view").uncheck()
    answer = ask(page, "How are you?")
    assert answer.get_by_role("figure").count() == 0
    page.reload()
    expect(page.get_by_role("switch", name="Live view")).not_to_be_checked()
    first = page.locator(".assistant").first
    first.get_by_role("button", name="Passes").click()
    expect(first.get_by_role("figure", name="Live view").locator(".strip i").first).to_be_visible()


# --- Stop, errors, keys ----------------------------------------------------------------------------------------------


def test_stop_ends_the_answer_and_frees_the_slot(browser: Browser, q8_gguf: Path) -> None:
    with served(loader(q8_gguf, LONG_CONTEXT), defaults=ENDLESS) as endless:
        for page in opened(browser, endless.url):
            for stop in ("button", "key"):
                page.get_by_label("Message", exact=True).fill("Hello")
                page.get_by_role("button", name="Send").click()
                expect(page.locator(".assistant").last.locator(".prose")).not_to_be_empty()
                assert endless.get("/slots").json()[0]["is_processing"]
                page.get_by_role("button", name="Stop").click() if stop == "button" else page.keyboard.press("Escape")
                page.locator(".assistant").last.get_by_text("Stopped.").wait_for()
                until(lambda: not endless.get("/slots").json()[0]["is_processing"])
            page.reload()
            expect(page.get_by_text("Stopped.")).to_have_count(2)


def test_a_key_is_asked_for(browser: Browser, q8_gguf: Path) -> None:
    with served(loader(q8_gguf, 512), api_keys=("right",), defaults=GREEDY) as guarded:
        for page in opened(browser, guarded.url):
            page.expected_errors = ["401"]  # type: ignore[attr-defined]
            page.get_by_label("API key", exact=True).fill("right")
            page.get_by_role("button", name="Save").click()
            assert ask(page, "Hello").locator(".prose").inner_text()
            page.reload()
            ask(page, "Again")
            assert "right" not in page.evaluate("JSON.stringify(localStorage)"), "it is the tab's only"
            page.get_by_role("button", name="Settings").click()
            page.get_by_label("Keep the API key in this browser").check()
            page.get_by_role("button", name="Save").click()
            other = page.context.new_page()  # another tab has a sessionStorage of its own
            other.goto(guarded.url)
            assert ask(other, "Hello").locator(".prose").inner_text()


def test_an_error_is_shown_and_the_question_can_be_asked_again(page: Page) -> None:
    page.expected_errors = ["400"]  # type: ignore[attr-defined]
    set_field(page, "Block length", "100000")
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("block_length 100000")
    set_field(page, "Block length", "")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Regenerate").wait_for()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_settings_reach_the_request(page: Page) -> None:
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(body_of(request)))
    set_field(page, "System prompt", "You are brief.")
    set_field(page, "Temperature", "0.5")
    page.reload()
    ask(page, "Hello")
    (body,) = filter(None, sent)
    assert body["temperature"] == 0.5 and "top_k" not in body
    assert body["messages"] == [{"role": "system", "content": "You are brief."}, user("Hello")]


def set_field(page: Page, name: str, value: str) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label(name).fill(value)
    page.get_by_role("button", name="Save").click()


def body_of(request: Request) -> Any:
    return json.loads(request.post_data) if request.post_data else None


# --- What a model writes is text -------------------------------------------------------------------------------------


def test_nothing_in_an_answer_runs_or_loads(page: Page) -> None:
    kept = [{"id": "1", "messages": [user("x"), {"role": "assistant", "content": HOSTILE}]}]
    page.add_init_script(f"localStorage.setItem('pytrimode.conversations', {json.dumps(json.dumps(kept))})")
    page.reload()
    prose = page.locator(".prose")
    expect(prose).to_contain_text("<script>window.bad = 1</script>")
    page.get_by_role("button", name="Regenerate").wait_for()
    assert prose.locator("script, img, input, [onclick], [onerror]").count() == 0
    addresses = [link.get_attribute("href") for link in prose.locator("a").all()]
    assert addresses == ["https://example.com/x.png", None, "https://example.com/"]
    expect(prose.locator("pre")).to_have_text("1 < 2\n")
    assert page.evaluate("window.bad") is None


LONG = {
    "nested quotes": "> " * 3000 + "end",
    "nested lists": "\n".join("  " * i + "- item" for i in range(1000)),
    "stars": "*" * 20_000 + " end",
    "stars and words": "*a **b " * 5_000,
    "brackets": "[" * 20_000 + "end",
    "links": "[a](" * 8_000,
    "columns": "\n".join("|" + f"{c}|" * 5_000 for c in ("a", "-", "b")),
    "items": "- item\n" * 4_000,
    "rows": "|a|b|\n|-|-|\n" + "|1|2|\n" * 4_000,
    "backticks": "`" * 20_000 + "\n" + "``` ` " * 5_000,
    "code": "```python\n" + "x = (1, 'a', [2])\n" * 5_000 + "```",
    "entities": "&amp;<b>" * 20_000,
    "a long line": "word " * 90_000,
}
WATCH = """
window.gap = 0;
let before = performance.now();
setInterval(() => {
  const now = performance.now();
  window.gap = Math.max(window.gap, now - before);
  before = now;
}, 5);
"""


@pytest.mark.parametrize("kind", LONG)
def test_no_answer_stops_the_page(page: Page, kind: str) -> None:
    """What the parser or the browser would take long for is shown as plain text; the page answers all the while."""
    kept = [{"id": "1", "messages": [user("x"), {"role": "assistant", "content": LONG[kind]}]}]
    page.add_init_script(WATCH)
    page.add_init_script(f"localStorage.setItem('pytrimode.conversations', {json.dumps(json.dumps(kept))})")
    page.reload()
    page.locator(".assistant").get_by_role("button", name="Regenerate").wait_for()
    shown = page.evaluate("document.querySelector('.prose').textContent.length")
    assert shown > 0.2 * len(LONG[kind]) or page.locator(".prose li, .prose td").count() > 1000
    assert page.evaluate("window.gap") < 2500
    if kind in ("nested quotes", "columns"):
        expect(page.locator(".prose")).to_have_class("prose plain")
        expect(page.locator(".assistant .note")).to_contain_text("Shown as it was written")
    page.get_by_role("button", name="New conversation").first.click()
    expect(ask(page, "Hello").locator(".prose")).not_to_have_class("prose plain")


# --- Everybody -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 320])
def test_axe_finds_nothing_and_nothing_is_cut_off(browser: Browser, server: Served, scheme: Any, width: int) -> None:
    options: Any = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "bypass_csp": True}
    for page in opened(browser, server.url, **options):
        page.get_by_role("radio", name="Diffusion").wait_for()
        check(page)
        ask(page, QUESTION)
        mode(page, "Diffusion")
        answer = ask(page, "Sort these numbers: 74, 31, 95, 12")
        answer.get_by_role("slider").fill("2")
        check(page)
        if width < 800:
            page.get_by_role("button", name="Conversations").click()
            page.locator("#conversations .title").first.wait_for()
            check(page)
            page.keyboard.press("Escape")
        page.get_by_role("button", name="Settings").click()
        check(page)


def check(page: Page) -> None:
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no scrolling sideways"
