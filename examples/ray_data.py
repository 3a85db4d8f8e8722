"""Answer a file of questions with Ray Data: a model in each worker, each with many requests in the same passes.

pip install "ray[data]"
python examples/ray_data.py questions.jsonl answers/ [MODEL.gguf]

A line of the input is {"id": "1", "question": "..."}; the output is a folder of such files, with an "answer" in each
line.
On one machine `pytrimode batch` does the same without Ray, and goes on where it was ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray

WORKERS = int(os.environ.get("WORKERS", "2"))
SLOTS = int(os.environ.get("SLOTS", "8"))
"""Requests that a worker answers side by side."""

CPUS = float(os.environ.get("CPUS", "0.5"))
"""Of each worker, as Ray counts them: reading and writing need one too, and would wait for ever without."""


class Answerer:
    """Loaded once in each worker."""

    def __init__(self, path: str | None) -> None:
        from pytrimode import AsyncTriMode, TriMode
        from pytrimode.files.shipped_model import shipped_gguf

        self._model = AsyncTriMode(
            TriMode(path or shipped_gguf(), n_ctx=512 * SLOTS, n_parallel=SLOTS, n_threads=1, n_gpu_layers="auto")
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Answer a batch of questions."""
        return {**batch, "answer": asyncio.run(self._answers([str(question) for question in batch["question"]]))}

    async def _answers(self, questions: list[str]) -> list[str]:
        return await asyncio.gather(*(self._answer(question) for question in questions))

    async def _answer(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        try:
            found = await self._model.create_chat_completion(messages, temperature=0.0, max_tokens=100)
        except ValueError as error:  # one that is too long is no reason to lose the others
            return f"error: {error}"
        return found["choices"][0]["message"]["content"]


def main(questions: str, answers: str, model: str | None = None) -> None:
    """Answer them."""
    (
        ray.data.read_json(questions, lines=True)
        .repartition(2 * WORKERS)  # a small file is one block, and one worker's
        .map_batches(
            Answerer,
            fn_constructor_args=(model,),
            batch_size=4 * SLOTS,
            compute=ray.data.ActorPoolStrategy(size=WORKERS),
            num_cpus=CPUS,  # num_gpus=1 with a GPU for each
        )
        .write_json(str(Path(answers).resolve()))
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:4])
