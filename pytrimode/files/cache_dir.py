"""Where pytrimode keeps what it can make again: converted models, links to downloaded ones."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "PYTRIMODE_CACHE"


def cache_dir() -> Path:
    """Return `$PYTRIMODE_CACHE`, else the user's cache directory (`~/.cache/pytrimode` on Linux). It may not exist."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("pytrimode")).expanduser()
