"""Pointers of Git LFS: the small text files that stand for large ones where a clone has not fetched these.

Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What a pointer begins with."""
LFS_ADVICE = "a pointer of Git LFS, not the file itself: run git lfs pull in the clone, or download it (hf download)"
