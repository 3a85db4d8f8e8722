"""Files of a repository on Hugging Face."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path


def download(
    repo_id: str,
    filename: str | None,
    additional_files: Sequence[str] | None,
    local_dir: str | Path | None,
    cache_dir: str | Path | None,
) -> str:
    """Download the one file that a pattern matches, and one for each of the additional ones; the path of the first.

    Raises ImportError without huggingface_hub, ValueError for a pattern that matches no file or several.
    """
    if not filename:
        raise ValueError("filename: a name or a pattern of the model file is needed, such as '*q8_0.gguf'")
    try:
        from huggingface_hub import hf_hub_download, list_repo_files
    except ImportError:
        raise ImportError("Llama.from_pretrained needs huggingface_hub: pip install 'pytrimode[hub]'") from None
    names = list_repo_files(repo_id)
    wanted = [_only(names, pattern, repo_id) for pattern in (filename, *(additional_files or ()))]
    paths = [hf_hub_download(repo_id, name, local_dir=local_dir, cache_dir=cache_dir) for name in wanted]
    return str(paths[0])


def _only(names: Sequence[str], pattern: str, repo_id: str) -> str:
    found = fnmatch.filter(names, pattern)
    if len(found) != 1:
        which = "No file" if not found else "Multiple files"
        raise ValueError(f"{which} in {repo_id} match {pattern!r}; there are: {', '.join(found or names)}")
    return found[0]
