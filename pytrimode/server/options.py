"""From the fields of a request to `GenerationOptions`, on top of the server's defaults."""

from __future__ import annotations

import json
from dataclasses import replace

from pytrimode.formats.constraint import Constraint
from pytrimode.formats.response_format import grammar_of
from pytrimode.options.generation_options import GenerationOptions, with_options
from pytrimode.server.errors import ApiError, not_supported
from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest, GenerationFields
from pytrimode.server.threads import CHARS_HELD

# Fields that would change the answer, and the values that ask for nothing.
_NOT_SUPPORTED: dict[str, tuple[object, ...]] = {
    "best_of": (None, 1),
    "mirostat": (None, 0),
    "xtc_probability": (None, 0.0),
    "functions": (None, []),
    "function_call": (None, "none"),
    "modalities": (None, ["text"]),
}


def generation_options(
    fields: GenerationFields, defaults: GenerationOptions, max_tokens: int | None, *, reasoning_open: bool = False
) -> GenerationOptions:
    """Return the options of the first answer. `max_tokens`: what is meant by leaving it out. `reasoning_open`: the
    prompt ends inside reasoning, which a `response_format` leaves alone.

    Translates a JSON schema, which may take a while. Raises ApiError for what is not supported, ValueError for
    impossible values.
    """
    for name, idle in _NOT_SUPPORTED.items():
        value = getattr(fields, name, None)
        if value not in idle:
            raise not_supported(name)
    given = fields.given_options()
    if "threshold" in given:
        given.setdefault("steps", None)
    if isinstance(fields, ChatCompletionRequest) and fields.max_completion_tokens is not None:
        given["max_tokens"] = fields.max_completion_tokens
    given.setdefault("max_tokens", max_tokens)
    given["logprobs"] = _logprobs(fields)
    if grammar := _grammar(fields, given.get("grammar", ""), reasoning_open=reasoning_open):
        given["grammar"] = grammar
    return with_options(defaults, given)


def _logprobs(fields: GenerationFields) -> int | None:
    if isinstance(fields, CompletionRequest):
        return fields.logprobs
    if not isinstance(fields, ChatCompletionRequest):
        return None
    if fields.top_logprobs is not None and not fields.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    return (fields.top_logprobs or 0) if fields.logprobs else None


def of_choice(options: GenerationOptions, index: int) -> GenerationOptions:
    """Return the options of the answer number `index` to one prompt: a seed counts up, or all would be the same."""
    seed = options.sampling.seed
    if seed is None or index == 0:
        return options
    return replace(options, sampling=replace(options.sampling, seed=seed + index))


def _grammar(fields: GenerationFields, grammar: str, *, reasoning_open: bool) -> str | Constraint | None:
    wanted = fields.response_format.model_dump(by_alias=True, exclude_none=True) if fields.response_format else None
    if grammar and wanted and wanted["type"] != "text":
        raise ApiError(400, "give grammar or response_format, not both", param="grammar")
    for name, text in (("grammar", grammar), ("response_format", json.dumps(wanted or ""))):
        if len(text) > CHARS_HELD:
            raise ApiError(400, f"{name} has {len(text)} characters: at most {CHARS_HELD}", param=name)
    return grammar or grammar_of(wanted, reasoning_open=reasoning_open)
