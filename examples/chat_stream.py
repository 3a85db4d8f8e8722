"""Stream an answer in each mode, and show how many tokens a forward pass gave.

python examples/chat_stream.py [MODEL.gguf]
"""

from __future__ import annotations

import sys

from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf

QUESTION = "Sort these numbers: 74, 31, 95, 12"


def main() -> None:
    """Ask the same question in all three modes."""
    with TriMode(sys.argv[1] if len(sys.argv) > 1 else shipped_gguf(), n_ctx=1024) as model:
        for mode in ("ar", "self-spec", "diffusion"):
            print(f"{mode}: ", end="")
            timings = None
            for chunk in model.create_chat_completion(
                [{"role": "user", "content": QUESTION}], mode=mode, temperature=0.0, max_tokens=200, stream=True
            ):
                print(chunk["choices"][0]["delta"].get("content") or "", end="", flush=True)
                timings = chunk.get("timings") or timings
            print(f"\n  {timings['tokens_per_forward']:.2f} tokens per forward pass" if timings else "")


if __name__ == "__main__":
    main()
