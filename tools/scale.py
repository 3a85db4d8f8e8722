#!/usr/bin/env python3
"""Convert a synthetic checkpoint with the shapes of a real one: seconds, peak memory and size of each type.

    python -m tools.scale 3B /big/disk --types q8_0 q4_k_m
    python -m tools.scale 3B /big/disk --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp --rounds 3
    python -m tools.scale 14B /big/disk --types q4_k_m --generate 8

With --llama-cpp, llama.cpp's own path (convert_hf_to_gguf.py, then llama_model_quantize) takes its turns on the same
weights, and the files are compared tensor by tensor. The script is in llama-cpp-python's source distribution:
`pip download --no-binary llama-cpp-python --no-deps llama-cpp-python==0.3.36`; it needs the tools of the tests, and
sentencepiece.

Every command starts with its input out of the page cache and nothing left to write; "on the disk" is when all that it
wrote is there, whether it waited for that or not. Needs room for the checkpoint (7.7 GB for 3B, 27 GB for 14B) and one
output, with --llama-cpp for three more of the checkpoint. The weights are random; all is removed at the end unless
--keep is given, which keeps the checkpoints.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.synthetic import make_checkpoint
from tools.llama_cpp_path import agreement, convert_command, ministral_checkpoint, quantize_command

SHAPES = {
    "3B": {"hidden": 3072, "layers": 26, "ffn": 9216, "rope_theta": 1e6, "shards": 2},
    "8B": {"hidden": 4096, "layers": 34, "ffn": 14336, "rope_theta": 1e6, "shards": 4},
    "14B": {"hidden": 5120, "layers": 40, "ffn": 16384, "rope_theta": 1e9, "shards": 6},
}
OURS, STOCK = "trimode-convert", "llama.cpp"


@dataclass(frozen=True)
class Measured:
    """What one or more commands took: seconds until they ended, and until all was on the disk; peak memory in MiB."""

    seconds: float
    on_disk: float
    peak: float

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.seconds + other.seconds, self.on_disk + other.on_disk, max(self.peak, other.peak))


def measured(command: list[str], inputs: Path) -> Measured:
    """Run a command that must succeed; `inputs`, a file or directory, is not in the page cache when it starts."""
    os.sync()
    for path in inputs.rglob("*") if inputs.is_dir() else [inputs]:
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    os.sync()
    if status:
        raise SystemExit(f"{said}\n{' '.join(command[:6])} failed")
    return Measured(seconds, time.monotonic() - started, usage.ru_maxrss / 1024)


class Comparison:
    """The ways from one checkpoint to a file, and where their files are."""

    def __init__(self, size: str, directory: Path, llama_cpp: Path | None) -> None:
        self.size = size
        self.llama_cpp = llama_cpp
        self.checkpoint = directory / f"synthetic-{size}"
        self.renamed = directory / f"synthetic-{size}-ministral"
        self.ours = directory / f"synthetic-{size}.gguf"
        self.stock = directory / f"synthetic-{size}-stock.gguf"
        self.between = directory / f"synthetic-{size}-bf16.gguf"

    def prepare(self) -> None:
        """Make the checkpoints that are not there, in a process of its own.

        What this one has ever held would count as the peak of the commands that it starts (man 2 getrusage).
        """
        process = multiprocessing.get_context("spawn").Process(target=self.make)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit("the checkpoint could not be made")

    def make(self) -> None:
        """Make the checkpoints that are not there."""
        if not self.checkpoint.exists():
            make_checkpoint(self.checkpoint, heads=32, kv_heads=8, head_dim=128, vocab=131072, original_max=16384,
                            max_position=262144, **SHAPES[self.size])  # fmt: skip
        if self.llama_cpp and not self.renamed.exists():
            ministral_checkpoint(self.checkpoint, self.renamed)

    def run(self, outtype: str) -> Iterator[tuple[str, Measured]]:
        """One round: ours, and with --llama-cpp the other."""
        command = [sys.executable, "-m", "pytrimode.convert.cli", str(self.checkpoint), str(self.ours)]
        yield OURS, measured([*command, f"--{outtype}", "-q", "--force"], self.checkpoint)
        if self.llama_cpp is None:
            return
        if outtype in ("q8_0", "bf16", "f16", "f32"):
            yield STOCK, measured(convert_command(self.llama_cpp, self.renamed, self.stock, outtype), self.renamed)
            return
        first = measured(convert_command(self.llama_cpp, self.renamed, self.between, "bf16"), self.renamed)
        second = measured(quantize_command(self.between, self.stock, outtype), self.between)
        self.between.unlink()
        yield STOCK, first + second

    def clean(self, *, keep: bool) -> None:
        """Remove the files, and the checkpoints unless they are to be kept."""
        for path in (self.ours, self.stock, self.between):
            path.unlink(missing_ok=True)
        for path in () if keep else (self.checkpoint, self.renamed):
            shutil.rmtree(path, ignore_errors=True)


def compare(work: Comparison, outtype: str, rounds: int) -> None:
    """Print the rows of a type, and with both ways how they compare."""
    found: dict[str, list[Measured]] = {}
    for _ in range(rounds):
        for way, result in work.run(outtype):
            found.setdefault(way, []).append(result)
            size = (work.ours if way == OURS else work.stock).stat().st_size / 1e9
            print(
                f"| {work.size} | {outtype} | {way} | {result.seconds:.1f} | {result.on_disk:.1f} "
                f"| {result.peak:.0f} | {size:.2f} |",
                flush=True,
            )
    if STOCK not in found:
        return
    for text, of in (("seconds", lambda one: one.seconds), ("on the disk", lambda one: one.on_disk)):
        ratios = [of(stock) / of(ours) for ours, stock in zip(found[OURS], found[STOCK], strict=True)]
        print(
            f"{outtype}, {text}: {statistics.median(ratios):.2f}x as fast ({min(ratios):.2f} to {max(ratios):.2f}, "
            f"{rounds} rounds)"
        )
    print(f"{outtype}: {agreement(work.ours, work.stock)}", flush=True)


def generate(work: Comparison, n_tokens: int) -> None:
    """Let the converted model say something on the CPU."""
    command = [sys.executable, "-m", "pytrimode", "generate", str(work.ours), "-p", "The quick brown fox", "-c", "128"]
    result = measured([*command, "-n", str(n_tokens), "--mode", "ar", "--ignore-eos"], work.ours)
    print(f"{n_tokens} tokens on the CPU: {result.seconds:.1f} s with loading, {result.peak:.0f} MiB", flush=True)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("directory", type=Path, help="a directory with enough room")
    parser.add_argument("--types", nargs="+", default=["q8_0", "q4_k_m"])
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="a source tree of llama.cpp to compare with")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--generate", type=int, metavar="N", help="let each file generate N tokens")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints")
    arguments = parser.parse_args()
    work = Comparison(arguments.size, arguments.directory, arguments.llama_cpp)
    try:
        work.prepare()
        print("| shape | type | way | seconds | on the disk | peak MiB | GB |\n|---|---|---|---|---|---|---|")
        for outtype in arguments.types:
            compare(work, outtype, arguments.rounds)
            if arguments.generate:
                generate(work, arguments.generate)
    finally:
        work.clean(keep=arguments.keep)


if __name__ == "__main__":
    main()
