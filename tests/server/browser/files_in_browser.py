"""Pictures and text files that go with a question."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from support.browsing import ENDLESS, ask, bodies, check_access, message_box, opened, set_field
from support.serving import Served, served
from support.vlm import make_vlm

from pytrimode import TriMode
from pytrimode.convert import convert

SIDE = 112


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a random model with vision, which sees pictures of at most SIDE pixels."""
    directory = tmp_path_factory.mktemp("vlm")
    gguf = convert(make_vlm(directory / "vlm", lora_rank=4), directory / "vlm.gguf", "f32", mmproj_type="f32").path
    load = lambda: TriMode(gguf, n_ctx=1024, n_threads=1, image_max_side=SIDE)  # noqa: E731
    with served(load, defaults=ENDLESS, max_body_bytes=32 << 20) as running:
        yield running


@pytest.fixture
def seeing_page(browser: Browser, seeing: Served) -> Iterator[Page]:
    with opened(browser, seeing.url) as tab:
        set_field(tab, "Most tokens", "8")
        yield tab


def drawn(width: int, height: int, kind: str = "PNG", color: str = "#c02020") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, kind)
    return file.getvalue()


def choose(page: Page, *files: tuple[str, str, bytes]) -> None:
    page.get_by_label("Files", exact=True).set_input_files(
        [{"name": n, "mimeType": t, "buffer": b} for n, t, b in files]
    )


def offer(page: Page, event: str, target: str, data: bytes, name: str = "dropped.png", kind: str = "image/png") -> None:
    """A file that is dropped ("drop") or pasted ("paste")."""
    page.evaluate(
        """([event, target, data, name, type]) => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], name, { type }));
          const about = { bubbles: true, cancelable: true };
          const made = event === "paste" ? new ClipboardEvent(event, { ...about, clipboardData: carried })
            : new DragEvent(event, { ...about, dataTransfer: carried });
          document.querySelector(target).dispatchEvent(made);
        }""",
        [event, target, base64.b64encode(data).decode(), name, kind],
    )


def size_of(part: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    head, data = part["image_url"]["url"].split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return head, image.size


def test_pictures_are_chosen_dropped_pasted_and_sent(seeing_page: Page, seeing: Served) -> None:
    page = seeing_page
    sent = bodies(page)
    choose(page, ("a.png", "image/png", drawn(100, 75)), ("b.jpg", "image/jpeg", drawn(60, 60, "JPEG")))
    offer(page, "drop", "#scroller", drawn(56, 28))
    attached = page.get_by_role("list", name="Attached")
    expect(attached.get_by_role("img")).to_have_count(3)
    offer(page, "paste", "#prompt", drawn(28, 56), name="pasted.png")
    expect(attached.get_by_role("img")).to_have_count(4)
    attached.get_by_role("button", name="Remove b.jpg").click()
    expect(attached.get_by_role("img")).to_have_count(3)
    answer = ask(page, "What is this?")
    expect(attached).to_be_hidden()
    parts = sent[0]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "image_url", "text"]
    assert [size_of(part) for part in parts[:3]] == [
        ("data:image/png;base64", size) for size in ((100, 75), (56, 28), (28, 56))
    ]
    assert base64.b64decode(parts[0]["image_url"]["url"].split(",")[1]) == drawn(100, 75), "as it is: it fits"
    same = {**sent[0], "stream": False, "live": False}
    wanted = seeing.post("/v1/chat/completions", same).json()["choices"][0]["message"]["content"]
    assert answer.locator(".prose").inner_text().split() == wanted.split()
    expect(page.locator(".user").get_by_role("img", name="a.png")).to_be_visible()
    page.reload()
    shown = page.locator(".user").get_by_role("img", name="a.png")
    pixel = "c => [...c.getContext('2d').getImageData(5, 5, 1, 1).data]"
    expect(shown.first).to_have_js_property("width", 100)
    assert shown.evaluate(pixel) == [192, 32, 32, 255], "it is drawn"
    shown.click()
    expect(page.get_by_role("dialog", name="Picture").get_by_role("img", name="a.png")).to_be_visible()
    page.keyboard.press("Escape")
    ask(page, "And now?")
    assert [part["type"] for part in sent[-1]["messages"][0]["content"]][:2] == ["image_url"] * 2, (
        "it stays in the talk"
    )


def test_a_large_picture_is_shrunk_to_what_the_model_sees(seeing_page: Page) -> None:
    sent = bodies(seeing_page)
    photo = io.BytesIO()
    upright = Image.Exif()
    upright[0x0112] = 6  # the camera was turned: 400 x 300 pixels are shown as 300 x 400
    Image.new("RGB", (400, 300), "#20c020").save(photo, "JPEG", exif=upright)
    choose(seeing_page, ("photo.jpg", "image/jpeg", photo.getvalue()), ("wide.png", "image/png", drawn(560, 280)))
    expect(seeing_page.get_by_role("list", name="Attached").get_by_role("img")).to_have_count(2)
    ask(seeing_page, "")
    parts = sent[0]["messages"][0]["content"]
    assert [size_of(part) for part in parts] == [
        ("data:image/jpeg;base64", (84, 112)),
        ("data:image/png;base64", (112, 56)),
    ]


def test_what_the_server_would_refuse_is_refused_by_name(seeing_page: Page) -> None:
    page = seeing_page
    toast = page.locator("#toast")
    choose(page, ("no.png", "image/png", b"no picture"))
    expect(toast).to_contain_text("no.png: this browser cannot read that picture")
    choose(page, ("x.pdf", "application/pdf", b"%PDF\xff\xfe"))
    expect(toast).to_contain_text("x.pdf is no text in UTF-8")
    choose(page, ("long.txt", "text/plain", b"x" * (513 << 10)))
    expect(toast).to_contain_text("long.txt has 513 KiB: a text may have at most 512 KiB")
    choose(page, *((f"{i}.png", "image/png", drawn(28, 28)) for i in range(9)))
    expect(toast).to_contain_text("8.png: a conversation may have at most 8 pictures")
    expect(page.get_by_role("list", name="Attached").get_by_role("img")).to_have_count(8)
    title = page.locator("#attach").get_attribute("title") or ""
    assert "8 in a conversation" in title and "112 pixels" in title


def test_a_model_without_vision_is_offered_text_only(page: Page) -> None:
    expect(page.get_by_role("button", name="Attach text files")).to_be_visible()
    choose(page, ("a.png", "image/png", drawn(28, 28)))
    expect(page.locator("#toast")).to_contain_text("a.png is a picture, and this model takes none")
    expect(page.get_by_role("list", name="Attached")).to_be_hidden()


def test_a_text_file_is_part_of_the_question(page: Page) -> None:
    sent = bodies(page)
    choose(page, ("notes.md", "text/markdown", b"# Notes\n```\ncode\n```"))
    message_box(page).fill("What is in it?")
    expect(page.get_by_role("list", name="Attached")).to_contain_text("notes.md")
    ask(page, "What is in it?")
    assert sent[0]["messages"][0]["content"] == "notes.md:\n````md\n# Notes\n```\ncode\n```\n````\n\nWhat is in it?"
    expect(page.locator(".user .text")).to_have_text("What is in it?")
    page.locator(".user").get_by_text("notes.md").click()
    expect(page.locator(".user .file pre")).to_have_text("# Notes\n```\ncode\n```")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Your message").fill("Sum it up")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".versions").first).to_contain_text("2/2")
    assert sent[-1]["messages"][0]["content"].endswith("````\n\nSum it up"), "the file stays with the question"


def test_axe_finds_nothing_with_pictures(browser: Browser, seeing: Served) -> None:
    with opened(browser, seeing.url, viewport={"width": 320, "height": 700}, bypass_csp=True) as page:
        choose(page, ("a.png", "image/png", drawn(100, 75)), ("notes.md", "text/markdown", b"# Notes"))
        expect(page.get_by_role("list", name="Attached").get_by_role("listitem")).to_have_count(2)
        check_access(page)
        page.keyboard.press("Escape")
        set_field(page, "Most tokens", "8")
        ask(page, "What is this?")
        check_access(page)
        page.locator(".user").get_by_role("button", name="a.png").click()
        check_access(page)
