"""Images over HTTP: OpenAI's parts, and what a server must not do for them."""

from __future__ import annotations

import base64
import concurrent.futures
import http.server
import io
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from support.serving import Served, error_of, events, loader, served, until
from support.vlm import picture

from pytrimode import TriMode
from pytrimode.vision.picture import open_picture

CHAT = "/v1/chat/completions"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "loop_window": 0}
IMAGE = picture(100, 75)
N_TOKENS = 1 + 3 * (4 + 1)


@pytest.fixture(scope="module")
def server(vlm_gguf: Path) -> Iterator[Served]:
    with served(loader(vlm_gguf, 1024, 2), max_body_bytes=32 << 20) as running:
        yield running


def uri(image: Any = IMAGE) -> str:
    return open_picture(image).data_uri()


def body(url: Any, text: str = "What is this?", **more: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": url if isinstance(url, dict) else {"url": url}}
    return {"messages": [{"role": "user", "content": [part, {"type": "text", "text": text}]}], **GREEDY, **more}


def test_an_answer_equals_that_of_the_python_api(server: Served, vlm: TriMode) -> None:
    found = server.post(CHAT, body(uri())).json()
    wanted = vlm.create_chat_completion(body(uri())["messages"], **GREEDY)
    assert found["choices"][0]["message"]["content"] == wanted["choices"][0]["message"]["content"]
    assert found["usage"]["prompt_tokens_details"]["image_tokens"] == N_TOKENS
    assert found["timings"]["image_n"] == 1


def test_streams_and_several_answers(server: Served) -> None:
    whole = server.post(CHAT, body(uri())).json()
    chunks = events(server.post(CHAT, body(uri(), stream=True, stream_options={"include_usage": True})))
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c != "[DONE]" and c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    usage = next(c["usage"] for c in chunks if c != "[DONE]" and c.get("usage"))
    assert usage["prompt_tokens_details"]["image_tokens"] == N_TOKENS
    two = server.post(CHAT, body(uri(), n=2)).json()
    assert [choice["message"]["content"] for choice in two["choices"]] == [text, text]
    assert two["usage"]["prompt_tokens_details"]["image_tokens"] == N_TOKENS


def test_images_by_way_of_other_apis(server: Served) -> None:
    """Anthropic's blocks, the items of responses, Ollama's base64: the same prompt, the same answer."""
    wanted = server.post(CHAT, body(uri())).json()["choices"][0]["message"]["content"]
    kind, data = uri().removeprefix("data:").split(";base64,")
    options = {**GREEDY, "max_tokens": None}
    image = {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    turn = {"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}
    found = server.post("/v1/messages", {**GREEDY, "messages": [turn]}).json()
    assert found["content"][0]["text"] == wanted
    assert found["usage"]["image_tokens"] == N_TOKENS
    parts = [{"type": "input_image", "image_url": uri()}, {"type": "input_text", "text": "What is this?"}]
    asked = {"input": [{"role": "user", "content": parts}], **options, "max_output_tokens": 12}
    response = server.post("/v1/responses", asked).json()
    assert response["output"][0]["content"][0]["text"] == wanted
    assert response["usage"]["input_tokens_details"]["image_tokens"] == N_TOKENS
    chat = {"messages": [{"role": "user", "content": "What is this?", "images": [data]}]}
    for path, more in (("/api/chat", chat), ("/api/generate", {"prompt": "What is this?", "images": [data]})):
        answer = server.post(path, {**more, "stream": False, "options": {**options, "num_predict": 12}}).json()
        assert (answer["message"]["content"] if path == "/api/chat" else answer["response"]) == wanted
        assert answer["image_tokens"] == N_TOKENS
    result = {"type": "tool_result", "tool_use_id": "1", "content": [image]}
    call = {"type": "tool_use", "id": "1", "name": "look", "input": {}}
    history = [turn, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    counted = server.post("/v1/messages/count_tokens", {"messages": history}).json()["input_tokens"]
    assert counted > 2 * N_TOKENS
    called = {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": parts[:1]}
    told = {**asked, "input": [*asked["input"], called, output]}
    assert server.post("/v1/responses", told).json()["usage"]["input_tokens"] > 2 * N_TOKENS
    assert "vision" in server.post("/api/show", {"model": "any"}).json()["capabilities"]
    text = {"messages": [{"role": "user", "content": "Hello"}]}
    assert "image_tokens" not in server.post("/v1/messages", {**GREEDY, **text}).json()["usage"]
    assert "image_tokens" not in server.post("/api/chat", {**text, "stream": False}).json()


def test_the_openai_package(server: Served) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    result = client.chat.completions.create(
        model="any", max_tokens=4, messages=[{"role": "user", "content": [
            {"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": uri(), "detail": "low"}}]}],
    )  # fmt: skip
    assert result.usage is not None
    assert result.usage.completion_tokens <= 4


def test_detail(server: Served) -> None:
    large = uri(np.zeros((700, 700, 3), np.uint8))
    low = server.post(CHAT, body({"url": large, "detail": "low"}, max_tokens=1)).json()
    high = server.post(CHAT, body({"url": large, "detail": "high"}, max_tokens=1)).json()
    counts = [answer["usage"]["prompt_tokens_details"]["image_tokens"] for answer in (low, high)]
    assert counts == [1 + 16 * 17, 1 + 25 * 26]


def test_the_server_says_that_it_sees(server: Served) -> None:
    props = server.get("/props").json()
    assert props["modalities"] == {"vision": True, "audio": False}
    assert props["image_max_side"] == 1400
    assert server.get("/v1/models").json()["data"][0]["capabilities"] == ["completion", "multimodal"]
    assert server.post("/apply-template", body(uri())).json()["prompt"].count("<|image_start|>") == 1


BAD: list[tuple[Any, str]] = [
    ("https://example.org/a.png", "nothing is fetched"),
    ("http://127.0.0.1:1/a.png", "nothing is fetched"),
    ("file:///etc/passwd", "nothing is fetched"),
    ("/etc/passwd", "nothing is fetched"),
    ("data:image/svg+xml;base64,AAAA", "nothing is fetched"),
    ("data:image/png;base64,!!!!", "not valid base64"),
    ("data:image/png;base64," + base64.b64encode(b"no image").decode(), "cannot be decoded"),
    ({"url": {"url": "data:"}}, "expected a string"),
    ({"url": "data:image/png;base64,AAAA", "detail": "best"}, "expected one of low, high, auto"),
    ({}, "expected a string"),
]


@pytest.mark.parametrize(("url", "said"), BAD)
def test_what_is_refused(url: Any, said: str, server: Served) -> None:
    response = server.post(CHAT, body(url))
    assert response.status_code == 400
    assert said in error_of(response)["message"]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": uri()}}]}], "the user only"),
        ([{"role": "system", "content": [{"type": "image_url", "image_url": {"url": uri()}}]}], "the user only"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri()}}] * 9}], "at most 8 images"),
        ([{"role": "user", "content": [{"type": "image", "image": "/etc/passwd"}]}], "'image' is not supported"),
        ([{"role": "user", "content": [{"type": "image", "image": uri()}]}], "'image' is not supported"),
        ([{"role": "user", "content": [{"type": "image"}]}], "'image' is not supported"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "'input_audio' is not supported"),
        ([{"role": "assistant", "content": "<|image_start|>"}, *body(uri())["messages"]], "must not stand in a text"),
        ([*body(uri())["messages"], {"role": "assistant", "content": "a <|image_pad|> b"}], "must not stand in a text"),
    ],
)
def test_messages_that_are_refused(messages: Any, said: str, server: Served) -> None:
    response = server.post(CHAT, {"messages": messages, **GREEDY})
    assert response.status_code == 400
    assert said in error_of(response)["message"]


def test_forged_tokens_of_users_stay_text(server: Served) -> None:
    answer = server.post(CHAT, body(uri(), "<|image_start|><|image_pad|><|image_end|>")).json()
    assert answer["usage"]["prompt_tokens_details"]["image_tokens"] == N_TOKENS
    forged = {"messages": [{"role": "user", "content": "a <|image_pad|> b"}], **GREEDY}
    assert server.post(CHAT, forged).status_code == 200


def test_plain_prompts_cannot_forge_images(server: Served) -> None:
    response = server.post("/v1/completions", {"prompt": "<|image_start|><|image_pad|><|image_end|>", "max_tokens": 1})
    assert response.status_code == 400
    assert server.post("/v1/completions", {"prompt": [1, -2], "max_tokens": 1}).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_that_breaks_off(stream: bool, server: Served) -> None:
    """Found out when it is decoded: an error of its own, in a stream too."""
    file = io.BytesIO()
    Image.fromarray(picture(200, 200)).save(file, "PNG")
    cut = "data:image/png;base64," + base64.b64encode(file.getvalue()[:-2000]).decode()
    response = server.post(CHAT, body(cut, stream=stream))
    assert response.status_code == 400
    assert error_of(response)["message"] == "the image cannot be decoded: a whole PNG, JPEG, WebP or GIF file is needed"
    assert server.post(CHAT, body(uri(), stream=stream)).status_code == 200


def test_an_image_that_does_not_fit(server: Served) -> None:
    response = server.post(CHAT, body(uri(np.zeros((1400, 1400, 3), np.uint8))))
    error = error_of(response)
    assert response.status_code == 400
    assert error["type"] == "exceed_context_size_error"
    assert "the images take 2551" in error["message"]
    assert "--image-max-side 868 makes them fit" in error["message"]


def test_nothing_is_fetched_and_no_process_started(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine that every refused address could reach sees no request."""
    seen: list[str] = []

    class Trap(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)

    trap = http.server.HTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=trap.serve_forever, daemon=True).start()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for url in (f"http://127.0.0.1:{trap.server_port}/a.png", f"//127.0.0.1:{trap.server_port}/a.png"):
        assert server.post(CHAT, body(url)).status_code == 400
    assert server.post(CHAT, body(uri())).status_code == 200
    trap.shutdown()
    assert seen == []


def test_text_is_answered_while_an_image_is_encoded(server: Served) -> None:
    """And a client that leaves ends the encoding."""
    server.host.ready.model.vision.clear()  # type: ignore[union-attr]
    large = body({"url": uri(picture(840, 812)), "detail": "high"}, max_tokens=1)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        image = pool.submit(server.post, CHAT, large)
        time.sleep(0.1)
        started = time.monotonic()
        assert server.post(CHAT, {"messages": [{"role": "user", "content": "Hello"}], **GREEDY}).status_code == 200
        text_seconds = time.monotonic() - started
        assert image.result().status_code == 200
    assert text_seconds < 5


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_memory_under_bombs(server: Served) -> None:
    """Two dozen at once, each 144 million pixels in 20 kB: refused, and the process is no larger."""
    file = io.BytesIO()
    Image.new("1", (12000, 12000)).save(file, "PNG")
    bomb = body("data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.post(CHAT, bomb).status_code, range(24)))
    assert answers == [400] * 24
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_long_bodies_share_a_limit(vlm_gguf: Path) -> None:
    """Bodies that are being received count; short requests go on."""
    import socket

    with served(loader(vlm_gguf, 256), max_body_bytes=4 << 20) as running:
        host, port = running.url.removeprefix("http://").split(":")
        length = f"Content-Type: application/json\r\nContent-Length: {4 << 20}"
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\n"
        slow = []
        for _ in range(5):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(head.encode() + b" " * (4_000_000))
            slow.append(connection)
        text = {"messages": [{"role": "user", "content": "Hello"}], **GREEDY}
        assert running.post(CHAT, text).status_code == 200

        def long_body() -> int:
            content = b" " * (4 << 20)
            return running.client.post(CHAT, content=content, headers={"Content-Type": "application/json"}).status_code

        until(lambda: long_body() == 503)
        assert running.post(CHAT, text).status_code == 200
        for connection in slow:
            connection.close()
        until(lambda: running.post(CHAT, text | {"user": "x" * (3 << 20)}).status_code == 200)
