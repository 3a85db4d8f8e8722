"""Nothing that was written is lost: branches, taking back, search, names, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect
from support.browsing import ask, bodies, expected_text, menu, user

from pytrimode import TriMode


def titles(page: Page) -> Any:
    return page.locator("#conversations .title")


def two_conversations(page: Page) -> None:
    ask(page, "Hello")
    page.get_by_role("button", name="New conversation").first.click()
    expect(page.locator(".message")).to_have_count(0)
    ask(page, "How are you?")


def test_several_conversations(page: Page) -> None:
    two_conversations(page)
    expect(titles(page)).to_have_text(["How are you?", "Hello"])
    titles(page).nth(1).click()
    expect(page.locator(".user .text")).to_have_text("Hello")
    page.reload()
    expect(titles(page)).to_have_text(["How are you?", "Hello"])


def test_a_deleted_conversation_can_be_taken_back(page: Page) -> None:
    two_conversations(page)
    menu(page, "Hello", "Delete")
    expect(titles(page)).to_have_text(["How are you?"])
    page.get_by_role("button", name="Undo").click()
    expect(titles(page)).to_have_text(["How are you?", "Hello"])
    expect(page.locator(".user .text")).to_have_text("Hello")
    page.reload()
    expect(titles(page)).to_have_text(["How are you?", "Hello"])
    menu(page, "Hello", "Delete")
    expect(titles(page)).to_have_text(["How are you?"])
    page.reload()
    expect(titles(page)).to_have_text(["How are you?"])


def test_an_edited_question_is_a_branch(page: Page, model: TriMode) -> None:
    sent = bodies(page)
    ask(page, "Hello")
    ask(page, "How are you?")
    page.locator(".user").first.get_by_role("button", name="Edit").click()
    page.get_by_label("Your message").fill("What can you do?")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".user .text")).to_have_text(["What can you do?"])
    second = expected_text(model, [user("What can you do?")])
    expect(page.locator(".prose")).to_have_text([second])
    versions = page.locator(".user .versions")
    expect(versions).to_contain_text("2/2")
    versions.get_by_role("button", name="Previous version").click()
    expect(page.locator(".user .text")).to_have_text(["Hello", "How are you?"])
    page.reload()
    expect(page.locator(".user .text")).to_have_text(["Hello", "How are you?"])
    ask(page, "Bye")
    assert [m["content"] for m in sent[-1]["messages"] if m["role"] == "user"] == ["Hello", "How are you?", "Bye"]
    page.locator(".user").first.get_by_role("button", name="Next version").click()
    expect(page.locator(".prose")).to_have_text([second])


def test_another_answer_is_a_branch(page: Page) -> None:
    ask(page, "Hello")
    page.get_by_role("button", name="Regenerate").click()
    versions = page.locator(".assistant .versions")
    expect(versions).to_contain_text("2/2")
    page.get_by_role("button", name="Regenerate").click()
    expect(versions).to_contain_text("3/3")
    expect(versions.get_by_role("button", name="Next version")).to_be_disabled()
    versions.get_by_role("button", name="Previous version").click()
    expect(versions).to_contain_text("2/3")


def test_conversations_are_found_named_and_pinned(page: Page) -> None:
    two_conversations(page)
    search = page.get_by_label("Search conversations")
    search.fill("trimode spell")  # words of the first answer
    expect(titles(page)).to_have_text(["Hello"])
    search.fill("zebra")
    expect(page.get_by_text("Nothing is found.")).to_be_visible()
    search.press("Escape")
    menu(page, "Hello", "Rename")
    page.get_by_label("Title").fill("Greetings")
    page.keyboard.press("Enter")
    menu(page, "Greetings", "Pin")
    expect(titles(page)).to_have_text(["Greetings", "How are you?"])
    page.reload()
    expect(titles(page)).to_have_text(["Greetings", "How are you?"])
    expect(page.get_by_role("img", name="pinned")).to_be_visible()


def test_two_tabs_do_not_overwrite_each_other(page: Page) -> None:
    ask(page, "Hello")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="New conversation").first.click()
    ask(other, "How are you?")
    ask(page, "What can you do?")
    page.reload()
    expect(titles(page)).to_have_text(["Hello", "How are you?"])
    expect(page.locator(".user .text")).to_have_text(["Hello", "What can you do?"])


def test_a_tab_shows_what_another_has_done(page: Page) -> None:
    ask(page, "Hello")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".user .text")).to_have_text("Hello")
    ask(other, "How are you?")
    expect(page.locator(".user .text")).to_have_text(["Hello", "How are you?"])
    ask(page, "What can you do?")
    expect(other.locator(".user .text")).to_have_text(["Hello", "How are you?", "What can you do?"])
    menu(other, "Hello", "Delete")
    expect(titles(page)).to_have_text(["New conversation"])


def test_what_is_exported_can_be_imported(page: Page, tmp_path: Path) -> None:
    ask(page, "Hello")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".versions")).to_contain_text("2/2")
    page.get_by_role("button", name="Export and import").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export all").click()
    file = tmp_path / "conversations.json"
    download.value.save_as(file)
    answer = page.locator(".prose").inner_text()
    menu(page, "Hello", "Delete")
    page.get_by_label("Import conversations").set_input_files(file)
    expect(page.locator("#toast")).to_contain_text("1 conversation imported.")
    titles(page).filter(has_text="Hello").click()
    expect(page.locator(".prose")).to_have_text(answer)
    expect(page.locator(".versions")).to_contain_text("2/2")
    with page.expect_download() as download:
        menu(page, "Hello", "Export as Markdown")
    download.value.save_as(tmp_path / "one.md")
    assert (tmp_path / "one.md").read_text() == f"# Hello\n\n## You\n\nHello\n\n## Answer\n\n{answer}\n"


def test_a_file_that_is_none_of_ours_is_refused_by_name(page: Page, tmp_path: Path) -> None:
    hostile = {"id": 1, "messages": [{"role": "assistant", "content": "x", "parent": 0}], "leaf": 0}  # a circle
    cases = {
        "broken.json": ("{", "broken.json is not JSON"),
        "other.json": ("[]", 'other.json has no conversations of this page: "format" must be'),
        "circle.json": (
            json.dumps({"format": "pytrimode.conversations", "conversations": [hostile]}),
            "circle.json: conversation 1 is damaged; nothing was imported",
        ),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        page.get_by_label("Import conversations").set_input_files(tmp_path / name)
        expect(page.locator("#toast")).to_contain_text(message)


def test_what_a_file_says_beyond_a_conversation_is_left_out(page: Page, tmp_path: Path) -> None:
    images = [{"name": "x", "data": "https://example.com/x.png"}]
    message = {"role": "assistant", "content": "An answer", "parent": 0, "images": images, "passes": [1]}
    message["timings"] = {"predicted_n": "<b>"}
    one = {"id": "a", "messages": [{"role": "user", "content": "x", "parent": None}, message], "leaf": 1}
    file = tmp_path / "file.json"
    file.write_text(json.dumps({"format": "pytrimode.conversations", "conversations": [one]}))
    page.get_by_label("Import conversations").set_input_files(file)
    titles(page).filter(has_text="x").click()
    expect(page.locator(".prose")).to_have_text("An answer")
    expect(page.locator(".stats")).to_have_text("")
