"""What is run, in order of worth. Each job is a process of its own: `FUNCTION` of a module here, with `arguments`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PARTS = {"correctness": 0.3, "passes": 0.35, "throughput": 0.25, "memory": 0.1}
"""Share of the time that each part may take; what one leaves over goes to the next."""
CUDA_VARIANTS = {
    "no CUDA graphs": {"GGML_CUDA_DISABLE_GRAPHS": "1"},
    "no fusion": {"GGML_CUDA_DISABLE_FUSION": "1"},
}


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        part: see `PARTS`.
        function: module and function, such as "passes.ours".
        arguments: of the function, behind the context.
        environment: variables that it gets.
        seconds: longest it may take.
    """

    part: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    seconds: float = 60.0

    @property
    def name(self) -> str:
        """For people."""
        return " ".join([self.function, *(f"{k}={v}" for k, v in (self.arguments | self.environment).items())])


def jobs(small: bool) -> list[Job]:
    """All of them; `small`: for a device without a GPU behind it."""
    return [*_correctness(small), *_passes(small), *_throughput(small), *_memory(small)]


def _correctness(small: bool) -> list[Job]:
    def exact(shape: str, type: str, n_prompts: int, n_tokens: int, seconds: float) -> Job:
        arguments = {"shape": shape, "type": type, "n_prompts": n_prompts, "n_tokens": n_tokens}
        return Job("correctness", "exactness.self_spec_is_ar", arguments, seconds=seconds)

    checks = [
        Job("correctness", f"correctness.{name}") for name in ("doctor", "logits", "memory_and_traffic", "answers")
    ]
    if small:
        return [*checks, exact("tiny", "q8_0", 2, 16, 30)]
    return [
        *checks[:3],
        exact("tiny", "q8_0", 40, 400, 40),
        exact("3B", "q8_0", 5, 60, 60),
        checks[3],
        exact("tiny", "q4_k_m", 50, 400, 30),
        exact("3B", "q4_k_m", 5, 60, 60),
        exact("tiny", "q6_k", 50, 400, 30),
    ]


def _passes(small: bool) -> list[Job]:
    def job(
        function: str, shape: str, type: str, cells: int = 512, environment: dict[str, str] | None = None, **more: Any
    ) -> Job:
        return Job(
            "passes",
            f"passes.{function}",
            {"shape": shape, "type": type, "cells": cells, **more},
            environment or {},
            45,
        )

    bandwidth = Job("passes", "bandwidth.copy_bandwidth")
    if small:
        variants = [job("ours", "tiny", "q8_0", 256, variant="plain stores", fused_stores=False)]
        return [
            bandwidth,
            Job("passes", "passes.operations", {"shape": "tiny", "type": "q8_0"}),
            job("ours", "tiny", "q8_0", 256),
            job("ours", "tiny", "q8_0", 256, lora=True),
            *variants,
            job("stock", "tiny", "q8_0", 256),
        ]
    return [
        bandwidth,
        Job("passes", "passes.operations", {"shape": "3B", "type": "q8_0"}),
        *(job(which, shape, type) for shape, type in (("3B", "q8_0"), ("14B", "q8_0")) for which in ("ours", "stock")),
        job("ours", "3B", "q8_0", variant="plain stores", fused_stores=False),
        *(job("ours", "3B", "q8_0", environment=values, variant=name) for name, values in CUDA_VARIANTS.items()),
        job("ours", "3B", "q8_0", variant="scheduler", use_scheduler=True),
        job(
            "ours",
            "3B",
            "q8_0",
            environment={"GGML_CUDA_GRAPH_OPT": "1"},
            variant="scheduler, streams",
            use_scheduler=True,
        ),
        *(job(which, "3B", "q8_0", cells) for cells in (8192, 32768) for which in ("ours", "stock")),
        job("ours", "14B", "q8_0", lora=True),
        *(job(which, shape, "q4_k_m") for shape in ("14B", "8B") for which in ("ours", "stock")),
        *(job(which, "3B", "bf16") for which in ("ours", "stock")),
        *(job(which, "8B", "q8_0") for which in ("ours", "stock")),
    ]


def _throughput(small: bool) -> list[Job]:
    def job(function: str, shape: str, **more: Any) -> Job:
        return Job("throughput", f"throughput.{function}", {"shape": shape, "type": "q8_0", **more}, seconds=60)

    if small:
        return [job(name, "tiny") for name in ("modes", "stock", "prefill", "crowd")]
    return [
        *(job(name, "14B") for name in ("modes", "stock")),
        *(job(name, "3B") for name in ("modes", "stock", "prefill", "crowd")),
        job("prefill", "14B"),
        job("crowd", "14B"),
        job("crowd", "3B", cells=4096),
        job("modes", "8B"),
        job("stock", "8B"),
        Job("throughput", "throughput.server"),
    ]


def _memory(small: bool) -> list[Job]:
    shape = "tiny" if small else "3B"

    def profile(variant: str, environment: dict[str, str] | None = None, **more: Any) -> Job:
        arguments = {"shape": shape, "type": "q8_0", "variant": variant, **more}
        return Job("memory", "memory.host_profile", arguments, environment or {}, 30)

    large = (
        {"shape": "tiny", "type": "q8_0", "n_ctx": 2048} if small else {"shape": "14B", "type": "q8_0", "n_ctx": 32768}
    )
    return [
        Job("memory", "memory.plan", large),
        profile(""),
        profile("plain stores", fused_stores=False),
        Job("memory", "memory.refusal"),
        Job("memory", "memory.partial_offload", {"shape": shape, "type": "q8_0"}),
        *([] if small else [profile(name, values) for name, values in CUDA_VARIANTS.items()]),
    ]
