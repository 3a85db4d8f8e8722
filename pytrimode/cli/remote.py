"""A conversation with a running server: OpenAI's API, with pytrimode's fields where the server knows them."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import httpx

from pytrimode.cli.chat_options import chat_options
from pytrimode.cli.conversation import Part, check_mode_name
from pytrimode.cli.remote_stream import parts_of
from pytrimode.options.modes import ALIASES, AUTO
from pytrimode.options.option import Row
from pytrimode.vision.picture import open_picture

LOADING_SECONDS = 600.0
"""How long a server may load its model before the chat begins."""
_POLL_SECONDS = 0.3
_TIMEOUT = httpx.Timeout(None, connect=30.0)
"""An answer may take as long as it takes: Ctrl-C ends it."""
_LAST_PORT = 65535
_LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that no proxy of the environment is asked for."""


class RemoteConversation:
    """`fields` go into every request; what they leave out is the server's default.

    Raises ValueError for an address that is none, OSError when nobody answers there.
    """

    def __init__(
        self, url: str, fields: Mapping[str, Any], *, system: str | None = None, api_key: str | None = None
    ) -> None:
        address = _address(url)
        self._host = address.netloc.decode()
        self._client = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=_TIMEOUT,
            trust_env=address.host not in _LOCAL,
        )
        self._fields = dict(fields)
        self._system = system
        self._turns: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self.dropped_turns = 0
        self._props = self._ask_props()

    @property
    def about(self) -> str:
        """See Conversation."""
        n_ctx = self._props["default_generation_settings"]["n_ctx"]
        return f"{self._props['model_alias']} at {self._host}: mode {self.mode}, context {n_ctx}"

    @property
    def mode(self) -> str:
        """See Conversation."""
        params = self._props["default_generation_settings"].get("params", {})
        name = str(self._fields.get("mode") or params.get("mode") or AUTO)
        return ALIASES.get(name, name)

    @property
    def max_tokens(self) -> int | None:
        """See Conversation."""
        return self._fields.get("max_tokens")

    @property
    def n_turns(self) -> int:
        """See Conversation."""
        return sum(turn["role"] == "user" for turn in self._turns)

    def set_mode(self, name: str) -> None:
        """See Conversation."""
        check_mode_name(name)
        mode = ALIASES.get(name, name)
        modes = self._props.get("modes", [])
        if mode not in modes:
            raise ValueError(f"mode {mode}: this server has {', '.join(modes)}")
        self._fields["mode"] = mode

    def set_system(self, text: str | None) -> None:
        """See Conversation."""
        self._system = text
        self.reset()

    def reset(self) -> None:
        """See Conversation."""
        self._turns.clear()

    @property
    def last_answer(self) -> str:
        """See Conversation."""
        return next((str(turn["content"]) for turn in reversed(self._turns) if turn["role"] == "assistant"), "")

    @property
    def settings(self) -> dict[str, Any]:
        """See Conversation; None: the server's."""
        return {name: self._fields.get(row.http) for name, row in chat_options().items()}

    def set_option(self, row: Row, value: Any) -> None:
        """See Conversation."""
        if value is None or value is row.default:
            self._fields.pop(row.http, None)
        else:
            self._fields[row.http] = value

    def set_thinking(self, wanted: bool) -> None:
        """See Conversation."""
        self._fields["chat_template_kwargs"] = {"enable_thinking": wanted}

    def undo(self) -> str:
        """See Conversation."""
        begins = [i for i, turn in enumerate(self._turns) if turn["role"] == "user"]
        if not begins:
            raise ValueError("there is no turn yet")
        content = self._turns[begins[-1]]["content"]
        del self._turns[begins[-1] :]
        if isinstance(content, str):
            return content
        self._images = content[:-1]
        return str(content[-1]["text"])

    def keep(self, path: str) -> None:
        """Do nothing: see `save`."""

    def save(self, path: str) -> str:
        """Only a model in this process can keep its cache."""
        raise ValueError("/save keeps the cache of a model in this process: it does not work with --url")

    def load(self, path: str) -> str:
        """See `save`."""
        raise ValueError("/load restores the cache of a model in this process: it does not work with --url")

    def add_image(self, path: str) -> str:
        """See Conversation."""
        if not self._props.get("modalities", {}).get("vision"):
            raise ValueError("this server's model takes no images: it was loaded without a vision tower")
        picture = open_picture(path)
        self._images.append({"type": "image_url", "image_url": {"url": picture.data_uri()}})
        return f"{path}: {picture.width} x {picture.height}; goes with the next turn"

    def send(self, text: str) -> Generator[Part, None, None]:
        """See Conversation; when the server says that the context is full, the oldest turns are left out."""
        content: Any = [*self._images, {"type": "text", "text": text}] if self._images else text
        user = {"role": "user", "content": content}
        begins = [i for i, turn in enumerate(self._turns) if turn["role"] == "user"] + [len(self._turns)]
        for self.dropped_turns, begin in enumerate(begins):
            response = self._post([*self._turns[begin:], user])
            if response.is_success:
                self._images = []
                return self._answer(user, begin, response)
            error = _error_of(response)
            if error.get("type") != "exceed_context_size_error" or begin == len(self._turns):
                raise ValueError(error["message"])
        raise AssertionError("begins is never empty")

    def _answer(self, user: dict[str, Any], kept_from: int, response: httpx.Response) -> Generator[Part, None, None]:
        answer = ""
        try:
            for part in parts_of(response):
                answer += part.text
                yield part
        finally:
            response.close()
            if answer:
                del self._turns[:kept_from]
                self._turns += [user, {"role": "assistant", "content": answer}]

    def _post(self, turns: list[dict[str, Any]]) -> httpx.Response:
        head = [{"role": "system", "content": self._system}] if self._system else []
        # Reasoning is shown as the model writes it, as with a model in this process.
        own = {"stream": True, "live": True, "reasoning_format": "none"}
        body = {"messages": head + turns, **self._fields, **own}
        return self._send(self._client.build_request("POST", "v1/chat/completions", json=body))

    def _ask_props(self) -> dict[str, Any]:
        """Return what the server has, once its model is loaded."""
        give_up = time.monotonic() + LOADING_SECONDS
        while True:
            with closing(self._send(self._client.build_request("GET", "props"))) as response:
                if response.is_success:
                    return self._props_of(response)
                error = _error_of(response)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > give_up:
                unknown = response.status_code == httpx.codes.UNAUTHORIZED
                hint = " (--api-key, or the variable PYTRIMODE_API_KEY)" if unknown else ""
                raise ValueError(f"{self._host}: {error['message']}{hint}")
            time.sleep(_POLL_SECONDS)

    def _props_of(self, response: httpx.Response) -> dict[str, Any]:
        try:
            props: dict[str, Any] = json.loads(response.read())
            props["default_generation_settings"]["n_ctx"], props["model_alias"]
        except (ValueError, KeyError, TypeError, httpx.HTTPError):
            raise ValueError(f"{self._host}: /props is not that of pytrimode or llama-server") from None
        return props

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise OSError(f"no server answers at {self._host}: {error}") from error


def _address(url: str) -> httpx.URL:
    """Return where a server's routes begin: with or without the scheme, and with or without /v1."""
    try:
        address = httpx.URL(url if "//" in url else f"http://{url}")
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host or (address.port or 0) > _LAST_PORT:
        raise ValueError(f"{url}: no address of a server: http://HOST:PORT is needed")
    return address.copy_with(path=address.path.rstrip("/").removesuffix("/v1") + "/")


def _error_of(response: httpx.Response) -> dict[str, Any]:
    """Return what a refusal says, read to its end."""
    try:
        with closing(response):
            error = json.loads(response.read())["error"]
        return {"message": str(error["message"]), "type": error.get("type")}
    except (ValueError, KeyError, TypeError, AttributeError, httpx.HTTPError):
        return {"message": f"the server answered {response.status_code} {response.reason_phrase}"}
