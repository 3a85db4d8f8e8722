"""Rates for `bench --acceptance`: drafts are accepted by lot, so that a model of random weights shows real speeds.

The published rates are in `published_acceptance.json`, by size of the model: rate i is that with which draft i is
accepted where all before it were. Derived so, from the model card and the reports of Nemotron-Labs-Diffusion (8B with
its LoRA): S(n), the share of cycles in which the first n drafts are accepted,

    S(1) = 94.9 %                     how often the first draft agrees with the final text
    S(B - 1) = 81.5, 59.7, 40.6, 27.2 %   a whole block is accepted, B = 4, 8, 16, 32
    1 + S(1) + ... + S(B - 1)         tokens per cycle: 3.67 for B = 4, which gives S(2)

is taken to fall geometrically between the known points behind S(3); rate i is S(i) / S(i - 1). Tokens per cycle then
come to 3.67, 6.36, 10.23, 15.52 for B = 4, 8, 16, 32; published are 3.67, 6.36, 10.2, 15.5. (The published agreement
of the 8th and 15th position, 51.0 and 36.5 %, is lower than these S: it was measured on another text and is not used.)

Of 3B and 14B only the gain of the LoRA in tokens per forward is published: 1.14x and 1.28x, where the 8B has 5.99 /
4.52. Their rates are the 8B's, with all log-odds moved by one amount so that tokens per cycle at B = 32 are less by the
ratio of these gains; the base models are taken to draft equally well.

`after_rejection`, how often a group behind a rejected draft tells the next token (fused cycles), is not published: 0.5
is what the engine assumes too before it has seen any.

For trees: where the best token of a position is wrong the second-best one is right in 57.5 % (published for the 8B's
first rejections). A rate is a mean: drafts are surer here than there, and the draft pass tells where. Of trimode-tiny
on open prompts the log-odds spread with a standard deviation of 3.2, and lose 1.7 behind a second-best token; those of
the published models are not known.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytrimode.gguf import keys
from pytrimode.plan.model_shape import BUILT_IN

PUBLISHED = "published"
_DATA = Path(__file__).with_name("published_acceptance.json")
_OF_OTHERS = "8B"
SECOND = 0.575
"""How often the second-best token is right where the best one is not."""
SPREAD = 3.2
"""Standard deviation of the log-odds of drafts at one position."""
STRAYED = 1.7
"""Log-odds that a draft loses behind a second-best token."""


@dataclass(frozen=True)
class SimulatedAcceptance:
    """What the lots are like.

    Attributes:
        rates: of draft 1, 2, ... where all before it were accepted; the last one holds for all behind it.
        after_rejection: how often a group of masks behind a rejected draft tells the next token.
        source: where the rates are from, for the report.
    """

    rates: tuple[float, ...]
    after_rejection: float
    source: str

    def engine_arguments(self) -> dict[str, Any]:
        """Arguments of the engine's `RequestOptions`."""
        return {
            "simulated_acceptance": list(self.rates),
            "simulated_after_rejection": self.after_rejection,
            "simulated_centres": [centre(rate) for rate in self.rates],
            "simulated_spread": SPREAD,
            "simulated_second": SECOND,
            "simulated_strayed": STRAYED,
        }

    def tokens(self, block_length: int) -> float:
        """Tokens of a cycle, on average: the accepted drafts and one more."""
        all_before = total = 1.0
        for i in range(block_length - 1):
            all_before *= self.rates[min(i, len(self.rates) - 1)]
            total += all_before
        return total


def centre(rate: float) -> float:
    """Return the mean log-odds at which chances that spread by SPREAD around it are `rate` on average."""
    steps = [(n / 10, math.exp(-n * n / 200)) for n in range(-40, 41)]
    total = sum(weight for _, weight in steps)
    low, high = -40.0, 40.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        mean = sum(weight / (1 + math.exp(-middle - SPREAD * z)) for z, weight in steps) / total
        low, high = (middle, high) if mean < rate else (low, middle)
    return low


def published(size: str) -> SimulatedAcceptance:
    """For "3B", "8B" or "14B"."""
    return _parse(json.loads(_DATA.read_text(encoding="utf-8"))[size], _DATA)


def read_acceptance(name: str, metadata: dict[str, str]) -> SimulatedAcceptance:
    """Return what a user wrote: "published" (for the model's size), "3B", "8B", "14B" (published for that), or a file.

    A file is JSON: a list of rates, or {"rates": [...], "after_rejection": 0.5, "source": "..."}. `metadata`: of the
    model. Raises OSError for a file that cannot be read, ValueError that says what is wrong in it.
    """
    if name == PUBLISHED:
        return published(_size(metadata) or _OF_OTHERS)
    if name.upper() in BUILT_IN:
        return published(name.upper())
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(f"{name}: no such file; give {PUBLISHED}, {', '.join(BUILT_IN)} or a file of rates")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    return _parse(content, path)


def _size(metadata: dict[str, str]) -> str | None:
    """Return the built-in shape of this width."""
    width = (metadata.get(keys.EMBEDDING_LENGTH), metadata.get(keys.FEED_FORWARD_LENGTH))
    found = (n for n, s in BUILT_IN.items() if (str(s.hparams.hidden), str(s.hparams.ffn)) == width)
    return next(found, None)


def _parse(content: Any, path: Path) -> SimulatedAcceptance:
    fields = {"rates": content} if isinstance(content, list) else content
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: expected a list of rates, or an object with one as rates")
    rates = fields.get("rates")
    if not isinstance(rates, list) or not rates:
        raise ValueError(f"{path}: rates: expected a list of numbers between 0 and 1, found {rates!r}")
    after = fields.get("after_rejection", 0.5)
    for what, value in [*((f"rates[{i}]", rate) for i, rate in enumerate(rates)), ("after_rejection", after)]:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{path}: {what}: expected a number between 0 and 1, found {value!r}")
    return SimulatedAcceptance(tuple(map(float, rates)), float(after), str(fields.get("source") or path.name))
