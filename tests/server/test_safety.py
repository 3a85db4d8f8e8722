"""The server is safe by default: keys, hosts, origins, sizes, and what it never tells."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.serving import PATIENCE, Served, error_of, loader, served

from pytrimode import TriMode
from pytrimode.server.logs import JsonFormatter
from pytrimode.server.settings import ServerSettings, is_loopback

COMPLETIONS = "/v1/completions"
KEYS = ("first-key", "second-key")
SHORT = {"prompt": "Hello", "max_tokens": 2}
SECRET = "the-text-of-a-prompt"


@pytest.fixture(scope="module")
def guarded(q8_gguf: Path) -> Iterator[Served]:
    options = {"api_keys": KEYS, "cors_origins": ("https://app.example",), "max_body_bytes": 2000}
    with served(loader(q8_gguf, 512), max_prompt_tokens=20, alias="mine", **options) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_but_health_needs_a_key(guarded: Served) -> None:
    assert guarded.get("/health").status_code == guarded.get("/v1/health").status_code == 200
    paths = [
        path for path in guarded.get("/openapi.json", headers=bearer(KEYS[0])).json()["paths"] if path != "/health"
    ]
    assert COMPLETIONS in paths and "/metrics" in paths
    for path in (*paths, "/openapi.json", "/nothing"):
        for headers in (
            {},
            bearer("wrong"),
            {"Authorization": "Bearer"},
            {"Authorization": KEYS[0]},
            {"X-Api-Key": "wrong"},
        ):
            response = guarded.client.request("GET", path, headers=headers)
            error = response.json()["error"]  # in the form of the route's API: Ollama's is text
            assert response.status_code == 401, path
            assert error == "Invalid API Key" or error["type"] == "authentication_error", path
            assert response.headers["WWW-Authenticate"] == "Bearer"
    for header in (bearer(KEYS[0]), bearer(KEYS[1]), {"X-Api-Key": KEYS[0]}):
        assert guarded.post(COMPLETIONS, SHORT, headers=header).json()["model"] == "mine"


def test_other_origins_are_refused_unless_named(server: Served, guarded: Served) -> None:
    def preflight(to: Served, origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = to.client.request("OPTIONS", COMPLETIONS, headers=headers)
        return response.headers.get("Access-Control-Allow-Origin")

    assert preflight(server, "https://app.example") is None
    assert "Access-Control-Allow-Origin" not in server.get("/health", headers={"Origin": "https://app.example"}).headers
    assert preflight(guarded, "https://app.example") == "https://app.example"
    assert preflight(guarded, "https://other.example") is None


def test_without_a_key_only_this_machines_names_are_served(server: Served) -> None:
    for name in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
        assert server.get("/health", headers={"Host": name}).status_code == 200
    for name in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:80", ""):
        assert error_of(server.get("/health", headers={"Host": name}))["code"] == 403


def test_names_may_be_allowed(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, 256), allowed_hosts=("host.docker.internal",)) as running:
        assert running.get("/health", headers={"Host": "Host.docker.internal:8080"}).status_code == 200
        error = error_of(running.get("/health", headers={"Host": "docker.internal"}))
        assert error["code"] == 403 and "--allowed-hosts" in error["message"]


def test_long_bodies_and_prompts_are_refused(guarded: Served) -> None:
    key = bearer(KEYS[0])
    long = json.dumps({"prompt": "x" * 3000}).encode()
    headers = key | {"Content-Type": "application/json"}
    for content in (long, iter([long[:100], long[100:]])):
        error = error_of(guarded.client.post(COMPLETIONS, content=content, headers=headers))
        assert error["code"] == 413 and "2000 bytes" in error["message"]
    error = error_of(guarded.post(COMPLETIONS, {"prompt": "word " * 50}, headers=key))
    assert error["type"] == "exceed_context_size_error" and "at most 20" in error["message"]
    fits = [1] * 20
    assert guarded.post(COMPLETIONS, {"prompt": fits, "max_tokens": 1}, headers=key).status_code == 200
    assert error_of(guarded.post(COMPLETIONS, {"prompt": [*fits, 1]}, headers=key))["n_prompt_tokens"] == 21


def test_clients_that_read_nothing_before_all_is_sent_are_told_too(server: Served) -> None:
    """They saw the connection break."""
    for body in (b" " * (20 << 20), iter([b" " * (1 << 20)] * 20)):
        connection = HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=PATIENCE)
        with closing(connection):
            connection.request("POST", COMPLETIONS, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 413 and b"the body is longer than 4194304 bytes" in response.read()


def test_failures_tell_clients_nothing_and_logs_no_prompts(q8_gguf: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened: list[TriMode] = []

    def load() -> TriMode:
        opened.append(loader(q8_gguf, 512)())
        return opened[0]

    with caplog.at_level(logging.INFO, "pytrimode.server"), served(load) as running:
        headers = {"X-Request-Id": "given-id.1"}
        ok = running.post(
            COMPLETIONS, {"prompt": SECRET, "max_tokens": 2, "ignore_eos": True, "stop": [SECRET]}, headers=headers
        )
        assert ok.headers["X-Request-Id"] == "given-id.1"
        bad = running.post(COMPLETIONS, {"prompt": SECRET, "temperature": -1}, headers={"X-Request-Id": "no id;" * 9})
        running.post(f"/{SECRET}?{SECRET}", {})
        running.post("/v1/chat/completions", {"messages": [{"role": SECRET, "content": SECRET}]})
        opened[0].close()
        for stream in (False, True):
            failed = error_of(running.post(COMPLETIONS, {"prompt": SECRET, "stream": stream}))
            assert failed["code"] == 500 and failed["type"] == "server_error"
            assert "closed" not in failed["message"], "the exception's text is not for clients"
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records if "server" in record.name]
    requests = {line["request_id"]: line for line in lines if line["message"] == "request"}
    assert requests["given-id.1"]["completion_tokens"] == 2 and requests["given-id.1"]["route"] == COMPLETIONS
    assert requests[bad.headers["X-Request-Id"]]["status"] == 400
    failures = [line for line in lines if line["message"] == "an answer failed"]
    assert len(failures) == 2 and failures[0]["detail"] == "this TriMode is closed" and failures[0]["frames"]
    assert SECRET not in json.dumps(lines)


def test_settings_that_make_no_server_are_refused() -> None:
    for wrong in (
        {"max_body_bytes": 0},
        {"timeout": 0},
        {"api_keys": ("",)},
        {"api_keys": ("schlüssel",)},
        {"max_prompt_tokens": 0},
        {"max_choices": 0},
    ):
        with pytest.raises(ValueError, match=str(next(iter(wrong))).removesuffix("s").replace("api_key", "API key")):
            ServerSettings(**wrong)  # type: ignore[arg-type]


def test_only_loopback_is_closed_to_others() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert is_loopback(host) and not ServerSettings(host=host).open_to_others
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"):
        assert ServerSettings(host=host).open_to_others
        assert not ServerSettings(host=host, api_keys=("k",)).open_to_others
