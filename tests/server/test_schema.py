"""Requests made from the server's own OpenAPI schema, valid and not: never a failure, always a documented answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support.serving import Served, loader, served

pytestmark = pytest.mark.slow

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def small(q8_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A context so short that an answer without `max_tokens` ends soon."""
    with served(loader(q8_gguf, 48), slot_save_path=tmp_path_factory.mktemp("slots")) as running:
        yield running


@pytest.mark.parametrize("valid", [True, False])
def test_the_schema_tells_the_truth(small: Served, valid: bool) -> None:
    mode, checks = schemathesis.GenerationMode, schemathesis.checks
    wanted = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    api = schemathesis.openapi.from_url(small.url + "/openapi.json")
    tried = 0
    for result in api.get_all_operations():
        operation = result.ok()
        if not valid and operation.method == "get":
            continue

        @hypothesis.settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode.POSITIVE if valid else mode.NEGATIVE))
        def try_out(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=wanted if valid else [*wanted, checks.negative_data_rejection])

        try_out()
    assert tried >= 50
