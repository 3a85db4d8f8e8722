"""A conversion from beginning to end: checkpoint directory in, GGUF files out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from os import PathLike
from pathlib import Path

from .checkpoint import Checkpoint
from .encode import encode_weight
from .general import add_general
from .ggml import OUTPUT_TYPES, OutputType
from .hparams import Hyperparameters
from .lora import DrafterLora
from .metadata import Metadata
from .names import HEAD, Weight, match_weights
from .output import OutputFile, check_output
from .vocab import Vocab
from .writer import OutputTensor, write_gguf

Progress = Callable[[int, int], None]
"""Called with the bytes written so far and the bytes in all."""


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion wrote.

    Attributes:
        path: the GGUF file.
        lora_path: the drafter LoRA beside it, None when there is none.
        outtype: as asked for.
        n_tensors: tensors of the model.
        n_params: weights of the model.
        n_bytes: size of the GGUF file.
        source_bytes: size of the model's weights in the checkpoint.
        seconds: from start to finish, until the files are on the disk.
        notes: what the user should know; empty when all is as usual.
    """

    path: Path
    lora_path: Path | None
    outtype: str
    n_tensors: int
    n_params: int
    n_bytes: int
    source_bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight, everything counted."""
        return 8 * self.n_bytes / self.n_params


def convert(
    model_dir: str | PathLike[str],
    out_path: str | PathLike[str],
    outtype: str = "q8_0",
    *,
    force: bool = False,
    threads: int | None = None,
    lora: bool = True,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a checkpoint directory to a GGUF file that both pytrimode and stock llama.cpp run.

    The drafter LoRA in `linear_spec_lora/` becomes `OUT-drafter-lora.gguf`. Files appear when they are complete;
    on any error nothing is left behind. Memory stays below 1 GiB whatever the size of the model.

    Args:
        model_dir: directory with config.json, tokenizer.json and safetensors weights.
        out_path: file to write; `{ftype}` in it stands for `outtype`.
        outtype: q8_0, f16, bf16, f32, q4_0, q4_1, q5_0 or q5_1.
        force: replace existing files.
        threads: encoding threads, None for all cores.
        lora: convert the drafter LoRA too.
        progress: called with (bytes written, bytes in all).

    Raises:
        ConversionError: the checkpoint is unsupported or damaged, or the output cannot be written.
        ValueError: `outtype` is none of the above.
    """
    started = time.monotonic()
    if outtype not in OUTPUT_TYPES:
        raise ValueError(f"outtype {outtype!r}: expected one of {', '.join(OUTPUT_TYPES)}")
    output_type = OUTPUT_TYPES[outtype]
    out = Path(str(Path(out_path)).replace("{ftype}", outtype))
    check_output(out, force=force)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(Checkpoint(Path(model_dir)))
        hparams = Hyperparameters.from_config(checkpoint.config)
        vocab = Vocab.from_checkpoint(checkpoint, hparams.vocab_size)
        weights = match_weights(checkpoint, hparams)
        n_params = sum(prod(weight.shape) for weight in weights)
        tensors = [_tensor(checkpoint, weight, output_type, threads or 0) for weight in weights]
        files = [(out, _metadata(checkpoint, hparams, vocab, output_type, n_params), tensors)]
        adapter = DrafterLora.open(checkpoint, hparams) if lora else None
        if adapter:
            stack.enter_context(adapter)
            files.append((lora_path(out), adapter.metadata(checkpoint), adapter.tensors(threads or 0)))
        n_bytes = _write(files, stack, force, progress)
        return ConversionResult(
            path=out,
            lora_path=lora_path(out) if adapter else None,
            outtype=outtype,
            n_tensors=len(tensors),
            n_params=n_params,
            n_bytes=n_bytes,
            source_bytes=sum(checkpoint.weights.tensors[weight.source].n_bytes for weight in weights),
            seconds=time.monotonic() - started,
            notes=vocab.notes + _type_notes(tensors, output_type) + _adapter_notes(out, adapter),
        )


def lora_path(out: Path) -> Path:
    """Where the drafter LoRA of a GGUF file lies: `model.gguf` -> `model-drafter-lora.gguf`."""
    return out.with_name(f"{out.name.removesuffix('.gguf')}-drafter-lora.gguf")


def _metadata(
    checkpoint: Checkpoint, hparams: Hyperparameters, vocab: Vocab, output_type: OutputType, n_params: int
) -> Metadata:
    metadata = Metadata()
    add_general(metadata, checkpoint, output_type, n_params)
    hparams.add_to(metadata)
    vocab.add_to(metadata)
    return metadata


def _tensor(checkpoint: Checkpoint, weight: Weight, output_type: OutputType, threads: int) -> OutputTensor:
    kind = output_type.choose(weight.shape, head=weight.target == HEAD)
    return OutputTensor(
        weight.target, weight.shape, kind, lambda: encode_weight(checkpoint.weights, weight, kind, threads)
    )


def _write(
    files: list[tuple[Path, Metadata, list[OutputTensor]]], stack: ExitStack, force: bool, progress: Progress | None
) -> int:
    """Write all files, then give them their names. Returns the size of the first."""
    outputs = [stack.enter_context(OutputFile(path, force=force)) for path, _, _ in files]
    written, total = 0, sum(tensor.n_bytes for _, _, tensors in files for tensor in tensors)

    def advance(n_bytes: int) -> None:
        nonlocal written
        written = min(written + n_bytes, total)
        if progress:
            progress(written, total)

    sizes = [
        write_gguf(output, metadata, tensors, advance)
        for output, (_, metadata, tensors) in zip(outputs, files, strict=True)
    ]
    # The adapter first: whoever finds the model finds its drafter LoRA too.
    for output in reversed(outputs):
        output.publish()
    return sizes[0]


def _type_notes(tensors: list[OutputTensor], output_type: OutputType) -> list[str]:
    """Which tensors are not of the type that was asked for, because their rows are no whole blocks."""
    others = [
        tensor
        for tensor in tensors
        if len(tensor.shape) > 1
        and tensor.kind is not (output_type.head if tensor.name == HEAD else output_type.matrix)
    ]
    if not others:
        return []
    first = others[0]
    return [
        f"{len(others)} tensors are not {output_type.name} because their rows do not divide into blocks, "
        f"the first is {first.name} (rows of {first.shape[-1]}, {first.kind.name})"
    ]


def _adapter_notes(out: Path, adapter: DrafterLora | None) -> list[str]:
    """An old drafter LoRA beside the new file would be loaded with it."""
    stale = lora_path(out)
    if adapter or not stale.exists():
        return []
    return [
        f"{stale} is from an earlier conversion and will be loaded with {out.name}: remove it if it does not belong"
    ]
