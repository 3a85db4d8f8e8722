"""Measure a GPU with one command, in the order of what is worth most.

python tools/gpu_suite --out DIR                      # the first GPU, 7 minutes
python tools/gpu_suite --out DIR --device CUDA1 --minutes 4 --only correctness passes
python tools/gpu_suite --out DIR --device RPC         # small shapes, on a process that stands for a device
python tools/gpu_suite --out DIR --device lavapipe    # the same on Mesa's software driver (tools/second_device.py)

Installs nothing. Each job is a process of its own with a time limit. Results go to DIR/results.jsonl as they come, and
behind each job into DIR/results.json and DIR/table.md; what jobs print goes to DIR/log.txt. Random models in the shapes
of the real ones are written to memory where there is room, and are gone at the end. Exits with 1 when a check failed or
a job broke.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_suite import device as devices
from gpu_suite.jobs import PARTS, Job, jobs
from gpu_suite.record import Context, Values, read_lines
from gpu_suite.table import table

GRACE = 8.0
"""Seconds that a job has, behind its limit, to end by itself."""
ROOM = 45 << 30
"""Bytes of the largest set of models there is at a time, and some more."""


def main() -> None:
    """Run the command, or one job of it."""
    args = _arguments()
    if args.job:
        _run_here(json.loads(args.job))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        _run_all(args)
    results = _merge(args.out)
    print((args.out / "table.md").read_text())
    broken = [j for j in results["jobs"] if j["status"] not in ("done", "not run: no time")]
    failed = [r for r in results["rows"] if r.get("ok") is False]
    sys.exit(1 if broken or failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-suite"), help="where results go (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=7.0, help="for all parts together (default: %(default)s)")
    parser.add_argument("--device", help=f"ggml's name, {devices.RPC} or {devices.SOFTWARE} (default: the first GPU)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument("--jobs", nargs="+", metavar="NAME", help="those alone whose name has one of these in it")
    parser.add_argument("--small", action="store_true", help="small shapes, as on RPC and lavapipe")
    parser.add_argument(
        "--scratch", type=Path, help="for models (default: /dev/shm where it has room, else a temporary directory)"
    )
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_all(args: argparse.Namespace) -> None:
    """Part after part; what has run so far is merged behind each job."""
    small = args.small or args.device in (devices.RPC, devices.SOFTWARE)
    lines = args.out / "results.jsonl"
    lines.write_text("")
    (args.out / "log.txt").write_text("")
    end = time.monotonic() + 60 * args.minutes
    with _scratch(args.scratch) as scratch:
        common = {"wanted": args.device, "small": small, "scratch": str(scratch), "path": str(lines)}
        if _start(Job("facts", "main.facts", seconds=60), common, args.out, time.monotonic() + 60) != "done":
            sys.exit((args.out / "log.txt").read_text())
        wanted = [job for part in args.only for job in jobs(small) if job.part == part and _asked(job, args.jobs)]
        shares = {part: PARTS[part] for part in args.only}
        with _preparing(wanted, common, args.out, end):
            for part in args.only:
                share = shares.pop(part)
                left = max(end - time.monotonic(), 0.0)
                part_end = time.monotonic() + left * share / (share + sum(shares.values()))
                for job in (j for j in wanted if j.part == part):
                    _start(job, common, args.out, part_end)
                    _merge(args.out)


def _asked(job: Job, names: list[str] | None) -> bool:
    return names is None or any(name in job.name for name in names)


@contextlib.contextmanager
def _preparing(wanted: list[Job], common: dict[str, Any], out: Path, end: float) -> Iterator[None]:
    """Beside the jobs, a process writes their models in the order in which they want them."""
    models = dict.fromkeys((j.arguments["shape"], j.arguments["type"]) for j in wanted if "shape" in j.arguments)
    job = Job("facts", "models.prepare", {"models": list(models)}, seconds=max(end - time.monotonic(), 0.0))
    with (out / "log.txt").open("a") as file:
        process = subprocess.Popen(_command(job, common | {"seconds": job.seconds}), stdout=file, stderr=file)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _command(job: Job, common: dict[str, Any]) -> list[str]:
    told = json.dumps(common | asdict(job) | {"name": job.name})
    return [sys.executable, str(Path(__file__).parent), "--job", told]


@contextlib.contextmanager
def _scratch(wanted: Path | None) -> Iterator[Path]:
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free >= ROOM
    with tempfile.TemporaryDirectory(dir=wanted or (memory if roomy else None), prefix="gpu-suite-") as directory:
        yield Path(directory)


def _start(job: Job, common: dict[str, Any], out: Path, part_end: float) -> str:
    """Run a job in a process and say how it ended, in the results too."""
    begin = time.monotonic()
    seconds = min(job.seconds, part_end - begin)
    if seconds <= 1:
        status = "not run: no time"
    else:
        print(f"{job.part}: {job.name}", flush=True)
        status = _wait(job, common | {"seconds": seconds}, out / "log.txt")
    entry = {"job": job.name, "what": "job", "part": job.part, "status": status, "seconds": time.monotonic() - begin}
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    if status not in ("done", "not run: no time"):
        print(f"    {status}", flush=True)
    return status


def _wait(job: Job, common: dict[str, Any], log: Path) -> str:
    with log.open("a") as file:
        file.write(f"\n== {job.name}\n")
        file.flush()
        process = subprocess.Popen(
            _command(job, common),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | job.environment,
            start_new_session=True,
        )
        try:
            code = process.wait(common["seconds"] + GRACE)
        except subprocess.TimeoutExpired:
            return "stopped at its limit"
        finally:
            with contextlib.suppress(ProcessLookupError):  # and what it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "done" if code == 0 else f"ended with {code}, see log.txt"


def _run_here(job: dict[str, Any]) -> None:
    """One job, in this process. llama.cpp's own programs and our engine never share one."""
    deadline = time.monotonic() + job["seconds"]
    servers = devices.prepare(job["wanted"])
    try:
        name = job["wanted"] or ""
        if not job["function"].endswith(".stock"):
            from pytrimode import _native

            name = devices.choose(job["wanted"], _native.devices())["name"]
        module, function = job["function"].split(".")
        context = Context(name, job["small"], Path(job["scratch"]), deadline, Path(job["path"]), job["name"])
        getattr(importlib.import_module(f"gpu_suite.{module}"), function)(context, **job["arguments"])
        code = 0
    except Exception:
        traceback.print_exc()
        code = 1
    for server in servers:
        server.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a device that is gone ends the process where its buffers are freed


def facts(context: Context) -> None:
    """Record what stands over the table."""
    from pytrimode import _native

    found = next(d for d in _native.devices() if d["name"] == context.device)
    context.record("facts", **devices.facts(found), date=time.strftime("%Y-%m-%d"))


def _merge(out: Path) -> dict[str, list[Values]]:
    """results.json and table.md of the lines so far."""
    lines = read_lines(out / "results.jsonl")
    results = {
        "facts": [r for r in lines if r["what"] == "facts"],
        "jobs": [r for r in lines if r["what"] == "job"],
        "rows": [r for r in lines if r["what"] not in ("facts", "job")],
    }
    (out / "results.json").write_text(json.dumps(results, indent=1))
    (out / "table.md").write_text(table(results))
    return results
