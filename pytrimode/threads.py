"""How many CPU threads are used unless a user says so: one for each core that this process may really have.

    min(physical cores, of the fast kind where there are two; the affinity mask; the floor of the cgroup's quota)

A second thread on a core (SMT) brings nothing where all wait for memory, a slow core makes the fast ones wait, and
threads beyond a quota make the kernel stop all of them for the rest of a period.

Sources: Linux `Documentation/ABI/testing/sysfs-devices-system-cpu` (topology, cpu_capacity), `/sys/devices/cpu_core`
(the PMU of Intel's performance cores, which perf reads too), `Documentation/admin-guide/cgroup-v2.rst` (cpu.max),
`Documentation/scheduler/sched-bwc.rst` (cpu.cfs_quota_us); macOS: `man 3 sysctl`, hw.perflevel0.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CAPACITY_OF_FAST = 0.5
"""Of the biggest core's: with less, a core is of the slow kind (little cores have a tenth to 0.46 of it)."""
SPIN_VARIABLE = "GOMP_SPINCOUNT"
WAITING_VARIABLES = (SPIN_VARIABLE, "OMP_WAIT_POLICY")
SPIN_COUNT = 10000
"""Times that a waiting thread looks before it sleeps: a few tenths of a millisecond, longer than threads that all run
wait for each other, and much shorter than the kernel lets another program have the processor."""
_CPU = "sys/devices/system/cpu"
_V1_CONTROLLERS = ("cpu,cpuacct", "cpuacct,cpu", "cpu")


@dataclass(frozen=True)
class ThreadDefault:
    """The default number of threads, and what it follows from.

    Attributes:
        count: threads, at least 1.
        processors: logical processors of the machine.
        usable: of these, those that the affinity mask leaves.
        cores: physical cores among the usable ones, of the fast kind where there are two.
        quota: processors' worth of time that the cgroup allows, None for no limit.
    """

    count: int
    processors: int
    usable: int
    cores: int
    quota: float | None

    def __str__(self) -> str:
        parts = [f"{self.processors} logical processors", f"{self.cores} cores to use"]
        if self.usable < self.processors:
            parts.append(f"{self.usable} in the affinity mask")
        if self.quota is not None:
            parts.append(f"a cgroup quota of {self.quota:g}")
        return f"{self.count} ({', '.join(parts)})"


@contextmanager
def bounded_waiting() -> Iterator[None]:
    """While the native library is loaded: threads that wait for others go to sleep soon, not after milliseconds.

    ggml's threads meet at a barrier behind every operation. GNU's OpenMP lets those that wait there spin for
    milliseconds, which is what the one that still works needs of the processor when other programs are busy. The
    library reads the variable when it is loaded; what the user has set stays, and nothing is left for child processes.
    """
    if any(name in os.environ for name in WAITING_VARIABLES):
        yield
        return
    os.environ[SPIN_VARIABLE] = str(SPIN_COUNT)
    try:
        yield
    finally:
        os.environ.pop(SPIN_VARIABLE, None)


def default_threads() -> int:
    """Return the number for engine, benchmark, encoding, evaluation and server."""
    return thread_default().count


def thread_default(root: Path = Path("/"), affinity: Collection[int] | None = None) -> ThreadDefault:
    """Return the default with its reasons. For tests: `root` holds other `sys` and `proc` trees, `affinity` another
    mask.
    """
    online = _cpu_list(_read(root / _CPU / "online")) or set(range(os.cpu_count() or 1))
    usable = (_affinity() if affinity is None else set(affinity)) & online or online
    fast = _fast(root, usable)
    cores = _mac_cores() or len({_core(root, cpu) for cpu in fast})
    quota = cgroup_quota(root)
    limit = cores if quota is None else min(cores, int(quota))
    return ThreadDefault(max(limit, 1), len(online), len(usable), cores, quota)


def _affinity() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _read(path: Path) -> str:
    """Without its line end; empty where there is no such file."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _cpu_list(text: str) -> set[int]:
    """ "0-3,8" -> {0, 1, 2, 3, 8}."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return set()
        found.update(range(int(first), int(last or first) + 1))
    return found


def _core(root: Path, cpu: int) -> frozenset[int]:
    """Return the logical processors of a processor's core; itself alone where nothing tells."""
    topology = root / _CPU / f"cpu{cpu}" / "topology"
    siblings = _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")
    return frozenset(_cpu_list(siblings) or {cpu})


def _fast(root: Path, usable: set[int]) -> set[int]:
    """Return the processors of the fast kind, or all where there is one kind."""
    performance = _cpu_list(_read(root / "sys/devices/cpu_core/cpus")) & usable
    if performance:
        return performance
    capacity = {cpu: _read(root / _CPU / f"cpu{cpu}" / "cpu_capacity") for cpu in usable}
    if not all(value.isdigit() for value in capacity.values()):
        return usable
    most = max(int(value) for value in capacity.values())
    return {cpu for cpu, value in capacity.items() if int(value) >= CAPACITY_OF_FAST * most}


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that the cgroup of this process and those above it allow; None for no limit."""
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in [controllers] if not controllers else _V1_CONTROLLERS:
            read = _v2_quota if not controllers else _v1_quota
            quotas += [read(directory) for directory in _upwards(root / "sys/fs/cgroup" / mount, path)]
    found = [quota for quota in quotas if quota is not None]
    return min(found) if found else None


def _upwards(mount: Path, path: str) -> list[Path]:
    """Return a group's directory, those of all groups above it, and the mount: in a container it may be the group's
    own.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _v2_quota(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _v1_quota(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """None for "max", for -1 (no limit), and for what is missing."""
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _mac_cores(sysctl: Callable[[str], int] | None = None) -> int:
    """Return the number of performance cores, or all physical ones, of a Mac; 0 elsewhere."""
    if sysctl is None:
        if sys.platform != "darwin":
            return 0
        sysctl = _sysctl
    return sysctl("hw.perflevel0.physicalcpu") or sysctl("hw.physicalcpu")


def _sysctl(name: str) -> int:
    """Return an integer that the kernel of a Mac tells; 0 for a name that it does not know."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    failed = library.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return 0 if failed else value.value
