"""Feeds readers with good inputs that were changed by chance, from their seeds and from tools/fuzz/corpus.

    python -m tools.fuzz gguf --seconds 120
    python -m tools.fuzz all --seconds 60 --seed 7

A finding is an exception that no reader may raise, or an input that takes more than ten seconds or two GiB. It is
written to build/fuzz/TARGET and told as a line of JSON; each becomes a file in tools/fuzz/corpus/TARGET, which the
tests run. The same seed gives the same inputs. Exits with 1 when there is a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

from tools.fuzz import kept
from tools.fuzz.mutate import mutated
from tools.fuzz.targets import TARGETS, Target

SECONDS, MEMORY_BYTES = 10, 2 << 30


class _TooLong(Exception):  # noqa: N818
    pass


def _give_up(*_: object) -> None:
    raise _TooLong(f"more than {SECONDS} s")


def known(name: str) -> list[bytes]:
    """Return the inputs that once were findings, and others that are kept."""
    folder = kept.CORPUS / name
    files = [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return files + kept.read(name)


def fault(target: Target, data: bytes) -> str:
    """Return the last lines of what is wrong with a reader; "" where it takes or refuses the input."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.check(data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "".join(traceback.format_exception(error)[-2:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def fuzz(name: str, seconds: float, seed: int) -> tuple[int, int]:
    """Fuzz a target; how many inputs there were, and how many findings of different kinds."""
    target, chance = TARGETS[name], random.Random(f"{name} {seed}")
    seeds = [*target.seeds(), *known(name)]
    kinds: set[str] = set()
    n, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(seeds, chance)
        n += 1
        wrong = fault(target, data)
        if wrong and wrong not in kinds:
            kinds.add(wrong)
            path = Path("build/fuzz") / name / hashlib.sha256(data).hexdigest()[:16]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(json.dumps({"target": name, "input": str(path), "fault": wrong}), flush=True)
    return n, len(kinds)


def main() -> None:
    """Fuzz what is asked for; a line of JSON for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="for each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, _give_up)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    n_findings = 0
    for name in TARGETS if args.target == "all" else [args.target]:
        n, found = fuzz(name, args.seconds, args.seed)
        n_findings += found
        print(json.dumps({"target": name, "inputs": n, "findings": found}), flush=True)
    sys.exit(1 if n_findings else 0)


if __name__ == "__main__":
    main()
