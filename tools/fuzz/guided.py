"""Feeds a reader with inputs that coverage leads to what has not been run yet: Atheris, on libFuzzer.

    pip install atheris
    python -m tools.fuzz.guided gguf --seconds 600
    python -m tools.fuzz.guided all --seconds 120

Inputs that reach something new are kept in build/fuzz/TARGET/corpus for the next time; findings are written to
build/fuzz/TARGET. What counts as one: `python -m tools.fuzz --help`. Exits with 1 when there is a finding. Atheris has
wheels for Linux; `python -m tools.fuzz` runs everywhere.
"""

from __future__ import annotations

import argparse
import gc
import random
import subprocess
import sys
import types
from pathlib import Path

from tools.fuzz.__main__ import MEMORY_BYTES, SECONDS, known
from tools.fuzz.mutate import mutated
from tools.fuzz.targets import TARGETS

OURS = ("pytrimode", "jinja2", "json")
"""Packages of which coverage is told."""


def _instrument() -> None:
    import atheris

    for found in gc.get_objects():
        if isinstance(found, types.FunctionType) and str(found.__module__).split(".")[0] in OURS:
            atheris.instrument_func(found)


def guided(name: str, seconds: int, seed: int) -> None:
    """Fuzz a target; ends the process, with another code than 0 at the first finding."""
    import atheris

    target = TARGETS[name]
    seeds = [*target.seeds(), *known(name)]
    for data in seeds:
        target.check(data)  # imports what is imported at the first use
    _instrument()
    folder = Path("build/fuzz") / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (folder / "corpus" / f"seed-{number}").write_bytes(data)

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        chance = random.Random(number)
        changed: bytes = mutated([data], chance) if chance.random() < 0.5 else atheris.Mutate(data, max_size)
        return changed[:max_size]

    options = {
        "max_total_time": seconds, "seed": seed + 1, "timeout": SECONDS, "rss_limit_mb": MEMORY_BYTES >> 20,
        "max_len": max(4096, 2 * max(map(len, seeds))), "artifact_prefix": f"{folder}/", "print_final_stats": 1,
    }  # fmt: skip
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(folder / "corpus")], target.check, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Fuzz what is asked for, each target in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="for each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    if args.target != "all":
        guided(args.target, args.seconds, args.seed)
        return
    n_findings = 0
    for name in TARGETS:
        command = [sys.executable, "-m", "tools.fuzz.guided", name, "--seconds", str(args.seconds)]
        n_findings += subprocess.run([*command, "--seed", str(args.seed)], check=False).returncode != 0
    sys.exit(1 if n_findings else 0)


if __name__ == "__main__":
    main()
