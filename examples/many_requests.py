"""Run eight requests side by side over one context: a request's answer never depends on its company.

python examples/many_requests.py [MODEL.gguf]
"""

from __future__ import annotations

import asyncio
import sys

from pytrimode import AsyncTriMode
from pytrimode.files.shipped_model import shipped_gguf


async def ask(model: AsyncTriMode, question: str) -> str:
    """Return the answer to one question, greedily."""
    answer = await model.create_chat_completion(
        [{"role": "user", "content": question}], temperature=0.0, max_tokens=100
    )
    return answer["choices"][0]["message"]["content"]


async def main() -> None:
    """Ask eight questions at once."""
    questions = [f"Sort these numbers: {i + 70}, {i + 3}, {i + 41}" for i in range(8)]
    path = sys.argv[1] if len(sys.argv) > 1 else shipped_gguf()
    async with await AsyncTriMode.load(path, n_ctx=4096, n_parallel=8) as model:
        answers = await asyncio.gather(*(ask(model, question) for question in questions))
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question}\n  {answer}")


if __name__ == "__main__":
    asyncio.run(main())
