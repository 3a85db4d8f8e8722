"""The cache of the Hugging Face hub: `models--OWNER--NAME/snapshots/COMMIT/` holds links to files in `blobs/`.

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

from pathlib import Path

PREFIX = "models--"
SNAPSHOTS = "snapshots"
MAIN = Path("refs") / "main"


def repo_of(directory: Path) -> str | None:
    """Return "OWNER/NAME" of a snapshot in the cache, None for any other directory."""
    path = directory.absolute()
    if path.parent.name != SNAPSHOTS or not path.parents[1].name.startswith(PREFIX):
        return None
    return path.parents[1].name.removeprefix(PREFIX).replace("--", "/", 1)


def snapshot_of(directory: Path) -> Path:
    """Return the snapshot to read of a model's directory in the cache: the main one, else the newest.

    Any other directory is returned as it is.
    """
    snapshots = directory / SNAPSHOTS
    if not directory.absolute().name.startswith(PREFIX) or not snapshots.is_dir():
        return directory
    main = directory / MAIN
    if main.is_file() and (found := snapshots / main.read_text(encoding="utf-8").strip()).is_dir():
        return found
    others = [path for path in snapshots.iterdir() if path.is_dir()]
    return max(others, key=lambda path: path.stat().st_mtime_ns, default=directory)
