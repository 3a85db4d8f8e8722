"""From the fields of a request to `GenerationOptions`, on top of the server's defaults."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pytrimode.formats.constraint import Constraint, of_choices, of_regex, of_schema
from pytrimode.formats.response_format import grammar_of
from pytrimode.options.generation_options import GenerationOptions, option_table, with_options
from pytrimode.server.errors import ApiError
from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest, GenerationFields
from pytrimode.server.threads import CHARS_HELD


def generation_options(
    fields: GenerationFields, defaults: GenerationOptions, max_tokens: int | None, *, reasoning_open: bool = False
) -> GenerationOptions:
    """Return the options of the first answer. `max_tokens`: what is meant by leaving it out. `reasoning_open`: the
    prompt ends inside reasoning, which a `response_format` leaves alone.

    Translates a JSON schema, which may take a while. Raises ApiError for what is not supported, ValueError for
    impossible values.
    """
    given = fields.given_options()
    if "threshold" in given:
        given.setdefault("steps", None)
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


def in_json(options: GenerationOptions) -> dict[str, Any]:
    """Return options by their names in a request body; without those that a client may have put text into."""
    values = {**vars(options), **vars(options.sampling)}
    return {row.http: values[name] for name, row in option_table().items() if not row.about.private}


def _grammar(fields: GenerationFields, grammar: str, *, reasoning_open: bool) -> str | Constraint | None:
    wanted = fields.response_format.model_dump(by_alias=True, exclude_none=True) if fields.response_format else None
    asked: dict[str, Any] = dict(fields.constraint or {})
    if grammar:
        asked["grammar"] = grammar
    if wanted and wanted["type"] != "text":
        asked["response_format"] = wanted
    if not asked:
        return None
    if len(asked) > 1:
        raise ApiError(400, f"give {' or '.join(asked)}, not both", param="grammar")
    ((name, value),) = asked.items()
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > CHARS_HELD:
        raise ApiError(400, f"{name} has {len(text)} characters: at most {CHARS_HELD}", param=name)
    if name == "json":
        return of_schema(value, "json_schema", after_reasoning=reasoning_open)
    if name == "response_format":
        return grammar_of(value, reasoning_open=reasoning_open)
    if name == "choice":
        if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value):
            raise ApiError(400, "guided_choice must be a list of texts", param="guided_choice")
        return replace(of_choices(value, "guided_choice"), after_reasoning=reasoning_open)
    if not isinstance(value, str):
        raise ApiError(400, f"guided_{name} must be text", param=f"guided_{name}")
    return replace(of_regex(value, "guided_regex"), after_reasoning=reasoning_open) if name == "regex" else value
