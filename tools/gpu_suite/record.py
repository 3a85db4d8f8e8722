"""Results as they come: one line of JSON each, so that an interrupted run keeps what it has."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Values = dict[str, Any]


def read_lines(path: Path) -> list[Values]:
    """Return the results so far; a last line that was cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def spread(seconds: Sequence[float]) -> Values:
    """Median, lowest and highest in milliseconds."""
    in_ms = [1e3 * s for s in seconds]
    return {
        "ms": round(statistics.median(in_ms), 4),
        "ms_low": round(min(in_ms), 4),
        "ms_high": round(max(in_ms), 4),
        "n": len(in_ms),
    }


@dataclass
class Context:
    """What a job works with.

    Attributes:
        device: ggml's name of the device.
        small: shapes and counts for a device without a GPU behind it.
        scratch: where model files are.
        deadline: on the clock of `time.monotonic`.
        path: where results go.
        job: the name under which they go.
    """

    device: str
    small: bool
    scratch: Path
    deadline: float
    path: Path
    job: str

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def record(self, what: str, **values: Any) -> None:
        """Append a result."""
        with self.path.open("a") as file:
            file.write(json.dumps({"job": self.job, "what": what, **values}) + "\n")

    def repeat(self, measure: Callable[[], float], times: int, warm_up: int = 3) -> list[float]:
        """Seconds of as many runs as wanted, at least one, until the deadline; those to warm up do not count."""
        for _ in range(warm_up):
            measure()
        seconds = [measure()]
        while len(seconds) < times and self.left() > 0:
            seconds.append(measure())
        return seconds
