"""Pydantic models of all shapes that clients send, made at random, and what is wrong with an answer to one."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

MAX_TOKENS = 250


def models(seed: int, n: int) -> Iterator[type[BaseModel]]:
    """n models: nested, with unions, literals, bounds, optional parts and recursion. Texts and lists have an end."""
    rng = random.Random(seed)
    for i in range(n):
        yield _model(rng, f"Model{i}", depth=0)


def fault(model: type[BaseModel], text: str) -> str | None:
    """Why a text is not JSON of the model; None: it is."""
    try:
        model.model_validate_json(text, strict=False)
    except ValidationError as error:
        return f"{str(error)[:300]} in {text[:300]!r}"
    return None


def _model(rng: random.Random, name: str, depth: int) -> type[BaseModel]:
    config = ConfigDict(extra="forbid") if rng.random() < 0.5 else ConfigDict(extra="ignore")
    parts: dict[str, Any] = {}
    for i in range(rng.randint(1, 4)):
        kind = _kind(rng, f"{name}_{i}", depth)
        optional = rng.random() < 0.3
        parts[rng.choice(["name", "count", "kind", "a b", "é"]) + str(i)] = (
            (Optional[kind], None) if optional else (kind, ...)  # noqa: UP045 - made at run time
        )
    if rng.random() < 0.2:
        parts["next"] = (Optional[name], None)  # noqa: UP045
    model = create_model(name, __config__=config, **parts)
    model.model_rebuild(_types_namespace={name: model})
    return model


def _kind(rng: random.Random, name: str, depth: int) -> Any:
    low = rng.randint(-100, 100)
    simple: list[Any] = [
        Annotated[int, Field(ge=low, le=low + rng.randint(0, 500))],
        Annotated[int, Field(gt=low, multiple_of=rng.choice([2, 3, 5, 10]), lt=low + 50)],
        Annotated[float, Field(ge=low, lt=low + 2, multiple_of=0.25)],
        Annotated[str, Field(min_length=rng.randint(0, 2), max_length=rng.randint(2, 12))],
        Annotated[str, Field(pattern=rng.choice([r"^[A-Z]{2}\d{3}$", r"^(cat|dog)s?$", r"^\w{1,8}@\w{1,5}$"]))],
        bool,
        Literal["red", "green", 'a "quote"\n'],
        Literal[1, "one", None],
        enum.Enum(f"{name}_enum", {"A": "a", "B": "b\\c"}),
    ]
    if depth >= 2 or rng.random() < 0.5:
        return rng.choice(simple)
    inner = _kind(rng, name + "x", depth + 1)
    return rng.choice(
        [
            Annotated[list[inner], Field(min_length=rng.randint(0, 1), max_length=3)],  # type: ignore[valid-type]
            tuple[inner, bool],
            Union[inner, int, None],  # noqa: UP007
            _model(rng, f"{name}_model", depth + 1),
        ]
    )
