"""What goes wrong: stops, keys, errors, a server that is busy or away, cut answers, a machine in the network."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect
from support.browsing import ENDLESS, GREEDY, QUESTION, ask, bodies, expected_text, opened, send, set_field, user
from support.serving import LONG_CONTEXT, Served, loader, served, until

from pytrimode import TriMode

CHAT = re.compile("/v1/chat/completions$")


def test_stop_ends_the_answer_and_frees_the_slot(browser: Browser, q8_gguf: Path) -> None:
    with served(loader(q8_gguf, LONG_CONTEXT), defaults=ENDLESS) as endless, opened(browser, endless.url) as page:
        for stop in ("button", "key"):
            answer = send(page, "Hello")
            expect(answer.locator(".prose")).not_to_be_empty()
            assert endless.get("/slots").json()[0]["is_processing"]
            page.get_by_role("button", name="Stop").click() if stop == "button" else page.keyboard.press("Escape")
            answer.get_by_text("Stopped.").wait_for()
            until(lambda: not endless.get("/slots").json()[0]["is_processing"])
        page.reload()
        expect(page.get_by_text("Stopped.")).to_have_count(2)


def test_a_page_that_is_closed_keeps_what_was_written(browser: Browser, q8_gguf: Path) -> None:
    with served(loader(q8_gguf, LONG_CONTEXT), defaults=ENDLESS) as endless, opened(browser, endless.url) as page:
        answer = send(page, "Hello")
        expect(answer.locator(".prose")).to_contain_text("Trimode")
        page.reload()
        expect(answer.locator(".prose")).to_contain_text("Trimode")
        expect(page.get_by_text("Stopped.")).to_be_visible()
        expect(page.get_by_role("button", name="Continue")).to_be_visible()


def test_a_key_is_asked_for(browser: Browser, q8_gguf: Path) -> None:
    with (
        served(loader(q8_gguf, 512), api_keys=("right",), defaults=GREEDY) as guarded,
        opened(browser, guarded.url, expected=("401",)) as page,
    ):
        page.get_by_label("API key", exact=True).fill("right")
        page.get_by_role("button", name="Save", exact=True).click()
        assert ask(page, "Hello").locator(".prose").inner_text()
        page.reload()
        ask(page, "Again")
        assert "right" not in page.evaluate("JSON.stringify(localStorage)"), "it is the tab's only"
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Keep the API key in this browser").check()
        page.get_by_role("button", name="Save", exact=True).click()
        other = page.context.new_page()  # another tab has a sessionStorage of its own
        other.goto(guarded.url)
        assert ask(other, "Hello").locator(".prose").inner_text()


def test_an_error_is_shown_and_the_question_can_be_asked_again(browser: Browser, server: Served) -> None:
    with opened(browser, server.url, expected=("400",)) as page:
        set_field(page, "Block length", "100000")
        send(page, "Hello")
        expect(page.get_by_role("alert")).to_contain_text("block_length 100000")
        set_field(page, "Block length", "")
        page.get_by_role("button", name="Try again").click()
        page.get_by_role("button", name="Regenerate").wait_for()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_a_full_queue_is_waited_for_as_long_as_the_server_says(browser: Browser, server: Served) -> None:
    with opened(browser, server.url, expected=("429",)) as page:
        seen = []

        def busy_once(route: Route) -> None:
            seen.append(page.evaluate("performance.now()"))
            if len(seen) > 1:
                return route.continue_()
            body = '{"error": {"message": "the queue is full", "code": 429}}'
            return route.fulfill(status=429, headers={"Retry-After": "3"}, content_type="application/json", body=body)

        page.route(CHAT, busy_once)
        answer = send(page, "Hello")
        expect(answer).to_contain_text("The server is busy. It is asked again in 3 s.")
        answer.get_by_role("button", name="Regenerate").wait_for()
        assert answer.locator(".prose").inner_text() and len(seen) == 2
        assert seen[1] - seen[0] >= 2900
        expect(answer.locator(".waiting")).to_be_hidden()


def test_the_servers_own_queue_is_waited_for(browser: Browser, q8_gguf: Path) -> None:
    with (
        served(loader(q8_gguf, LONG_CONTEXT, max_queue=0), defaults=ENDLESS) as small,
        opened(browser, small.url, expected=("429",)) as page,
        opened(browser, small.url) as other,
    ):
        expect(send(other, "Hello").locator(".prose")).not_to_be_empty()
        answer = send(page, "Hello")
        expect(answer).to_contain_text("The server is busy.")
        other.get_by_role("button", name="Stop").click()
        expect(answer.locator(".prose")).not_to_be_empty(timeout=20_000)
        page.get_by_role("button", name="Stop").click()


def test_the_page_goes_on_when_the_server_is_back(browser: Browser, server: Served) -> None:
    with opened(browser, server.url, expected=("ERR_INTERNET_DISCONNECTED",)) as page:
        ask(page, "Hello")
        page.context.set_offline(True)
        answer = send(page, "How are you?")
        expect(answer).to_contain_text("The server cannot be reached. It is asked again when it is back.")
        expect(page.locator("#banner")).to_contain_text("The server cannot be reached.")
        page.context.set_offline(False)
        answer.get_by_role("button", name="Regenerate").wait_for()
        assert answer.locator(".prose").inner_text()
        expect(page.locator("#banner")).to_be_hidden()


def test_a_page_that_is_opened_too_early_waits(browser: Browser, q8_gguf: Path) -> None:
    loading = loader(q8_gguf, 512)
    gate: list[bool] = []

    def slowly() -> TriMode:
        until(lambda: bool(gate))
        return loading()

    with served(slowly, wait=False, defaults=GREEDY) as slow, opened(browser, slow.url, expected=("503",)) as page:
        expect(page.locator("#banner")).to_have_text("The model is being loaded.")
        answer = send(page, "Hello")
        expect(answer).to_contain_text("The server is not ready.")
        gate.append(True)
        answer.get_by_role("button", name="Regenerate").wait_for()
        expect(page.locator("#banner")).to_be_hidden()


def test_a_cut_answer_goes_on_where_it_ended(page: Page, model: TriMode) -> None:
    sent = bodies(page)
    page.get_by_role("radio", name="AR").check()
    set_field(page, "Most tokens", "6")
    answer = ask(page, QUESTION)
    expect(answer).to_contain_text("Cut off: the most tokens are reached.")
    part = expected_text(model, [user(QUESTION)], max_tokens=6)
    set_field(page, "Most tokens", "")
    answer.get_by_role("button", name="Continue").click()
    expect(answer.get_by_text("Cut off")).to_have_count(0)
    answer.get_by_role("button", name="Regenerate").wait_for()
    assert sent[-1]["messages"][-1] == {"role": "assistant", "content": part}
    whole = expected_text(model, [user(QUESTION)])
    kept = page.evaluate("import('/page/store/database.js').then(({ readAll }) => readAll())")
    assert kept[0]["messages"][-1]["content"] == whole
    assert page.locator(".assistant").count() == 1
    n_tokens = kept[0]["messages"][-1]["timings"]["predicted_n"]
    assert f"{n_tokens} tokens" in answer.locator(".stats").inner_text() and n_tokens > 20
    assert "tokens, " in answer.locator(".caption").inner_text() or answer.locator(".replay .count").inner_text()


def test_a_full_context_says_so(browser: Browser, q8_gguf: Path) -> None:
    with served(loader(q8_gguf, 64), defaults=ENDLESS) as small, opened(browser, small.url) as page:
        answer = ask(page, "Hello")
        expect(answer).to_contain_text("Cut off: the context is full.")
        expect(answer.get_by_role("button", name="Continue")).to_have_count(0)


def test_copying_works_without_a_clipboard_api(browser: Browser, server: Served) -> None:
    """Pages that come by plain HTTP from another machine have none."""
    url = server.url.replace("127.0.0.1", "lan.test")
    with opened(browser, url, expected=("Cross-Origin-Opener-Policy",)) as page:
        assert page.evaluate("navigator.clipboard === undefined")
        answer = ask(page, "Hello")
        answer.get_by_role("button", name="Copy").click()
        expect(answer.get_by_role("button", name="Copied")).to_be_visible()
        page.get_by_label("Message", exact=True).focus()
        page.keyboard.press("Control+v")
        expect(page.get_by_label("Message", exact=True)).to_have_value(answer.locator(".prose").inner_text())
