"""How long a model takes to load, weights repacked, against a load that only reads all pages of the file.

    python benchmarks/loading.py model.gguf [--rounds 5]

Every load is a process of its own, and they take turns; the file lies in the page cache after the first. Printed:
seconds (median, lowest and highest in brackets), the ratio round by round, and resident memory against the file's size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

LOAD = """
import resource, sys, time
from pytrimode import TriMode
begin = time.perf_counter()
model = TriMode(sys.argv[1], n_ctx=512, repack=sys.argv[2] == "repack")
if sys.argv[2] != "repack":
    import mmap
    with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        sum(data[i] for i in range(0, len(data), mmap.PAGESIZE))
seconds = time.perf_counter() - begin
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(seconds, int(status["VmRSS"].split()[0]) * 1024)
"""


def load(path: str, how: str) -> tuple[float, int]:
    """Seconds, and bytes of resident memory after loading."""
    printed = subprocess.run([sys.executable, "-c", LOAD, path, how], check=True, capture_output=True, text=True)
    seconds, resident = printed.stdout.split()
    return float(seconds), int(resident)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    load(arguments.model, "plain")
    size = Path(arguments.model).stat().st_size
    rounds = [(load(arguments.model, "repack"), load(arguments.model, "plain")) for _ in range(arguments.rounds)]
    for name, values in {
        "repacked, s": [repacked[0] for repacked, _ in rounds],
        "plain, all pages touched, s": [plain[0] for _, plain in rounds],
        "ratio": [repacked[0] / plain[0] for repacked, plain in rounds],
        "resident memory of file": [repacked[1] / size for repacked, _ in rounds],
    }.items():
        print(f"{name}: {median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
