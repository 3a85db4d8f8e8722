"""A GGUF model in another type: `trimode-quantize IN OUT TYPE`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from os import PathLike
from pathlib import Path

from pytrimode.convert.conversion import ConversionResult
from pytrimode.convert.encode import SourceTensor, encoded_tensor
from pytrimode.convert.gguf_input import MMPROJ_DIMS, GgufInput, refusals
from pytrimode.convert.lora import LORA_TYPES, stored_kind
from pytrimode.convert.model_output import (
    GgufOutput,
    ModelPlan,
    OutputOptions,
    Progress,
    plan_model,
    write_files,
)
from pytrimode.convert.out_names import output_path
from pytrimode.convert.provenance import SourceHashes
from pytrimode.convert.type_selection import TypeOptions
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside, lora_path, mmproj_beside, mmproj_path
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.output import check_output
from pytrimode.gguf.preflight import check_adapter, check_mmproj, check_model
from pytrimode.gguf.types import ALIASES, OUTPUT_TYPES, GgmlType, OutputType
from pytrimode.quantize.target.target import AUTO, Target, plan_within
from pytrimode.threads import default_threads

COPY = "copy"


def quantize(
    in_path: str | PathLike[str],
    out_path: str | PathLike[str],
    outtype: str,
    *,
    force: bool = False,
    threads: int | None = None,
    lora: bool = True,
    lora_type: str | None = None,
    imatrix: str | PathLike[str] | None = None,
    types: TypeOptions | None = None,
    split_max_bytes: int | None = None,
    keep_split: bool = False,
    allow_requantize: bool = False,
    metadata: Sequence[str] = (),
    dry_run: bool = False,
    target: Target | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Write a GGUF model in another type; its drafter LoRA goes along as `OUT-drafter-lora.gguf`, its vision tower, as
    it is, as `OUT-mmproj.gguf`.

    Args:
        in_path: the model, or the first part of a split one.
        out_path: file to write; `{ftype}` in it stands for `outtype`.
        outtype: a llama.cpp file type in any case, "copy", which leaves all tensors as they are, or "auto", which takes
            for each tensor what is best within `target`.
        keep_split: write as many parts as the input has, with the same tensors in each.
        allow_requantize: quantize tensors again that are quantized already, which loses more than once from the
            original.
        target: a size to stay within, with "auto".

    The other arguments, and what is raised, are those of `pytrimode.convert.convert`.
    """
    started = time.monotonic()
    name, output = _output_type(outtype)
    if target and name != AUTO:
        raise ConversionError(f"type {name} and a target contradict each other: give one of them")
    if name == AUTO and not target:
        raise ConversionError("give a TYPE such as q4_k_m, or --target-size or --target-bpw")
    if lora_type is not None and lora_type not in LORA_TYPES:
        raise ValueError(f"lora_type {lora_type!r}: expected one of {', '.join(LORA_TYPES)}")
    options = OutputOptions(
        force=force,
        threads=threads or default_threads(),
        types=types or TypeOptions(),
        imatrix=Path(imatrix) if imatrix else None,
        split_max_bytes=split_max_bytes,
        metadata=tuple(metadata),
        dry_run=dry_run,
    )
    source_path, out = Path(in_path), output_path(out_path, name)
    if keep_split and split_max_bytes is not None:
        raise ConversionError("--keep-split and --split-max-size contradict each other: give one of them")
    _check_not_itself(source_path, out)
    check_output(out, force=force or dry_run)
    with ExitStack() as stack:
        _preflight(source_path, lora=lora)
        source = stack.enter_context(GgufInput(source_path))
        described = source.metadata()
        known = keys.TRIMODE_SOURCE_SHA256 in described
        hashes = stack.enter_context(
            SourceHashes([] if known or dry_run else [header.path for header in source.headers])
        )
        hashes.add_to(described)
        parts = [len(part) for part in source.parts] if keep_split else None
        if target:
            plan = plan_within(target, source_path, out, described, source.tensors, options, parts=parts)
        else:
            plan = plan_model(out, described, source.tensors, output, options, parts=parts)
        if not allow_requantize:
            _refuse_requantizing(source_path, plan)
        files: list[GgufOutput] = list(plan.files)
        adapter = _adapter(source_path, out, stack, lora_type, options.threads) if lora else None
        if adapter:
            files.append(adapter)
        tower = _mmproj(source_path, out, stack)
        if tower:
            files.append(tower)
        n_bytes = sum(tensor.n_bytes for tensor in plan.tensors)
        if not dry_run:
            sizes = write_files(files, stack, force=force, progress=progress, hashes=hashes)
            n_bytes = sum(sizes[: len(plan.files)])
        return ConversionResult(
            path=plan.paths[0],
            lora_path=adapter[0] if adapter else None,
            mmproj_path=tower[0] if tower else None,
            mmproj_tensors=tower[2] if tower else [],
            outtype=name,
            tensors=plan.tensors,
            n_params=sum(prod(tensor.shape) for tensor in source.tensors),
            n_bytes=n_bytes,
            source_bytes=sum(tensor.n_bytes for tensor in source.tensors),
            seconds=time.monotonic() - started,
            paths=plan.paths,
            notes=plan.notes,
            chat_template=keys.CHAT_TEMPLATE in described,
        )


def _output_type(outtype: str) -> tuple[str, OutputType | None]:
    name = ALIASES.get(outtype.lower(), outtype.lower())
    if name in (COPY, AUTO):
        return name, None
    if name not in OUTPUT_TYPES:
        raise ValueError(f"type {outtype!r}: expected one of {', '.join(OUTPUT_TYPES)}, {COPY} or {AUTO}")
    return name, OUTPUT_TYPES[name]


def _check_not_itself(source: Path, out: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise ConversionError(f"{out}: is the input itself: give another name")


def _preflight(model: Path, *, lora: bool) -> None:
    """Refuse what `TriMode` would refuse: libllama, which chooses the types, aborts at some of it."""
    with refusals(model):
        checked = check_model(model)
    if lora and (adapter := lora_beside(model)).is_file():
        with refusals(adapter):
            check_adapter(adapter, checked.shape)
    if (tower := mmproj_beside(model)).is_file():
        with refusals(tower):
            check_mmproj(tower)


def _refuse_requantizing(path: Path, plan: ModelPlan) -> None:
    again = [
        (tensor.name, tensor.source_kind)
        for tensor in plan.tensors
        if tensor.source_kind and tensor.source_kind.is_quantized and tensor.kind != tensor.source_kind
    ]
    if again:
        name, kind = again[0]
        raise ConversionError(
            f"{path}: {len(again)} tensors are quantized already, the first is {name} "
            f"({kind.name}): start from the checkpoint or an F16 file, or give --allow-requantize"
        )


def _mmproj(source: Path, out: Path, stack: ExitStack) -> GgufOutput | None:
    """Return the vision tower of the input, for the output; None without one, or where both share it."""
    path, target = mmproj_beside(source), mmproj_path(out)
    if not path.is_file() or path.resolve() in (target.resolve(), mmproj_beside(out).resolve()):
        return None
    tower = stack.enter_context(GgufInput(path, max_dims=MMPROJ_DIMS))
    return target, tower.metadata(), [encoded_tensor(source, source.kind, 0) for source in tower.tensors]


def _adapter(source: Path, out: Path, stack: ExitStack, outtype: str | None, threads: int) -> GgufOutput | None:
    """Return the drafter LoRA of the input, for the output; None without one, or where both share it."""
    path, target = lora_beside(source), lora_path(out)
    shared = path.resolve() == lora_beside(out).resolve() and not outtype
    if not path.is_file() or shared or path.resolve() == target.resolve():
        return None
    adapter = stack.enter_context(GgufInput(path))
    metadata: Metadata = adapter.metadata()
    if outtype:
        metadata.remove(keys.GENERAL_FILE_TYPE)
        metadata.u32(keys.GENERAL_FILE_TYPE, OUTPUT_TYPES[outtype].file_type)

    def kind(source: SourceTensor) -> GgmlType:
        return stored_kind(source.shape, outtype) if outtype else source.kind

    return target, metadata, [encoded_tensor(source, kind(source), threads) for source in adapter.tensors]
