"""A model in a given size: what to measure, what to choose, and the plan for the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from pytrimode.convert.encode import SourceTensor
from pytrimode.convert.imatrix_file import ImportanceMatrix
from pytrimode.convert.model_output import ModelPlan, OutputOptions, plan_model
from pytrimode.convert.type_selection import check_wishes
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.sizes import size_text
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType
from pytrimode.gguf.writer import file_bytes
from pytrimode.quantize.target.assignment import Choices, as_wishes, described, find_choices, main_type
from pytrimode.quantize.target.sensitivity import SensitivityOptions, measure_sensitivity

AUTO = "auto"
"""Stands for the type of such a file, in its name too."""
NamedProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Target:
    """A budget, and how to spend it. One of the first two is given.

    Attributes:
        n_bytes: of the model's files; the drafter LoRA is not counted.
        bits_per_weight: the same as a multiple of the weights.
        types: to choose from; empty: the K-quants, IQ4_XS and Q8_0, and with an importance matrix the IQ types of 2
            and 3 bits.
        sensitivity: how to measure.
        progress: called with (what, steps done, steps in all).

    Raises ValueError for both budgets, and for none.
    """

    n_bytes: int | None = None
    bits_per_weight: float | None = None
    types: tuple[GgmlType, ...] = ()
    sensitivity: SensitivityOptions = field(default_factory=SensitivityOptions)
    progress: NamedProgress | None = None

    def __post_init__(self) -> None:
        if (self.n_bytes is None) == (self.bits_per_weight is None):
            raise ValueError("a target is either a size or a number of bits per weight: give one of them")

    def budget(self, n_params: int) -> int:
        """Bytes."""
        return int((self.bits_per_weight or 0) * n_params / 8) if self.n_bytes is None else self.n_bytes

    def steps(self, what: str) -> Callable[[int, int], None] | None:
        """Return the progress of one part of the work."""
        report = self.progress
        return None if report is None else lambda done, total: report(what, done, total)


def plan_within(
    target: Target,
    path: Path,
    out: Path,
    metadata: Metadata,
    sources: Sequence[SourceTensor],
    options: OutputOptions,
    *,
    parts: Sequence[int] | None = None,
) -> ModelPlan:
    """`plan_model` with the types that lose least among those whose files have at most the target's size.

    path: of the model, which is run. Raises ConversionError for a target that is too small, or needs nothing at all.
    """
    if options.types.pure:
        raise ConversionError("--pure and a target contradict each other: give one of them")
    imatrix = ImportanceMatrix.read(options.imatrix) if options.imatrix else None
    check_wishes(sources, OUTPUT_TYPES["q4_k_m"], options.types, imatrix is not None)
    budget = target.budget(sum(prod(tensor.shape) for tensor in sources))
    # What no choice of types changes, but for some bytes: before anything is measured.
    as_is = plan_model(out, metadata.without(), sources, None, options, parts=parts)
    overhead = _n_bytes(as_is) - sum(tensor.n_bytes for tensor in as_is.tensors)
    if overhead >= budget:
        raise _too_small(budget, overhead, 0)
    sensitivity = measure_sensitivity(path, sources, target.sensitivity, target.steps("Measuring"))
    choices = find_choices(
        sources,
        sensitivity,
        wishes=options.types,
        imatrix=imatrix,
        types=target.types,
        threads=options.threads,
        progress=target.steps("Trying types"),
    )
    while True:
        plan = _plan(choices, budget, overhead, out, metadata, options, parts)
        excess = _n_bytes(plan) - budget
        if excess <= 0:
            return plan
        overhead += excess


def _plan(
    choices: Choices,
    budget: int,
    overhead: int,
    out: Path,
    metadata: Metadata,
    options: OutputOptions,
    parts: Sequence[int] | None,
) -> ModelPlan:
    kinds = choices.best(budget - overhead)
    if kinds is None:
        raise _too_small(budget, overhead, choices.smallest)
    output = main_type(choices.tensors, kinds)
    chosen = replace(options, types=as_wishes(kinds))
    plan = plan_model(out, metadata.without(), choices.tensors, output, chosen, parts=parts)
    other = next((tensor for tensor in plan.tensors if tensor.kind != kinds[tensor.name]), None)
    if other:
        raise ConversionError(
            f"llama.cpp stores {other.name} as {other.kind.name}, not as {kinds[other.name].name}: give its type with "
            f"--tensor-type"
        )
    note = f"{described(choices.tensors, kinds)}; expected divergence {choices.loss(kinds):.3g}"
    return ModelPlan(plan.files, plan.tensors, [note])


def _n_bytes(plan: ModelPlan) -> int:
    return sum(file_bytes(metadata, tensors) for _, metadata, tensors in plan.files)


def _too_small(budget: int, overhead: int, smallest: int) -> ConversionError:
    return ConversionError(
        f"the target of {size_text(budget)} is too small: {size_text(overhead)} are taken by metadata, and the "
        f"smallest types take {size_text(smallest)}: give a larger target, or smaller types (with --imatrix there are)"
    )
