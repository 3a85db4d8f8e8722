"""Other programs on a converted file: stock llama.cpp, as llama-cpp-python has it."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import pytest

from pytrimode import TriMode


@pytest.mark.parametrize("question", ["What is the mode self-spec?", "Sort these numbers: 74, 31, 95, 12"])
def test_stock_llama_cpp_gives_the_same_greedy_answer(model: TriMode, q8_gguf: Path, question: str) -> None:
    """Through the chat template in the file."""
    messages = [{"role": "user", "content": question}]
    stock = llama_cpp.Llama(str(q8_gguf), n_ctx=256, n_threads=1, verbose=False)
    try:
        theirs = stock.create_chat_completion(messages, temperature=0.0, max_tokens=48)  # type: ignore[arg-type]
    finally:
        stock.close()
    ours = model.create_chat_completion(messages, mode="ar", temperature=0.0, max_tokens=48)
    assert theirs["choices"][0]["message"]["content"] == ours["choices"][0]["message"]["content"]  # type: ignore[index]
