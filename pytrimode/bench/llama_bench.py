"""The table of llama-bench: a row for the prompt (pp512) and one for each setting's answers (tg128)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytrimode.bench.plan import STOCK
from pytrimode.bench.summary import Line
from pytrimode.gguf.sizes import memory_text
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.modes import AR
from pytrimode.trimode import TriMode

PROMPT_TOKENS = 512
FIRST_PLAIN_TOKEN = 1000
"""Below it are the special tokens."""


@dataclass(frozen=True)
class PromptSpeed:
    """How fast a prompt of random tokens is read."""

    n_tokens: int
    tokens_per_second: Sequence[float]
    """By round."""


def prompt_speed(model: TriMode, rounds: int) -> PromptSpeed:
    """Read prompts of 512 random tokens, as llama-bench's pp512, or as many as the context and batch of memory hold."""
    n = min(PROMPT_TOKENS, model.n_ctx - 1)
    random = np.random.default_rng(0)
    speeds = []
    for _ in range(rounds + 1):  # the first one warms up
        low = min(FIRST_PLAIN_TOKEN, model.n_vocab // 2)
        tokens = random.integers(low, model.n_vocab, n).tolist()
        resolved = model.resolve(GenerationOptions(mode=AR, max_tokens=1), n)
        (*_, (_, last)) = model.run_many([(tokens, resolved)], 1)
        speeds.append((last.stats.prompt_tokens - last.stats.cached_tokens) / last.stats.prompt_seconds)
    return PromptSpeed(n, speeds[1:])


@dataclass(frozen=True)
class Subject:
    """What was measured, in llama-bench's words."""

    model: str
    size: int
    params: int
    backend: str
    threads: int
    n_gpu_layers: int
    """-1: all."""

    @staticmethod
    def of(model: TriMode, devices: Sequence[str]) -> Subject:
        """Describe a loaded model; `devices`: the GPUs."""
        backend = ",".join(devices) if model.n_gpu_layers and devices else "CPU"
        # libllama knows no name for most sizes of this family.
        name = Path(model.model_path).stem if "?" in model.description else model.description
        return Subject(name, model.size_bytes, model.n_params, backend, model.n_threads, model.n_gpu_layers)


def table(subject: Subject, prompt: PromptSpeed, found: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows; of `found` those of the last prompts (all together), one request at a time."""
    titles = [
        "model",
        "size",
        "params",
        "backend",
        *(["ngl"] if subject.n_gpu_layers else []),
        "threads",
        "test",
        "t/s",
    ]
    head = [subject.model, memory_text(subject.size), _params(subject.params), subject.backend]
    head += [str(subject.n_gpu_layers)] if subject.n_gpu_layers else []
    rows = [[*head, str(subject.threads), f"pp{prompt.n_tokens}", _mean(prompt.tokens_per_second)]]
    last = found[-1].workload.category
    for line in found:
        if line.workload.category == last and line.workload.parallel == 1 and line.setting.mode != STOCK:
            test = f"tg{line.workload.max_tokens} {line.setting.name}"
            test += f" @ d{line.workload.prompt_length}" if line.workload.prompt_length else ""
            rows.append([*head, str(subject.threads), test, _mean(line.by_round)])
    return titles, rows


def _mean(speeds: Sequence[float]) -> str:
    return f"{statistics.mean(speeds):.2f} ± {statistics.stdev(speeds) if len(speeds) > 1 else 0.0:.2f}"


def _params(n: int) -> str:
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.2f} M"
