"""What becomes of every field that OpenAI, llama-server, vLLM or llama-cpp-python define and `schema` has not.

A field is mapped to one of ours, has no effect on an answer, or is refused by name unless it asks for nothing. Names
that nobody defines are refused too: a misspelt option must not be dropped.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


class FieldError(Exception):
    """A field that cannot be kept. It passes through pydantic as it is, which a ValueError does not."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


OPENAI, LLAMA, VLLM, PYTHON = "OpenAI", "llama-server", "vLLM", "llama-cpp-python"


@dataclass(frozen=True)
class Mapped:
    """A field that is another word for one of ours. `to`: what docs/server.md says of it."""

    whose: str
    to: str
    apply: Callable[[Body, Any], None]


@dataclass(frozen=True)
class Refused:
    """A field that would change the answer and cannot be kept. `idle`: values that ask for nothing."""

    whose: str
    idle: tuple[Any, ...] = ()


def _renamed(name: str) -> Callable[[Body, Any], None]:
    def apply(body: Body, value: Any) -> None:
        if body.get(name) is None:
            body[name] = value

    return apply


def _instead(name: str) -> Callable[[Body, Any], None]:
    def apply(body: Body, value: Any) -> None:
        body[name] = value

    return apply


def _constraint(kind: str) -> Callable[[Body, Any], None]:
    def apply(body: Body, value: Any) -> None:
        body["constraint"] = {**(body.get("constraint") or {}), kind: value}

    return apply


def _json_schema(body: Body, value: Any) -> None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise FieldError("the JSON schema is text that is not JSON", param="guided_json") from None
    _constraint("json")(body, value)


_STRUCTURES: dict[str, Callable[[Body, Any], None]] = {
    "json": _json_schema,
    "regex": _constraint("regex"),
    "choice": _constraint("choice"),
    "grammar": _constraint("grammar"),
    "json_object": lambda body, value: _json_schema(body, {"type": "object"}) if value else None,
}


def _structures(body: Body, value: Any) -> None:
    if not isinstance(value, dict):
        raise FieldError("structured_outputs must be an object", param="structured_outputs")
    for name, part in value.items():
        if part is None or part is False:
            continue
        if name not in _STRUCTURES:
            raise unsupported(f"structured_outputs.{name}", "structured_outputs")
        _STRUCTURES[name](body, part)


def _n_probs(body: Body, value: Any) -> None:
    if not value:
        return
    if "messages" in body:
        body.setdefault("logprobs", True)
        body.setdefault("top_logprobs", value)
    else:
        body.setdefault("logprobs", value)


_SAMPLERS: dict[str, dict[str, Any]] = {
    "penalties": {"repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    "dry": {"dry_multiplier": 0.0},
    "top_k": {"top_k": 0},
    "typ_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "temperature": {},
}
"""Our chain, in its order, and what turns each off."""
_IDLE_SAMPLERS = ("top_n_sigma", "xtc", "edskypmxt")


def _samplers(body: Body, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise FieldError("samplers must be a list of names", param="samplers")
    wanted = ["typ_p" if name == "typical_p" else name for name in value if name not in _IDLE_SAMPLERS]
    known = [name for name in _SAMPLERS if name in wanted]
    if wanted != known:
        raise FieldError(f"samplers: the order is {', '.join(_SAMPLERS)}, and there are no others", param="samplers")
    for name, off in _SAMPLERS.items():
        if name not in wanted:
            body.update(off)
    if "temperature" not in wanted:
        body["temperature"] = 1.0


def _bias_list(body: Body, value: Any) -> None:
    """llama-server's list of [id, bias], false for a token that must not come."""
    if isinstance(value, list):
        pairs = [pair for pair in value if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int)]
        if len(pairs) != len(value):
            raise FieldError("logit_bias: a list must have pairs of a token id and a number", param="logit_bias")
        value = {str(token): -100.0 if bias is False else bias for token, bias in pairs}
    body["logit_bias"] = value


def _stop(body: Body, value: Any) -> None:
    """Without the empty strings that forms send for no text."""
    if isinstance(value, list):
        value = [text for text in value if text != ""] or None
    body["stop"] = value or None if value == "" else value


def _documents(body: Body, value: Any) -> None:
    body["chat_template_kwargs"] = {"documents": value, **(body.get("chat_template_kwargs") or {})}


MAPPED: dict[str, Mapped] = {
    "max_completion_tokens": Mapped(OPENAI, "`max_tokens`", _instead("max_tokens")),
    "n_predict": Mapped(LLAMA, "`max_tokens`", _renamed("max_tokens")),
    "n_cmpl": Mapped(LLAMA, "`n`", _renamed("n")),
    "json_schema": Mapped(LLAMA, "`response_format`", _json_schema),
    "n_probs": Mapped(LLAMA, "`logprobs`, `top_logprobs`", _n_probs),
    "samplers": Mapped(LLAMA, "those that are not named are off", _samplers),
    "logit_bias": Mapped(LLAMA, "a list of pairs is taken too", _bias_list),
    "stop": Mapped(OPENAI, "empty strings are left out", _stop),
    "repetition_penalty": Mapped(VLLM, "`repeat_penalty`", _renamed("repeat_penalty")),
    "guided_json": Mapped(VLLM, "as `response_format`", _json_schema),
    "guided_regex": Mapped(VLLM, "a regular expression for the whole answer", _constraint("regex")),
    "guided_choice": Mapped(VLLM, "a list of answers", _constraint("choice")),
    "guided_grammar": Mapped(VLLM, "`grammar`", _constraint("grammar")),
    "structured_outputs": Mapped(VLLM, "`json`, `regex`, `choice`, `grammar`, `json_object` in it", _structures),
    "documents": Mapped(VLLM, "a variable of the chat template", _documents),
}  # fmt: skip
"""In the order in which they are applied."""

NO_EFFECT: dict[str, Collection[str]] = {
    OPENAI: (
        "user", "metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
        "prediction",
    ),
    LLAMA: (
        "cache_prompt", "id_slot", "n_keep", "n_discard", "n_cache_reuse", "dynatemp_exponent", "xtc_threshold",
        "mirostat_tau", "mirostat_eta", "speculative.n_max", "speculative.n_min", "speculative.p_min",
        "sse_ping_interval",
    ),
    VLLM: ("priority", "request_id", "guided_decoding_backend", "spaces_between_special_tokens"),
}  # fmt: skip
"""What no answer depends on: names for the provider's books, hints for speed, and parameters of what is off."""

REFUSED: dict[str, Refused] = {
    "audio": Refused(OPENAI),
    "best_of": Refused(OPENAI, (1,)),
    "function_call": Refused(OPENAI, ("none",)),
    "functions": Refused(OPENAI, ([],)),
    "modalities": Refused(OPENAI, (["text"],)),
    "store": Refused(OPENAI, (False,)),
    "verbosity": Refused(OPENAI, ("medium",)),
    "web_search_options": Refused(OPENAI),
    "adaptive_decay": Refused(LLAMA),
    "adaptive_target": Refused(LLAMA, (-1, -1.0)),
    "backend_sampling": Refused(LLAMA, (False,)),
    "chat_format": Refused(LLAMA),
    "dynatemp_range": Refused(LLAMA, (0, 0.0)),
    "grammar_lazy": Refused(LLAMA, (False,)),
    "grammar_triggers": Refused(LLAMA, ([],)),
    "image_data": Refused(LLAMA, ([],)),
    "min_keep": Refused(LLAMA, (0, 1)),
    "mirostat": Refused(LLAMA, (0,)),
    "multimodal_data": Refused(LLAMA, ([],)),
    "n_indent": Refused(LLAMA, (0,)),
    "parse_tool_calls": Refused(LLAMA, (True,)),
    "preserved_tokens": Refused(LLAMA, ([],)),
    "response_fields": Refused(LLAMA, ([],)),
    "return_progress": Refused(LLAMA, (False,)),
    "return_tokens": Refused(LLAMA, (False,)),
    "t_max_predict_ms": Refused(LLAMA, (0, -1)),
    "thinking_forced_open": Refused(LLAMA, (False,)),
    "timings_per_token": Refused(LLAMA, (False,)),
    "top_n_sigma": Refused(LLAMA, (-1, -1.0, 0, 0.0)),
    "xtc_probability": Refused(LLAMA, (0, 0.0)),
    "add_special_tokens": Refused(VLLM),
    "echo": Refused(VLLM, (False,)),
    "allowed_token_ids": Refused(VLLM, ([],)),
    "bad_words": Refused(VLLM, ([],)),
    "cache_salt": Refused(VLLM),
    "chat_template": Refused(VLLM),
    "guided_whitespace_pattern": Refused(VLLM),
    "include_reasoning": Refused(VLLM, (True,)),
    "include_stop_str_in_output": Refused(VLLM, (False,)),
    "kv_transfer_params": Refused(VLLM),
    "length_penalty": Refused(VLLM, (1, 1.0)),
    "logits_processors": Refused(VLLM, ([],)),
    "media_io_kwargs": Refused(VLLM, ({},)),
    "mm_processor_kwargs": Refused(VLLM, ({},)),
    "prompt_embeds": Refused(VLLM),
    "repetition_detection": Refused(VLLM),
    "return_token_ids": Refused(VLLM, (False,)),
    "return_tokens_as_token_ids": Refused(VLLM, (False,)),
    "skip_special_tokens": Refused(VLLM, (True,)),
    "structural_tag": Refused(VLLM),
    "truncate_prompt_tokens": Refused(VLLM),
    "use_beam_search": Refused(VLLM, (False,)),
    "vllm_xargs": Refused(VLLM, ({},)),
    "logit_bias_type": Refused(PYTHON, ("input_ids",)),
    "mirostat_mode": Refused(PYTHON, (0,)),
    "tfs_z": Refused(PYTHON, (1, 1.0)),
}
_WITHOUT_EFFECT = frozenset(name for names in NO_EFFECT.values() for name in names)


def translated(body: Body, known: Collection[str]) -> Body:
    """Return the fields of a request in our words. `known`: those of the schema.

    Raises FieldError for a field that cannot be kept, and for one that nobody knows.
    """
    ours = {name: value for name, value in body.items() if name in known and name not in MAPPED}
    for name, value in body.items():
        if value is None or name in MAPPED or name in ours or name in _WITHOUT_EFFECT:
            continue
        refused = REFUSED.get(name)
        if refused is None:
            raise unknown(name, known)
        if not any(type(value) is type(idle) and value == idle for idle in refused.idle):
            raise unsupported(name, name)
    for name, mapped in MAPPED.items():
        if body.get(name) is not None:
            mapped.apply(ours, body[name])
    return ours


def unsupported(name: str, param: str) -> FieldError:
    """Return the error for a field that cannot be kept."""
    return FieldError(f"{name} is not supported: leave it out", param=param)


def unknown(name: str, known: Collection[str]) -> FieldError:
    """Return the error for a field that nobody knows."""
    shown = name if len(name) <= 60 and name.isprintable() else "a field"
    close = difflib.get_close_matches(name, [*known, *MAPPED], 2) if len(name) <= 60 else []
    hint = f": did you mean {' or '.join(close)}?" if close else ": no field of this API has that name"
    return FieldError(f"unknown field {shown}{hint}", param=shown)


def table() -> list[list[str]]:
    """Return the rows of the table in docs/server.md: fields, whose they are, what becomes of them."""
    mapped = [[f"`{name}`", row.whose, row.to] for name, row in MAPPED.items()]
    idle = [[_names(names), whose, "no answer depends on it"] for whose, names in NO_EFFECT.items()]
    refused = [
        [
            _names(name for name, row in REFUSED.items() if row.whose == whose),
            whose,
            "refused unless it asks for nothing",
        ]
        for whose in (OPENAI, LLAMA, VLLM, PYTHON)
    ]
    return mapped + idle + refused


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
