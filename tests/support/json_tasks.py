"""JSON under a grammar: schemas whose values cannot be endless, and a check of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytrimode import TriMode

from .decoding import heldout


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


NAME = {"type": "string", "maxLength": 12}
COUNT = {"type": "integer", "minimum": -999, "maximum": 99999}
LENGTH = {"type": "number", "minimum": -1000, "maximum": 1000, "multipleOf": 0.01}
POINT = _object(x=LENGTH, y=LENGTH)
SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": _object(name=NAME, age=COUNT, ok={"type": "boolean"}),
    "list": {"type": "array", "items": _object(id=COUNT, kind={"enum": ["a", "b", "c"]}), "maxItems": 3},
    "nested": _object(title=NAME, place=_object(at=POINT, note={"anyOf": [NAME, {"type": "null"}]})),
    "choice": {"enum": ["red", "green", "blue", 7, None]},
    "labels": _object(labels={"type": "array", "items": NAME, "minItems": 1, "maxItems": 4}),
}
TEMPERATURES = (0.0, 0.8)
MAX_TOKENS = 400
"""More than the longest value of any schema needs."""


@dataclass
class Generation:
    """One answer under a schema."""

    schema: str
    temperature: float
    text: str
    finish_reason: str
    tokens: int
    forward_passes: int
    drafted: int
    accepted: int

    @property
    def fault(self) -> str | None:
        """What is wrong with the answer; None: it is complete, it parses, and the schema holds."""
        if self.finish_reason != "stop":
            return f"ended with {self.finish_reason}"
        try:
            value = json.loads(self.text)
        except ValueError as error:
            return f"{error}: {self.text!r}"
        return None if conforms(value, SCHEMAS[self.schema]) else f"not of schema {self.schema}: {self.text!r}"


def conforms(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is what a schema says, for the keywords that SCHEMAS use."""
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(conforms(value, one) for one in schema["anyOf"])
    kind = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
        "number": (int, float),
    }[schema["type"]]  # fmt: skip
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return False
    if isinstance(value, dict):
        properties = schema["properties"]
        return set(value) == set(properties) and all(conforms(value[k], properties[k]) for k in value)
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema["maxItems"]
        return fits and all(conforms(item, schema["items"]) for item in value)
    if kind in (int, (int, float)):
        return bool(schema["minimum"] <= value <= schema["maximum"])
    # A token whose bytes are no character is one for the grammar, and up to four U+FFFD here.
    return not isinstance(value, str) or len(value.replace("\ufffd", "")) <= schema["maxLength"]


def generations(model: TriMode, checkpoint: Path, n: int, **options: Any) -> Iterator[Generation]:
    """n answers: schemas and temperatures take turns, each with a question of its own, which the model may not know."""
    questions = heldout(checkpoint)
    cases = [(schema, temperature) for temperature in TEMPERATURES for schema in SCHEMAS]
    for i in range(n):
        schema, temperature = cases[i % len(cases)]
        result: Any = model.create_chat_completion(
            [questions[i // len(cases) % len(questions)]["messages"][-1]], max_tokens=MAX_TOKENS, seed=i,
            temperature=temperature, response_format={"type": "json_object", "schema": SCHEMAS[schema]}, **options,
        )  # fmt: skip
        timings, choice = result["timings"], result["choices"][0]
        yield Generation(
            schema, temperature, choice["message"]["content"], choice["finish_reason"], timings["predicted_n"],
            timings["forward_passes"], timings["draft_n"], timings["draft_n_accepted"],
        )  # fmt: skip
