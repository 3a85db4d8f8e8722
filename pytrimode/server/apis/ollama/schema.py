"""The bodies of `/api/chat`, `/api/generate` and `/api/show`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from pytrimode.server.apis.field_table import FieldTable
from pytrimode.server.schema import Body, NTop

_COMMON = {
    "options": "below",
    "format": '"json" or a schema, as `response_format`',
    "think": "`enable_thinking`; a level is `reasoning_effort`",
    "logprobs": "",
    "top_logprobs": "",
    "stream": "true unless it is false",
    "keep_alive": "0 without a prompt is answered as unloading; the model stays",
}
_IDLE = ("model", "truncate", "shift")

FIELDS = FieldTable(
    kept={
        "messages": "with `images` in base64, `thinking`, `tool_calls`, `tool_name`; a last one of the assistant is "
        "continued; none: answered as loading",
        "tools": "functions",
        **_COMMON,
    },
    idle=_IDLE,
    refused={},
    options=(),
)
GENERATE_FIELDS = FieldTable(
    kept={
        "prompt": "a message of the user; with `raw` or a `suffix` a text that is continued",
        "suffix": "the text behind a gap of `num_predict` (128) tokens; long texts are cut as by `/infill`",
        "system": "a message in front",
        "images": "of the user's message",
        "raw": "no chat template",
        **_COMMON,
    },
    idle=_IDLE,
    refused={"context": ([],), "template": ("",), "width": (0,), "height": (0,), "steps": (0,)},
    options=(),
)
OPTION_FIELDS = FieldTable(
    kept={"num_predict": "`max_tokens`; -1 and -2: to the end of the context"},
    idle=(
        "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "numa", "low_vram", "f16_kv",
        "logits_all", "vocab_only", "use_mmap", "use_mlock", "embedding_only", "mirostat_tau", "mirostat_eta",
        "penalize_newline",
    ),
    refused={"mirostat": (0,), "tfs_z": (1, 1.0)},
)  # fmt: skip
"""Those of `options`, beside ours; what the server was started with holds."""


class _Request(Body):
    fields: ClassVar[FieldTable]

    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    stream: bool | None = None
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: NTop | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, body: Any) -> Any:
        return cls.fields.checked(body) if isinstance(body, dict) else body

    @property
    def unloads(self) -> bool:
        """Whether a request without a prompt wants the model to go."""
        return self.keep_alive in (0, "0", "0s", "0m")


class OllamaChatRequest(_Request):
    """`POST /api/chat`."""

    fields = FIELDS

    messages: list[dict[str, Any]] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None


class GenerateRequest(_Request):
    """`POST /api/generate`."""

    fields = GENERATE_FIELDS

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None


class ShowRequest(Body):
    """`POST /api/show`; the server has one model, whatever name is asked for."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
