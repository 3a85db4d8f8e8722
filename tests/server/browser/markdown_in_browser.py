"""What a model writes: Markdown and formulas as they are meant, and nothing that runs, loads or stops the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browsing import ask, opened, show_answer
from support.serving import Served

HOSTILE = r"""<script>window.bad = 1</script><img src=x onerror="window.bad = 1">

![picture](https://example.com/x.png)
[link](javascript:window.bad=1) [fine](https://example.com/) <input type="text"> <a onclick="window.bad=1">x</a>

```js"><img src=x onerror=window.bad=1>
1 < 2
```

$\href{javascript:window.bad=1}{x}$ $\htmlStyle{position:fixed}{x}$ $\includegraphics{https://example.com/x.png}$
$x"><img src=x onerror=window.bad=1>$"""


def test_lists_and_tables_are_what_they_are(shared_page: Page) -> None:
    """`type`, `start` and `align` pass the sanitizer."""
    prose = show_answer(
        shared_page,
        "- [x] done\n- [ ] open\n\n7. seven\n8. eight\n\n| a | b | c |\n|:-:|--:|---|\n| extraordinarily | 2 | 3 |",
    )
    boxes = prose.get_by_role("checkbox")
    assert [box.is_checked() for box in boxes.all()] == [True, False]
    assert all(box.is_disabled() for box in boxes.all())
    assert prose.locator("ol").get_attribute("start") == "7"
    aligned = prose.locator("th").evaluate_all("all => all.map(one => getComputedStyle(one).textAlign)")
    assert aligned == ["center", "right", "start"]
    assert prose.locator("[type]:not(input)").count() == 0


def test_a_table_does_not_break_inside_words(browser: Browser, server: Served) -> None:
    with opened(browser, server.url, viewport={"width": 360, "height": 700}) as page:
        word = "internationalization"
        prose = show_answer(page, f"| {word} | {word} | {word} |\n|-|-|-|\n| {word} | b | c |")
        heights = prose.locator("td").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
        assert max(heights) < 50, "one line each"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the table scrolls, not the page"


def test_each_block_has_its_own_direction(shared_page: Page) -> None:
    hebrew, arabic = "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627"
    prose = show_answer(shared_page, f"Hello there.\n\n{hebrew}\n\n- {arabic}\n\n> {hebrew}\n\n```\ncode\n```")
    directions = prose.locator("p, li, blockquote").evaluate_all(
        "all => all.map(one => getComputedStyle(one).direction)"
    )
    assert directions == ["ltr", "rtl", "rtl", "rtl", "rtl"], "the paragraph in the quotation too"
    assert prose.locator(".code").evaluate("one => getComputedStyle(one).direction") == "ltr"


def test_formulas_are_set(shared_page: Page) -> None:
    text = (
        r"Inline $a_1 * b_1 * c$ and \(x^2 \leq y\), display \[\frac{1}{2}\] and" "\n\n"
        r"$$\sum_{i=1}^{n} i = \frac{n(n+1)}{2}$$" "\n\n"
        r"\begin{align} a &= b \\ c &= d \end{align}" "\n\n"
        r"| f |" "\n|-|\n" r"| $\sqrt{2}$ |" "\n\n"
        r"It costs $5 and $10, `$x$` is code, $\undefinedmacro$ is none, \$y\$ neither."
    )  # fmt: skip
    prose = show_answer(shared_page, text)
    formulas = prose.locator(".katex annotation")
    expect(formulas).to_have_count(6)
    sources = [r"a_1 * b_1 * c", r"x^2 \leq y", r"\frac{1}{2}", r"\sum_{i=1}^{n} i = \frac{n(n+1)}{2}",
               r"\begin{align} a &= b \\ c &= d \end{align}", r"\sqrt{2}"]  # fmt: skip
    assert formulas.all_text_contents() == sources
    assert prose.locator(".katex-display").count() == 3
    last = prose.locator("p").last
    assert last.inner_text() == r"It costs $5 and $10, $x$ is code, $\undefinedmacro$ is none, $y$ neither."
    assert last.locator("code").all_inner_texts() == ["$x$", r"$\undefinedmacro$"]
    assert shared_page.evaluate("document.fonts.load('16px KaTeX_Main').then((fonts) => fonts.length)") == 1


def test_nothing_in_an_answer_runs_or_loads(shared_page: Page) -> None:
    prose = show_answer(shared_page, HOSTILE)
    expect(prose).to_contain_text("<script>window.bad = 1</script>")
    assert prose.locator("script, img, input, iframe, style, [onclick], [onerror]").count() == 0
    addresses = [link.get_attribute("href") for link in prose.locator("a").all()]
    assert addresses == ["https://example.com/x.png", None, "https://example.com/"]
    expect(prose.locator("pre")).to_have_text("1 < 2\n")
    assert shared_page.evaluate("window.bad") is None


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
    "fewer rows": "|a|b|\n|-|-|\n" + "|1|2|\n" * 2_500,
    "backticks": "`" * 20_000 + "\n" + "``` ` " * 5_000,
    "code": "```python\n" + "x = (1, 'a', [2])\n" * 5_000 + "```",
    "entities": "&amp;<b>" * 20_000,
    "a long line": "word " * 90_000,
    "formulas": r"$x_1^2 + \frac{a}{b}$ and " * 5_000,
    "macros": r"$\def\a{\b\b\b\b}\def\b{\c\c\c\c}\def\c{\d\d\d\d}\def\d{xxxx}\a\a\a\a$ " * 200,
    "nested formula": "$" + r"\sqrt{" * 600 + "x" + "}" * 600 + "$",
    "dollars": "$a " * 60_000,
    "open formulas": r"\[ x " * 40_000,
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


@pytest.fixture(scope="module")
def watched_page(shared_page: Page) -> Page:
    shared_page.add_init_script(WATCH)
    return shared_page


@pytest.mark.parametrize("kind", LONG)
def test_no_answer_stops_the_page(watched_page: Page, kind: str) -> None:
    """What the parser or the browser would take long for is shown as plain text; the page answers all the while."""
    prose = show_answer(watched_page, LONG[kind])
    shown = watched_page.evaluate("document.querySelector('.prose').textContent.length")
    assert shown > 0.2 * len(LONG[kind]) or watched_page.locator(".prose li, .prose td").count() > 1000
    assert watched_page.evaluate("window.gap") < 2500
    if kind in ("nested quotes", "columns"):
        expect(prose).to_have_class("prose plain")
        expect(watched_page.locator(".assistant .note")).to_contain_text("Shown as it was written")
    watched_page.get_by_role("button", name="New conversation").first.click()
    expect(ask(watched_page, "Hello").locator(".prose")).not_to_have_class("prose plain")
