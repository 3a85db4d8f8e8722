"""The documents of the repository, for the tests that hold what they say."""

from __future__ import annotations

import itertools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    itertools.chain(
        ROOT.glob("*.md"), ROOT.glob("docs/*.md"), ROOT.glob("native/*.md"), ROOT.glob("examples/*.md"),
        ROOT.glob("models/*/*.md"),
    )
)  # fmt: skip


def name(path: Path) -> str:
    """A document as a test names it."""
    return str(path.relative_to(ROOT))
