"""Chats on the page: answers, turns, settings, the keyboard."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from support.browsing import QUESTION, ask, bodies, expected_text, message_box, mode, set_field, user
from support.serving import Served

from pytrimode import TriMode


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
    expect(page.locator(".prose")).to_have_text([first, second])
    expect(page.locator(".user .text")).to_have_text(["Hello", "How are you?"])


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
    expect(page.locator("#status")).to_have_text("The answer is complete.")


def test_settings_reach_the_request(page: Page) -> None:
    sent = bodies(page)
    set_field(page, "System prompt", "You are brief.")
    set_field(page, "Temperature", "0.5")
    page.reload()
    ask(page, "Hello")
    (body,) = sent
    assert body["temperature"] == 0.5 and "top_k" not in body
    assert body["messages"] == [{"role": "system", "content": "You are brief."}, user("Hello")]


def test_every_option_of_the_server_can_be_set(page: Page, server: Served) -> None:
    """Under "More": made of the server's own schema, so that none is missing."""
    sent = bodies(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("More: every option").click()
    more = page.locator(".more-fields")
    more.get_by_label("typical_p").fill("0.9")
    more.get_by_label("fused").select_option("true")
    more.get_by_label("reveal").select_option("leftmost")
    more.get_by_label("stop", exact=True).fill("Zebra\\n\nYak")
    more.get_by_label("stop_token_ids").fill("5, 7")
    more.get_by_label("logit_bias").fill('{"9": -1.5')
    names = page.locator("#settings [name]").evaluate_all("all => all.map(one => one.name)")
    assert set(server.get("/props").json()["default_generation_settings"]["params"]) - {
        "mode",
        "lora",
        "logprobs",
    } <= set(names)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("logit_bias: not valid JSON")
    more.get_by_label("logit_bias").fill('{"9": -1.5}')
    page.get_by_role("button", name="Save", exact=True).click()
    set_field(page, "Temperature", "0")  # and what is under "More" stays
    ask(page, "Hello")
    wanted = {
        "typical_p": 0.9,
        "fused": True,
        "reveal": "leftmost",
        "stop": ["Zebra\n", "Yak"],
        "stop_token_ids": [5, 7],
        "logit_bias": {"9": -1.5},
        "temperature": 0,
    }
    assert {name: sent[0].get(name) for name in wanted} == wanted


def test_a_preset_brings_its_settings_back(page: Page) -> None:
    sent = bodies(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("You are brief.")
    page.get_by_label("Top k").fill("5")
    page.get_by_role("button", name="Save as preset").click()
    page.get_by_label("Name of the preset").fill("Brief")
    page.get_by_role("button", name="Save as preset").click()
    page.get_by_role("button", name="Cancel").click()
    page.reload()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Top k")).to_have_value("")
    page.get_by_label("Preset", exact=True).select_option("Brief")
    expect(page.get_by_label("System prompt")).to_have_value("You are brief.")
    page.get_by_role("button", name="Save", exact=True).click()
    ask(page, "Hello")
    assert sent[0]["top_k"] == 5 and sent[0]["messages"][0]["content"] == "You are brief."
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Preset", exact=True).select_option("Brief")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_label("Preset", exact=True).locator("option")).to_have_text(["Preset"])


def test_keys_do_what_the_sheet_says(page: Page) -> None:
    page.get_by_role("radio", name="Auto").wait_for()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet.get_by_text("Search conversations")).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).not_to_be_visible()
    page.keyboard.press("/")
    expect(message_box(page)).to_be_focused()
    page.keyboard.type("?/")
    expect(message_box(page)).to_have_value("?/")
    message_box(page).fill("")
    page.keyboard.press("Alt+3")
    expect(page.get_by_role("radio", name="Diffusion")).to_be_checked()
    page.keyboard.press("Control+k")
    expect(page.get_by_label("Search conversations")).to_be_focused()
    page.keyboard.press("Alt+l")
    expect(page.get_by_role("switch", name="Live view")).not_to_be_checked()
    ask(page, "Hello")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+n")
    expect(page.locator(".message")).to_have_count(0)


def test_the_model_tells_what_it_is(page: Page, server: Served) -> None:
    page.locator("#open-info").click()
    sheet = page.get_by_role("dialog")
    meta = server.get("/v1/models").json()["data"][0]["meta"]
    expect(sheet).to_contain_text(f"{meta['n_params']:,}")
    expect(sheet).to_contain_text("Q8_0")
    expect(sheet).to_contain_text("auto, ar, diffusion, self-spec")
    expect(sheet).to_contain_text("2,048 tokens")


def test_the_meter_shows_how_full_the_context_is(page: Page, server: Served) -> None:
    expect(page.get_by_label("Context used")).to_be_hidden()
    ask(page, "Hello")
    messages = [user("Hello"), {"role": "assistant", "content": page.locator(".prose").inner_text()}]
    asked = {"messages": messages, "continue_final_message": True, "max_tokens": 1}
    tokens = server.post("/v1/chat/completions", asked).json()["usage"]["prompt_tokens"]
    text = page.locator("#context-text").inner_text()
    shown = int(text.split(" / ")[0])
    assert text.endswith(" / 2,048") and abs(shown - tokens) <= 2, (shown, tokens)


def test_the_examples_are_the_models(page: Page, server: Served) -> None:
    prompts = server.get("/props").json()["example_prompts"]
    assert len(prompts) >= 3
    expect(page.locator(".quick")).to_have_text(prompts)
    page.locator(".quick").first.click()
    expect(page.locator(".user .text")).to_have_text(prompts[0])
    page.get_by_role("button", name="Regenerate").wait_for()
