"""Make a wheel portable: without the requirement of llama-cpp-python, libgomp inside, named by what it needs.

    python tools/wheel/repair.py WHEEL DIRECTORY

The wheel must have been built with llama.cpp's libraries in it (native/llama_cpp.cmake). Prints its size by part.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

LIBRARIES = "pytrimode/lib/"


def main() -> None:
    """Repair one wheel."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    wheel, out = Path(sys.argv[1]), Path(sys.argv[2])
    with zipfile.ZipFile(wheel) as archive:
        if not any(name.startswith(LIBRARIES) for name in archive.namelist()):
            sys.exit(f"{wheel} has no {LIBRARIES}: build it with PYTRIMODE_LLAMA_CPP_SOURCE (tools/wheel/build.py)")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        run("wheel", "unpack", "--dest", str(work), str(wheel))
        tree = next(work.iterdir())
        without_requirement(next(tree.glob("*.dist-info/METADATA")))
        packed = work / "packed"
        packed.mkdir()
        run("wheel", "pack", "--dest-dir", str(packed), str(tree))
        run("auditwheel", "repair", "--wheel-dir", str(out), str(next(packed.glob("*.whl"))))
    repaired = max(out.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    print(sizes(repaired))


def without_requirement(metadata: Path) -> None:
    """Take the requirement of llama-cpp-python out: its libraries lie in this wheel."""
    text = metadata.read_text(encoding="utf-8")
    found = re.findall(r"^Requires-Dist: llama-cpp-python==.*\n", text, re.MULTILINE)
    if len(found) != 1:
        sys.exit(f"{metadata}: expected one requirement of llama-cpp-python, found {len(found)}")
    metadata.write_text(text.replace(found[0], ""), encoding="utf-8")


def sizes(wheel: Path) -> str:
    """Return the size of a wheel, packed and by what takes it unpacked."""
    parts: Counter[str] = Counter()
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            folder = "/".join(entry.filename.split("/")[:2])
            parts[folder if entry.file_size < 1 << 20 else entry.filename] += entry.file_size
    lines = [f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, unpacked {sum(parts.values()) / 1e6:.1f} MB"]
    lines += [f"  {size / 1e6:6.1f} MB  {name}" for name, size in parts.most_common(8)]
    return "\n".join(lines)


def run(module: str, *arguments: str) -> None:
    """Run a module of this Python; exit with its status where it fails."""
    status = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
