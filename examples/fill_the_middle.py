"""Fill in what stands between a beginning and an end: block diffusion sees both sides.

python examples/fill_the_middle.py [MODEL.gguf]
"""

from __future__ import annotations

import sys

from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf

BEGINNING = "def add_two(a, b):\n"
END = "\n    return result\n"


def main() -> None:
    """Print the whole text, the middle between bars."""
    with TriMode(sys.argv[1] if len(sys.argv) > 1 else shipped_gguf(), n_ctx=1024) as model:
        middle = model.create_completion(BEGINNING, suffix=END, max_tokens=12, mode="diffusion", temperature=0.0)
        print(f"{BEGINNING}|{middle['choices'][0]['text']}|{END}")


if __name__ == "__main__":
    main()
