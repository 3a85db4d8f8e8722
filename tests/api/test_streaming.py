"""A streamed answer is the unstreamed one, in every mode, with random stop strings.

The quick version of benchmarks/stream_equality.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.streaming import cases, fault

from pytrimode import TriMode

N = 60


@pytest.mark.parametrize("gguf", ["q8_gguf", "random_gguf"])
def test_streamed_equals_unstreamed(request: pytest.FixtureRequest, checkpoint_dir: Path, gguf: str) -> None:
    stopped = 0
    with TriMode(request.getfixturevalue(gguf), n_ctx=512, n_threads=1) as model:
        for case, text in cases(model, checkpoint_dir, N):
            assert fault(model, case, text) is None
            stopped += any(s in text for s in case.stop)
    assert stopped > N / 4
