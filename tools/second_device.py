#!/usr/bin/env python3
"""Hold a device against the CPU: logits, answers in every mode, offload, cache types, memory, bytes per step.

python tools/second_device.py                    # the first GPU that ggml finds, with the shipped checkpoint
python tools/second_device.py --device Vulkan0 --prompts 100
python tools/second_device.py --software         # a device where there is none: Mesa's software driver, lavapipe
python tools/second_device.py --rpc              # two more: processes of their own behind ggml's RPC backend

`tools/build_vulkan.sh` makes an environment with ggml's Vulkan and RPC backends. Mesa 22.3 crashes in lavapipe: on
Debian 12 take mesa-vulkan-drivers from its backports (25.0). --software takes 10 minutes. Exits with 1 when something
is out of tolerance.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MODES = ("ar", "self-spec", "diffusion")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
SAME_ANSWERS = 0.95
"""Share of greedy answers that must be those of the CPU; the others must part at a near-tie."""
GREEDY_BYTES, SAMPLED_BYTES = 12, 128 * 8
"""What comes back for a row: argmax, its logit and probability; candidates with their logits."""
HUGE_CONTEXT = 16_000_000
"""Tokens; 92 GiB of F32 cache with the shipped checkpoint, 7.6 GiB a tensor."""
NEAR_TIE = 0.05
"""Of the range of a row's logits: by how much the two best may differ where answers part."""


@dataclass
class Row:
    """A line of the table."""

    what: str
    found: str
    ok: bool | None = None

    def __str__(self) -> str:
        """In Markdown."""
        return f"| {self.what} | {self.found} | {'' if self.ok is None else 'ok' if self.ok else 'FAILED'} |"


def difference(found: NDArray, expected: NDArray) -> float:
    """Root of the mean squared difference, relative to that of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@dataclass(frozen=True)
class Offload:
    """Which layers are where."""

    name: str
    n_gpu_layers: int = 0
    devices: tuple[str, ...] = ()


CPU = Offload("CPU")


class Comparison:
    """One model file on devices and on the CPU."""

    def __init__(self, gguf: Path, devices: list[str]) -> None:
        from pytrimode import _native
        from pytrimode.files.model_file import find_drafter_lora

        self.native = _native
        self.gguf, self.lora = str(gguf), str(find_drafter_lora(gguf, "auto"))
        self.models: dict[Offload, _native.Model] = {}
        self.answered: dict[tuple[Offload, str], list[list[int]]] = {}
        n_layer = self.model(CPU).n_layer
        first = tuple(devices[:1])
        self.whole = Offload("all layers", -1, first)
        self.offloads = [self.whole, Offload(f"{n_layer // 2} of {n_layer} layers", n_layer // 2, first)]
        if len(devices) > 1:
            self.offloads.append(Offload("two devices", -1, tuple(devices[:2])))

    def model(self, offload: Offload) -> _native.Model:  # noqa: F821
        """Return a model, loaded once for each offload; on the CPU with ggml's products, as ours round differently."""
        if offload not in self.models:
            self.models[offload] = self.native.Model(
                self.gguf, lora_path=self.lora, n_gpu_layers=offload.n_gpu_layers, devices=list(offload.devices),
                repack=False,
            )  # fmt: skip
        return self.models[offload]

    def engine(self, offload: Offload, cache: str = "f16", n_ctx: int = 1024, **options: object):
        """Return an engine over it."""
        return self.native.Engine(self.model(offload), n_ctx=n_ctx, n_threads=1, type_k=cache, type_v=cache, **options)

    def logits(self, cache_types: tuple[str, ...] = CACHE_TYPES) -> list[Row]:
        """Causal, block and draft rows, below and beyond one page, for every offload and cache type.

        Against a device's graphs on the CPU: its own attention is another, which does not round queries to F16.

        Of a file with F16 weights: products with quantized ones round activations in a way of each backend's own,
        which alone makes 2e-2. A cache type that itself changes the logits of the CPU by more may differ by as much.
        """
        from pytrimode.checks.self_test import TOLERANCE

        tokens = np.random.default_rng(1).integers(130, self.model(CPU).n_vocab, 300).tolist()
        begin = 268

        def rows_of(engine) -> dict[str, NDArray]:
            """Return all rows but the first of each kind. The blocks find what stands before them in the cache."""
            causal = engine.logits(tokens, first=1)
            blocks = {kind: engine.logits(tokens, begin, kind == "draft", begin) for kind in ("block", "draft")}
            return {"causal": causal} | {kind: np.vstack([causal[: begin - 1], rows]) for kind, rows in blocks.items()}

        rows = []
        exact = None
        for cache in cache_types:
            cpu = self.engine(CPU, cache, device_graphs=True)
            expected = rows_of(cpu)
            exact = exact or expected
            own = max(difference(expected[kind], exact[kind]) for kind in expected)
            for offload in self.offloads:
                device = rows_of(self.engine(offload, cache))
                errors = {kind: difference(device[kind], expected[kind]) for kind in expected}
                text = ", ".join(f"{kind} {error:.1e}" for kind, error in errors.items())
                good = max(errors.values()) <= max(TOLERANCE, own)
                rows.append(Row(f"logits, {offload.name}, cache {cache}", f"{text} (CPU against f32: {own:.1e})", good))
        return rows

    def greedy(self, offload: Offload, mode: str, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        """Return the answers to all prompts, computed once for each offload and mode."""
        if (offload, mode) not in self.answered:
            engine = self.engine(offload)
            options = self.native.RequestOptions(mode=mode, max_tokens=max_tokens, block_length=16)
            answers = [engine.wait_to_end(engine.submit(prompt, options)).tokens for prompt in prompts]
            self.answered[offload, mode] = answers
        return self.answered[offload, mode]

    def answers(self, prompts: list[list[int]], max_tokens: int) -> Iterator[Row]:
        """Greedy answers of each mode: how many are those of the CPU, and whether the others part at a near-tie.

        Not of diffusion: there an answer also parts where a confidence comes to lie on the other side of the threshold.
        """
        for offload in self.offloads:
            for mode in MODES:
                expected, found = (self.greedy(where, mode, prompts, max_tokens) for where in (CPU, offload))
                same, ties = self.compared(prompts, expected, found, of_ties=mode != "diffusion")
                good = same >= SAME_ANSWERS * len(prompts) and (mode == "diffusion" or same + ties == len(prompts))
                text = f"{same} of {len(prompts)} equal"
                text += "" if mode == "diffusion" else f", {ties} at near-ties"
                yield Row(f"greedy {mode}, {offload.name}", text, good)

    def compared(
        self, prompts: list[list[int]], a: list[list[int]], b: list[list[int]], *, of_ties: bool = True
    ) -> tuple[int, int]:
        """Return how many answers are equal, and how many of the others part at a near-tie (0 if not `of_ties`)."""
        parted = [(prompt, x, y) for prompt, x, y in zip(prompts, a, b, strict=True) if x != y]
        cpu = self.engine(CPU) if parted and of_ties else None
        return len(prompts) - len(parted), sum(self.near_tie(cpu, *each) for each in parted) if cpu else 0

    @staticmethod
    def near_tie(cpu, prompt: list[int], a: list[int], b: list[int]) -> bool:
        """Whether the two tokens at which answers part have nearly the same logit on the CPU."""
        at = next(i for i in range(min(len(a), len(b))) if a[i] != b[i])
        row = cpu.logits([*prompt, *a[:at]])[-1]
        return bool(abs(row[a[at]] - row[b[at]]) <= NEAR_TIE * (row.max() - row.min()))

    def self_consistency(self, prompts: list[list[int]], max_tokens: int) -> Row:
        """Greedy self-spec against greedy ar, both on the device."""
        ar, self_spec = (self.greedy(self.whole, mode, prompts, max_tokens) for mode in ("ar", "self-spec"))
        same, ties = self.compared(prompts, ar, self_spec)
        text = f"{same} of {len(prompts)} equal, {ties} at near-ties"
        return Row("self-spec = ar on the device", text, same + ties == len(prompts))

    def memory(self) -> list[Row]:
        """Planned and allocated bytes of cache and compute buffers."""
        rows = []
        for offload in self.offloads:
            where = {"n_gpu_layers": offload.n_gpu_layers, "devices": list(offload.devices)}
            plan = self.native.plan_memory(self.gguf, lora_path=self.lora, n_ctx=4096, **where)
            engine = self.engine(offload, n_ctx=4096)
            engine.logits(list(range(200, 712)))
            for rows_ in (1, 8, 16, 32):
                engine.logits(list(range(200, 200 + rows_)), 0)
            for part in ("kv_cache", "compute"):
                planned, found = sum(d[part] for d in plan), engine.memory[part]
                exact = offload == self.whole or part == "kv_cache"  # else buffers that there can be at the same time
                good = abs(planned - found) <= 0.03 * found if exact else found <= planned
                text = f"planned {planned / 2**20:.1f} MiB, allocated {found / 2**20:.1f}"
                rows.append(Row(f"{part}, {offload.name}", text, good))
        return rows

    def traffic(self, prompt: list[int]) -> list[Row]:
        """Bytes up and down for each row of a request; padding to a power of two at most doubles them."""
        rows = []
        for mode in MODES:
            for temperature, most in ((0.0, GREEDY_BYTES), (0.8, GREEDY_BYTES + SAMPLED_BYTES)):
                engine = self.engine(self.whole)
                options = self.native.RequestOptions(
                    mode=mode, temperature=temperature, block_length=16, ignore_eos=True, max_tokens=1
                )
                engine.wait_to_end(engine.submit(prompt, options))
                before = engine.times
                engine.wait_to_end(engine.submit(prompt, options.replace(max_tokens=64)))
                spent = {k: v - before[k] for k, v in engine.times.items()}
                up, down = (spent[k] / spent["rows"] for k in ("bytes_in", "bytes_out"))
                text = f"{up:.0f} in, {down:.0f} out, {spent['graphs']:.0f} graphs built"
                rows.append(Row(f"bytes per row, {mode}, temperature {temperature}", text, down <= 2 * most))
        return rows

    def without_kernel(self) -> Row:
        """Which operations the CPU has to compute, for each type of the cache. It is said when a model is loaded."""
        text = "; ".join(
            f"{cache}: {', '.join(sorted(left))}"
            for cache in CACHE_TYPES
            if (left := self.engine(self.whole, cache).left_to_cpu)
        )
        return Row("operations left to the CPU", text or "none, with any cache type")


def library(name: str) -> ctypes.CDLL:
    """One of ggml's libraries beside llama-cpp-python, by the name under which the engine has loaded it."""
    import llama_cpp

    path = Path(llama_cpp.__file__).parent / "lib" / f"lib{name}.so.0"
    if not path.exists():
        sys.exit(
            f"{path} is not there: llama-cpp-python lacks this backend. tools/build_vulkan.sh makes one that has it"
        )
    return ctypes.CDLL(str(path))


SERVER = """
import ctypes, sys
from second_device import library
cpu = library("ggml").ggml_backend_dev_by_name
cpu.restype, cpu.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
devices = (ctypes.c_void_p * 1)(cpu(b"CPU"))
library("ggml-rpc").ggml_backend_rpc_start_server(
    sys.argv[1].encode(), None, ctypes.c_size_t(1), ctypes.c_size_t(1), devices)
"""


def connect_rpc() -> subprocess.Popen[bytes]:
    """Return a server on loopback whose device is its CPU, registered here; the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, endpoint], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(endpoint.split(":")[1]))) == 0:
                break
        time.sleep(0.1)
    add, register = library("ggml-rpc").ggml_backend_rpc_add_server, library("ggml").ggml_backend_register
    add.restype, add.argtypes, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p], [ctypes.c_void_p]
    register(add(endpoint.encode()))
    return server


def refusal(gguf: Path) -> Row:
    """Return what is said when a context does not fit: how many layers would. (A server of RPC ends itself instead.)"""
    from pytrimode import TriMode

    try:
        TriMode(gguf, n_ctx=HUGE_CONTEXT, n_gpu_layers="all", type_k="f32", type_v="f32").close()
    except RuntimeError as error:
        return Row(f"context of {HUGE_CONTEXT:,}", str(error), "would fit" in str(error) and "MiB" in str(error))
    return Row(f"context of {HUGE_CONTEXT:,}", "fits")


def compare(device: str | None, n_prompts: int, max_tokens: int) -> bool:
    """Print the table; whether all is well."""
    from pytrimode import TriMode, _native
    from pytrimode.convert import convert
    from pytrimode.files.shipped_model import shipped_checkpoint

    found = [d for d in _native.devices() if (d["name"] == device if device else d["type"] in ("gpu", "igpu"))]
    if not found:
        names = ", ".join(d["name"] for d in _native.devices())
        sys.exit(f"no such device; ggml finds {names}. tools/build_vulkan.sh makes an installation with Vulkan")
    print(f"{found[0]['name']}: {found[0]['description']}\n\n| what | found | |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="second-device-") as directory:
        floats = convert(shipped_checkpoint(), Path(directory) / "tiny-f16.gguf", "f16").path
        gguf = convert(shipped_checkpoint(), Path(directory) / "tiny.gguf", "q8_0").path
        with TriMode(gguf, n_ctx=1024) as model:
            held_out = json.loads((shipped_checkpoint() / "heldout.json").read_text())
            prompts = [model.chat_tokens(item["messages"]) for item in held_out[:n_prompts]]
        devices = [d["name"] for d in found]
        comparison = Comparison(gguf, devices)
        good = True
        for part in (
            Comparison(floats, devices).logits,
            lambda: [comparison.without_kernel()],
            comparison.memory,
            lambda: comparison.traffic(prompts[0]),
            lambda: [comparison.self_consistency(prompts, max_tokens)],
            lambda: [] if found[0]["backend"] == "RPC" else [refusal(gguf)],
            lambda: comparison.answers(prompts, max_tokens),
        ):
            for row in part():
                print(row, flush=True)
                good &= row.ok is not False
    return good


def main() -> None:
    """Compare, on servers of our own if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="ggml's name of the device (default: the first GPU)")
    parser.add_argument("--prompts", type=int, default=100, help="held-out prompts to answer (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=40, help="of each answer (default: %(default)s)")
    parser.add_argument(
        "--software", action="store_true", help="use Mesa's software driver, which ggml else passes over"
    )
    parser.add_argument("--rpc", action="store_true", help="start two servers of ggml's RPC backend, and use these")
    args = parser.parse_args()
    if args.software:
        os.environ["GGML_VK_VISIBLE_DEVICES"] = "0"
    servers = [connect_rpc() for _ in range(2 * args.rpc)]
    try:
        good = compare(args.device, args.prompts, args.max_tokens)
    finally:
        for server in servers:
            server.terminate()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
