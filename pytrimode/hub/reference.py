"""`OWNER/NAME[:TYPE]`: a model on the hub, as the user writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytrimode.gguf.types import ALIASES

HOSTS = ("hf.co/", "huggingface.co/", "https://hf.co/", "https://huggingface.co/")
_NAME = r"[A-Za-z0-9][\w.-]*"
_REFERENCE = re.compile(rf"(?P<repo>{_NAME}/{_NAME}?)(?::(?P<type>[\w.-]+))?")


@dataclass(frozen=True)
class Reference:
    """A repository and a type of its weights.

    Attributes:
        repo: "OWNER/NAME".
        type: "q4_k_m", None for what is here or fits.
    """

    repo: str
    type: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}:{self.type}" if self.type else self.repo


def canonical(kind: str) -> str:
    """Return a type's name in lower case, an alias as the converter's."""
    return ALIASES.get(kind.lower(), kind.lower())


def on_hub(text: str) -> str:
    """Mark a name as one on the hub, whatever there is on the disk."""
    return text if text.startswith(HOSTS) else HOSTS[0] + text


def reference_of(text: str) -> Reference | None:
    """Return what a user means by a model's name; None where it is a path.

    A path that exists is one, and so is what ends in .gguf. Raises ValueError for what names a host and is no name of a
    repository.
    """
    host = next((host for host in HOSTS if text.startswith(host)), "")
    if not host and (text.endswith(".gguf") or Path(text).expanduser().exists()):
        return None
    match = _REFERENCE.fullmatch(text.removeprefix(host).rstrip("/"))
    if match:
        return Reference(match["repo"], canonical(match["type"]) if match["type"] else None)
    if host:
        raise ValueError(f"{text.removeprefix(HOSTS[0])}: expected OWNER/NAME or OWNER/NAME:TYPE, of the hub")
    return None
