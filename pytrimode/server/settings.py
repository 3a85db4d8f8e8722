"""What a server (`pytrimode.server`) is told when it starts. Needs none of its packages, so that `--help` works."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from pytrimode.formats.reasoning import REASONING_DEEPSEEK, check_reasoning_format
from pytrimode.options.generation_options import GenerationOptions

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
"""llama-server's."""

PER_KEY, SHARED = "key", "shared"
CACHE_SCOPES = {PER_KEY: "requests with the same API key", SHARED: "all requests"}
"""Who shares what the cache holds."""

DEFAULT_MAX_QUEUE = 32
"""Answers that may wait for a slot."""
VISION_BODY_BYTES = 32 << 20
"""Of a model with vision: the largest picture, in base64."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. A name other than localhost may be anything: False."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServerSettings:
    """Addresses, keys and limits; times in seconds.

    Raises ValueError for values that make no server.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """0: a free one."""
    alias: str | None = None
    """The model's name in answers; None: the file's name without its suffix."""
    api_keys: tuple[str, ...] = ()
    """Any of them opens every route; none: no key is asked for."""
    cache_scope: str = PER_KEY
    """One of CACHE_SCOPES. How fast a prompt is read, and `cached_tokens`, tell whether somebody else's began alike."""
    allowed_hosts: tuple[str, ...] = ()
    """Names beside those of this machine that the Host header may have where no key is asked for."""
    cors_origins: tuple[str, ...] = ()
    """Web origins that may call the server from a browser; empty: none but its own."""
    slot_save_path: Path | None = None
    """Folder of the files that clients may save slots to and restore them from; None: they may not."""
    max_choices: int = 16
    """Answers that one request may ask for (`n` times the number of prompts)."""
    max_body_bytes: int = 4 << 20
    max_prompt_tokens: int | None = None
    """None: what the context holds."""
    timeout: float = 600.0
    """From the request to the end of its answer, the wait for a slot included."""
    write_timeout: float = 30.0
    """How long a client may take no data before it is given up."""
    shutdown_timeout: float = 10.0
    """How long answers may go on after the signal to stop; then their streams are ended."""
    defaults: GenerationOptions = field(default_factory=GenerationOptions)
    """What a request gets that does not say otherwise."""
    enable_thinking: bool = False
    reasoning_format: str = REASONING_DEEPSEEK
    """Of requests that name none; see `pytrimode.formats.reasoning`."""
    log_format: str = "json"
    """One of `pytrimode.server.logs.FORMATS`."""
    log_level: str = "info"
    log_file: Path | None = None
    """None: stderr."""

    def __post_init__(self) -> None:
        check_reasoning_format(self.reasoning_format)
        for name, least in (
            ("max_choices", 1),
            ("max_body_bytes", 1),
            ("port", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)}: must be at least {least}")
        if self.cache_scope not in CACHE_SCOPES:
            raise ValueError(f"cache_scope {self.cache_scope!r}: use one of {', '.join(CACHE_SCOPES)}")
        if self.slot_save_path is not None:
            if not self.slot_save_path.is_dir():
                raise ValueError(f"slot_save_path {self.slot_save_path}: there is no such folder")
            if self.api_keys and self.cache_scope != SHARED:
                raise ValueError(
                    "slot_save_path: saved slots belong to no API key: where there are keys it needs cache_scope shared"
                )
        for name in ("timeout", "write_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)}: must be more than 0")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise ValueError(f"max_prompt_tokens {self.max_prompt_tokens}: must be at least 1")
        if not all(key and key.isascii() and key.isprintable() and " " not in key for key in self.api_keys):
            raise ValueError("an API key must be ASCII characters without spaces, at least one")

    @property
    def open_to_others(self) -> bool:
        """Whether other machines may reach the server without a key."""
        return not self.api_keys and not is_loopback(self.host)
