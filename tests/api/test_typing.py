"""What mypy makes of programs that use the package: README's example, and what it should refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("mypy")

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
from collections.abc import AsyncIterator, Iterator

from pytrimode import AsyncTriMode, TriMode
from pytrimode.answers.results import ChatCompletion, ChatCompletionChunk, Completion


def plain(model: TriMode, stream: bool) -> None:
    one: Completion = model.create_completion("a", top_k=3, stop=["x"], seed=None)
    several: Iterator[Completion] = model.create_completion("a", stream=True, echo=True)
    either: Completion | Iterator[Completion] = model("a", stream=stream)
    answer: ChatCompletion = model.create_chat_completion([{"role": "user", "content": "a"}], top_logprobs=2)
    chunks: Iterator[ChatCompletionChunk] = model.create_chat_completion([], stream=True)
    ids: Iterator[int] = model.generate([1], max_tokens=3)
    print(one, several, either, answer, chunks, ids)


def loaded() -> TriMode:
    return TriMode("x.gguf", n_ctx=128, n_gpu_layers="auto", lora_path=None, seed=3)


async def awaited(model: AsyncTriMode) -> None:
    one: Completion = await model.create_completion("a", top_k=3)
    several: AsyncIterator[Completion] = await model.create_completion("a", stream=True)
    answer: ChatCompletion = await model.create_chat_completion([])
    chunks: AsyncIterator[ChatCompletionChunk] = await model.create_chat_completion([], stream=True)
    print(one, several, answer, chunks)
"""
BAD = [
    ("model.create_completion('a', temprature=1.0)", "call-overload"),
    ("model.create_completion('a', top_k='3')", "call-overload"),
    ("model.create_completion('a', stream=True)['choices']", "index"),
    ("model.create_chat_completion([], logprobs=3)", "call-overload"),
    ("model.generate([1], topk=3)", "call-arg"),
    ("TriMode('x', n_context=3)", "call-arg"),
    ("TriMode('x', n_ctx='3')", "arg-type"),
]


def errors_of(directory: Path, programs: dict[str, str]) -> dict[str, list[tuple[int, str, str]]]:
    """Line, code and text of each error that mypy --strict has about programs, by file."""
    for name, text in programs.items():
        (directory / name).write_text(text)
    # convert/ and quantize/ install as subpackages of pytrimode: show mypy the tree as it will be, as `make lint` does.
    package = directory / "tree/pytrimode"
    package.mkdir(parents=True)
    for item in (*(ROOT / "pytrimode").iterdir(), ROOT / "convert", ROOT / "quantize"):
        (package / item.name).symlink_to(item)
    options = ["--strict", "--python-version", "3.10", "--config-file", "", "--cache-dir", str(directory / "cache")]
    # Other packages' types would take 20 seconds to read, and the programs use none of them.
    options += ["--no-site-packages", "--ignore-missing-imports", "--follow-imports", "silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *(str(directory / name) for name in programs)],
        env={"MYPYPATH": str(directory / "tree")}, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    found: dict[str, list[tuple[int, str, str]]] = {name: [] for name in programs}
    for file, line, text, code in re.findall(r"([\w.]+):(\d+): error: (.*) \[([\w-]+)\]", done.stdout):
        found[file].append((int(line), code, text))
    assert done.returncode == (1 if any(found.values()) else 0), done.stdout
    return found


def test_readme_passes_strict_and_overloads_tell_an_answer_from_a_stream(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples, "README has no example"
    programs = {f"readme_{i}.py": text for i, text in enumerate(examples)}
    bad = "from pytrimode import TriMode\n\nmodel = TriMode('x')\n" + "".join(f"{line}\n" for line, _ in BAD)
    found = errors_of(tmp_path, programs | {"good.py": GOOD, "bad.py": bad})
    refused = {(line, code) for line, code, _ in found.pop("bad.py")}
    assert refused == {(4 + i, code) for i, (_, code) in enumerate(BAD)}
    assert not any(found.values()), found
