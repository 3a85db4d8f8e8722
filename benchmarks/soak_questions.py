"""What the clients of `benchmarks.server_soak` ask: in every mode, with schemas, with pictures, and what is wrong."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks import common
from pytrimode import TriMode
from pytrimode.options.modes import AUTO, MODES
from pytrimode.vision.picture import open_picture
from tests.support.vlm import picture

ALL_MODES = (*MODES, AUTO)
N_TOKENS, N_TEXTS, N_SCHEMAS, N_PICTURES = 24, 36, 12, 24
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {"of": {"type": "array", "items": {"type": "integer"}}}, "required": ["of"]},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 9},
    {"enum": ["rising", "falling", "neither"]},
)  # fmt: skip
BAD_BODIES: tuple[tuple[bytes, int], ...] = (
    (b"{", 400),
    (b'{"messages": []}', 400),
    (b'{"messages": [{"role": "user", "content": "a"}], "temperature": -1}', 400),
    (b'{"messages": [{"role": "user", "content": "a"}], "grammar": "root ::= ("}', 400),
    (b'{"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_schema"}}', 400),
    (b'{"messages": [{"role": "user", "content": "' + b"word " * 4000 + b'"}]}', 400),
)
"""With the status that each must get."""


def questions(*, pictures: bool) -> list[dict[str, Any]]:
    """Bodies of requests whose answers are always the same: prompts of different lengths and beginnings."""
    numbers = random.Random(1)
    made = [
        _body(i, f"Sort these numbers: {', '.join(str(numbers.randrange(100)) for _ in range(2 + i % 12))}")
        for i in range(N_TEXTS + N_SCHEMAS)
    ]
    for i, body in enumerate(made[N_TEXTS:]):
        schema = {"name": "answer", "schema": SCHEMAS[i % len(SCHEMAS)]}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return made + [_with_picture(i) for i in range(N_PICTURES if pictures else 0)]


def _body(i: int, content: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    mode = ALL_MODES[i % len(ALL_MODES)]
    return {"messages": messages, "mode": mode, "max_tokens": N_TOKENS, "temperature": 0.0}


def _with_picture(i: int) -> dict[str, Any]:
    uri = open_picture(picture(40 + 20 * (i % 6), 40 + 30 * (i % 5), seed=i)).data_uri()
    text = {"type": "text", "text": f"What is this, in {2 + i % 5} words?"}
    return _body(i, [{"type": "image_url", "image_url": {"url": uri}}, text])


def expected_answers(gguf: Path, asked: list[dict[str, Any]], n_ctx: int) -> list[str]:
    """Made one by one in this process, each by a cache that has seen the ones before it."""
    with TriMode(gguf, n_ctx=n_ctx, n_threads=1) as model:
        results: list[Any] = [
            model.create_chat_completion(**body)
            for body in common.progress(asked, "answers of the model alone", len(asked))
        ]
    return [result["choices"][0]["message"]["content"] for result in results]
