"""The default number of threads: cores that this process may have, on recorded topologies and on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytrimode import TriMode, _native
from pytrimode.threads import (
    SPIN_COUNT,
    WAITING_VARIABLES,
    _mac_cores,
    cgroup_quota,
    default_threads,
    thread_default,
)


@dataclass(frozen=True)
class Machine:
    """What /sys says of the processors of a machine, as recorded with `lscpu -e` and from cpu_capacity.

    Attributes:
        siblings: the logical processors of each core.
        performance: /sys/devices/cpu_core/cpus, of hybrid Intel processors.
        capacity: cpu_capacity of each processor, of ARM ones.
    """

    siblings: tuple[tuple[int, ...], ...]
    performance: str = ""
    capacity: Mapping[int, int] = field(default_factory=dict)

    def write(self, root: Path) -> Path:
        """Its tree under `root`."""
        processors = sorted(cpu for core in self.siblings for cpu in core)
        directory = root / "sys/devices/system/cpu"
        for core in self.siblings:
            for cpu in core:
                topology = directory / f"cpu{cpu}" / "topology"
                topology.mkdir(parents=True)
                (topology / "core_cpus_list").write_text(",".join(map(str, core)) + "\n")
                if cpu in self.capacity:
                    (directory / f"cpu{cpu}" / "cpu_capacity").write_text(f"{self.capacity[cpu]}\n")
        (directory / "online").write_text(f"0-{processors[-1]}\n")
        if self.performance:
            (root / "sys/devices/cpu_core").mkdir(parents=True)
            (root / "sys/devices/cpu_core/cpus").write_text(self.performance + "\n")
        return root


def pairs(n: int) -> tuple[tuple[int, ...], ...]:
    """Siblings are neighbours, as Intel's clients number them."""
    return tuple((2 * i, 2 * i + 1) for i in range(n))


def halves(n: int) -> tuple[tuple[int, ...], ...]:
    """The second threads come behind all first ones, as AMD's and servers are numbered."""
    return tuple((i, i + n) for i in range(n))


def single(first: int, n: int) -> tuple[tuple[int, ...], ...]:
    return tuple((i,) for i in range(first, first + n))


MACHINES = {
    "Core i9-13900K, 8 P with SMT and 16 E": (Machine(pairs(8) + single(16, 16), "0-15"), 8),
    "Core i5-1240P, 4 P with SMT and 8 E": (Machine(pairs(4) + single(8, 8), "0-7"), 4),
    "Core Ultra 7 258V, 4 P and 4 LP-E": (Machine(single(0, 8), "0-3"), 4),
    "Core i7-9700K, no SMT": (Machine(single(0, 8)), 8),
    "Ryzen 9 7950X": (Machine(halves(16)), 16),
    "two EPYC 7543": (Machine(halves(64)), 64),
    "RK3588, 4 A55 and 4 A76": (Machine(single(0, 8), capacity={i: 414 if i < 4 else 1024 for i in range(8)}), 4),
    "Snapdragon 8 Gen 2, 3 A510, 4 A7xx, 1 X3": (
        Machine(single(0, 8), capacity={**dict.fromkeys(range(3), 326), **dict.fromkeys(range(3, 7), 862), 7: 1024}),
        5,
    ),
    "Raspberry Pi 5": (Machine(single(0, 4), capacity=dict.fromkeys(range(4), 1024)), 4),
    "Apple M1 under Linux, 4 Icestorm and 4 Firestorm": (
        Machine(single(0, 8), capacity={i: 459 if i < 4 else 1024 for i in range(8)}),
        4,
    ),
    "a virtual machine of 2": (Machine(single(0, 2)), 2),
}


@pytest.mark.parametrize("name", MACHINES)
def test_one_thread_for_each_fast_core(tmp_path: Path, name: str) -> None:
    machine, expected = MACHINES[name]
    everything = {cpu for core in machine.siblings for cpu in core}
    assert thread_default(machine.write(tmp_path), everything).count == expected


@pytest.mark.parametrize(
    ("name", "mask", "expected"),
    [
        ("Ryzen 9 7950X", {0, 16}, 1),  # both threads of one core
        ("Ryzen 9 7950X", {0, 1, 2, 16}, 3),
        ("Core i9-13900K, 8 P with SMT and 16 E", {0, 1, 2, 16, 17}, 2),  # of the P cores two
        ("Core i9-13900K, 8 P with SMT and 16 E", {16, 17, 18}, 3),  # E cores only
        ("RK3588, 4 A55 and 4 A76", {0, 1}, 2),
        ("RK3588, 4 A55 and 4 A76", {3, 4}, 1),
    ],
)
def test_affinity_mask(tmp_path: Path, name: str, mask: set[int], expected: int) -> None:
    found = thread_default(MACHINES[name][0].write(tmp_path), mask)
    assert found.count == expected and found.usable == len(mask)
    assert f"{len(mask)} in the affinity mask" in str(found)


def test_without_topology_every_processor_is_a_core(tmp_path: Path) -> None:
    assert thread_default(tmp_path, range(os.cpu_count() or 1)).count == os.cpu_count()


def group(root: Path, cgroup: str, files: Mapping[str, str]) -> Path:
    """A machine of 8 cores whose /proc/self/cgroup and /sys/fs/cgroup are these."""
    Machine(single(0, 8)).write(root)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


V1 = "11:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"
V1_DIRECTORY = "cpu,cpuacct/docker/ab/"
QUOTAS = {
    "v2, in a container": ("0::/\n", {"cpu.max": "250000 100000"}, 2.5, 2),
    "v2, no limit": ("0::/user.slice\n", {"user.slice/cpu.max": "max 100000"}, None, 8),
    "v2, the group above is tighter": (
        "0::/kube/pod/box\n",
        {"kube/pod/box/cpu.max": "400000 100000", "kube/pod/cpu.max": "300000 100000", "kube/cpu.max": "max 100000"},
        3.0,
        3,
    ),
    "v2, less than one": ("0::/\n", {"cpu.max": "50000 100000"}, 0.5, 1),
    "v2, more than there is": ("0::/\n", {"cpu.max": "6400000 100000"}, 64.0, 8),
    "v2, seen from outside its namespace": ("0::/../../box\n", {"cpu.max": "200000 100000"}, 2.0, 2),
    "v1": (V1, {V1_DIRECTORY + "cpu.cfs_quota_us": "350000", V1_DIRECTORY + "cpu.cfs_period_us": "100000"}, 3.5, 3),
    "v1, no limit": (
        V1, {V1_DIRECTORY + "cpu.cfs_quota_us": "-1", V1_DIRECTORY + "cpu.cfs_period_us": "100000"}, None, 8,
    ),
    "v1, mounted in the container": (
        V1, {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2.0, 2,
    ),
    "v1, the controller alone": (
        "2:cpuacct:/\n1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0, 4,
    ),
    "broken": ("0::/\nnonsense\n", {"cpu.max": "many"}, None, 8),
    "none": ("", {}, None, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTAS)
def test_cgroup_quota(tmp_path: Path, name: str) -> None:
    cgroup, files, quota, expected = QUOTAS[name]
    root = group(tmp_path, cgroup, files)
    assert cgroup_quota(root) == quota
    found = thread_default(root, range(8))
    assert found.count == expected and found.quota == quota


def test_macs_tell_their_performance_cores() -> None:
    assert _mac_cores({"hw.perflevel0.physicalcpu": 8, "hw.physicalcpu": 10}.get) == 8  # type: ignore[arg-type]
    assert _mac_cores(lambda name: {"hw.physicalcpu": 6}.get(name, 0)) == 6  # Intel


def test_the_engine_takes_what_taskset_leaves(q8_gguf: Path) -> None:
    """A process of its own: the mask of this one stays."""
    script = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from pytrimode import TriMode; model = TriMode(sys.argv[1], n_ctx=256); print(model.n_threads)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(q8_gguf)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_threads_of_prompts(q8_gguf: Path) -> None:
    for options, threads in (({}, (default_threads(),) * 2), ({"n_threads": 3}, (3, 3)),
                             ({"n_threads": 1, "n_threads_batch": 2}, (1, 2))):  # fmt: skip
        with TriMode(q8_gguf, n_ctx=256, **options) as model:
            assert (model.n_threads, model.n_threads_batch) == threads


def test_bits_do_not_depend_on_threads(q8_gguf: Path) -> None:
    tokens = [1, *range(200, 620)]
    found = []
    for n_threads, n_threads_batch in ((1, 1), (2, 2), (1, 3)):
        with TriMode(q8_gguf, n_ctx=1024, n_threads=n_threads, n_threads_batch=n_threads_batch) as model:
            text = list(model.generate(tokens, max_tokens=40, temperature=0.0, mode="self-spec"))
            found.append((text, model.logits(tokens).tobytes(), model.logits(tokens, block_start=400).tobytes()))
    assert all(other == found[0] for other in found)


# --- Waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ({}, f"GOMP_SPINCOUNT = '{SPIN_COUNT}'"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
    ],
)
def test_threads_that_wait_go_to_sleep_unless_the_user_wants_otherwise(user: dict[str, str], line: str) -> None:
    """As GNU's OpenMP says when ggml loads it; nothing is left in the environment of child processes."""
    environment = {k: v for k, v in os.environ.items() if k not in WAITING_VARIABLES} | user
    command = [sys.executable, "-c", "import os, pytrimode; print(os.environ.get('GOMP_SPINCOUNT', ''))"]
    environment["OMP_DISPLAY_ENV"] = "verbose"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("ggml was built without GNU's OpenMP")
    assert line in done.stderr
    assert done.stdout.strip() == user.get("GOMP_SPINCOUNT", "")


def run_passes(choice: _native.ThreadChoice, seconds: Callable[[int], float], total: float) -> float:
    """Passes of one row for so many seconds, `seconds` by the number of threads; their share with one thread."""
    passed = one = 0.0
    while passed < total:
        n = choice.choose(1)
        choice.observe(1, seconds(n))
        passed += seconds(n)
        one += seconds(n) * (n == 1)
    return one / passed


def test_one_thread_where_it_is_as_fast() -> None:
    choice = _native.ThreadChoice(4, True)
    assert choice.choose(1) == 4
    assert run_passes(choice, lambda n: 1e-3, 20) > 0.9
    # Other rows are another matter.
    assert choice.choose(16) == 4


def test_all_threads_where_they_are_faster() -> None:
    choice = _native.ThreadChoice(4, True)
    assert run_passes(choice, lambda n: 3e-3 / n, 60) < 0.04


def test_the_choice_follows_the_machine() -> None:
    choice = _native.ThreadChoice(2, True)
    run_passes(choice, lambda n: 2e-3 / n, 30)
    assert run_passes(choice, lambda n: 3e-3 if n == 1 else 0.1, 60) > 0.5  # neighbours have come
    assert run_passes(choice, lambda n: 2e-3 / n, 60) < 0.5  # and gone


def test_trials_of_long_passes_are_rare_and_what_the_user_said_stays() -> None:
    assert run_passes(_native.ThreadChoice(4, True), lambda n: 2.0 / n, 600) < 0.03
    assert run_passes(_native.ThreadChoice(4, False), lambda n: 1e-3, 10) == 0.0
