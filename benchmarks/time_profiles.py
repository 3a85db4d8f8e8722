"""t(rows): what a pass costs by its rows, on machines that simulations of drafts are priced for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Profile:
    """Time of a pass behind few cells, in any unit; linear between the points, and behind the last one as before it."""

    name: str
    points: Mapping[int, float]
    draft_points: Mapping[int, float] = field(default_factory=dict)
    """The same with the drafter LoRA, where that was measured."""
    padded: bool = False
    """Passes have as many rows as a point: a device."""

    def time(self, rows: int, drafting: bool = False) -> float:
        """Return the time of a pass with so many rows."""
        points = self.draft_points if drafting and self.draft_points else self.points
        x, y = list(points), list(points.values())
        if rows > x[-1]:
            return y[-1] + (rows - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        if self.padded:
            return next(t for n, t in points.items() if n >= rows)
        return float(np.interp(rows, x, y))


def _line(first: float, each: float) -> dict[int, float]:
    return {n: first + each * n for n in (1, 64)}


PROFILES = (
    Profile("EPYC, AVX2, 3B Q8_0", {1: 1.0, 4: 1.13, 8: 2.3, 16: 4.1, 32: 8.1}),  # docs/speed.md
    Profile("Xeon, AMX, 3B Q8_0", {1: 1.0, 8: 1.21, 16: 1.88, 32: 2.46}),  # docs/speed.md
    # The published ceiling of the card's memory, 65 tokens/s; what a row costs beside it is assumed.
    Profile("RTX 3090, 14B Q8_0", _line(1000 / 65, 0.25)),
    Profile(
        "H100, 3B Q8_0", {1: 2.71, 2: 2.83, 4: 3.06, 8: 4.20, 16: 5.05, 32: 5.82, 64: 7.28}, padded=True
    ),  # docs/gpu.md; 2 rows are interpolated
    Profile(
        "H100, 14B Q8_0",
        {1: 7.09, 2: 7.45, 4: 8.17, 8: 11.34, 16: 12.55, 32: 14.39, 64: 17.59},
        {1: 7.64, 2: 8.23, 4: 9.41, 8: 12.73, 16: 13.98, 32: 14.95, 64: 18.33},
        padded=True,
    ),
    Profile("B200, 14B", {1: 6.9, 8: 6.99, 16: 7.13, 32: 7.86}),  # published from 8 rows on
)
