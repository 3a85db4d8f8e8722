"""The example of Ray Data on a local Ray of two workers: `make test-ray`, since Ray is large and slow to start.

pytest does not collect this file by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pytrimode import TriMode

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE = 600


def expected(model: TriMode, messages: list[Any], max_tokens: int) -> str:
    answer: Any = model.create_chat_completion(messages, temperature=0.0, max_tokens=max_tokens)
    return answer["choices"][0]["message"]["content"]


def test_ray_data_answers_a_file(q8_gguf: Path, model: TriMode, tmp_path: Path) -> None:
    questions = [f"What is {i} plus 30?" for i in range(12)]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"id": str(i), "question": q}) + "\n" for i, q in enumerate(questions)))
    command = [sys.executable, EXAMPLES / "ray_data.py", file, tmp_path / "answers", q8_gguf]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, "SLOTS": "2"})
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for part in (tmp_path / "answers").glob("*.json") for line in part.read_text().splitlines()]
    answers = {record["question"]: record["answer"] for record in map(json.loads, lines)}
    assert answers == {q: expected(model, [{"role": "user", "content": q}], 100) for q in questions}
