"""A conversion from beginning to end: checkpoint directory in, GGUF files out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from os import PathLike
from pathlib import Path

from pytrimode.convert.checkpoint.checkpoint import CONFIG, TOKENIZER, Checkpoint
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.names import match_weights, vision_weights
from pytrimode.convert.checkpoint.safetensors_file import StoredTensor
from pytrimode.convert.checkpoint.vocab import Vocab
from pytrimode.convert.encode import checkpoint_tensor
from pytrimode.convert.general import add_general
from pytrimode.convert.lora import LORA_TYPES, DrafterLora
from pytrimode.convert.model_output import GgufOutput, OutputOptions, Progress, plan_model, write_files
from pytrimode.convert.out_names import out_names
from pytrimode.convert.provenance import SourceHashes
from pytrimode.convert.type_selection import TypeOptions
from pytrimode.convert.vision.mmproj import DEFAULT_MMPROJ_TYPE, MMPROJ_TYPES, Mmproj
from pytrimode.gguf.file_names import lora_beside, mmproj_beside
from pytrimode.gguf.hub_layout import snapshot_of
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.output import check_output
from pytrimode.gguf.sizes import size_text
from pytrimode.gguf.types import OUTPUT_TYPES, OutputType
from pytrimode.gguf.writer import OutputTensor
from pytrimode.threads import default_threads


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion wrote, or with `dry_run` would have written.

    Attributes:
        path: the GGUF file, the first of them if there are several.
        lora_path: the drafter LoRA beside it, None when there is none.
        mmproj_path: the vision tower beside it, None when there is none.
        outtype: as asked for.
        tensors: the model's tensors, in order.
        n_params: weights of the model.
        n_bytes: size of the model's GGUF files; with `dry_run` that of the tensors.
        source_bytes: size of the model's weights in the source.
        seconds: from start to finish, until the files are on the disk.
        paths: all files of the model.
        notes: what the user should know; empty when all is as usual.
        skipped: tensors of the source that were left out: those of a vision and language model's vision.
        mmproj_tensors: what stands in the vision tower's file, in order.
        chat_template: whether the model has one.
    """

    path: Path
    lora_path: Path | None
    outtype: str
    tensors: list[OutputTensor]
    n_params: int
    n_bytes: int
    source_bytes: int
    seconds: float
    paths: list[Path]
    notes: list[str] = field(default_factory=list)
    skipped: list[StoredTensor] = field(default_factory=list)
    mmproj_path: Path | None = None
    mmproj_tensors: list[OutputTensor] = field(default_factory=list)
    chat_template: bool = True

    @property
    def n_tensors(self) -> int:
        """Tensors of the model."""
        return len(self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight, everything counted."""
        return 8 * self.n_bytes / self.n_params


def convert(
    model_dir: str | PathLike[str],
    out_path: str | PathLike[str] | None = None,
    outtype: str = "q8_0",
    *,
    force: bool = False,
    threads: int | None = None,
    lora: bool = True,
    lora_type: str | None = None,
    imatrix: str | PathLike[str] | None = None,
    types: TypeOptions | None = None,
    split_max_bytes: int | None = None,
    metadata: Sequence[str] = (),
    dry_run: bool = False,
    hashes: bool = True,
    mmproj: bool = True,
    mmproj_type: str | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a checkpoint directory to a GGUF file that both pytrimode and stock llama.cpp run.

    The type of each tensor is what libllama chooses for a file of type `outtype`. The drafter LoRA in
    `linear_spec_lora/` becomes `OUT-drafter-lora.gguf`, the vision tower and projector of a vision and language model
    `OUT-mmproj.gguf`. Without a name for the file they are called by GGUF's convention (`pytrimode.gguf.file_names`),
    and all types of a model share drafter LoRA and tower: equal ones that are there already are kept.

    Files appear when they are complete; on any error nothing is left behind. Memory stays below 1 GiB whatever the size
    of the model.

    Args:
        model_dir: directory with config.json, tokenizer.json and safetensors weights, one in the hub's cache included.
        out_path: file to write; `{ftype}` in it stands for `outtype`. A directory, or None for the current one, gets
            the conventional name: `Model-8B-Q4_K_M.gguf`.
        outtype: a llama.cpp file type in lower case, `OUTPUT_TYPES` has them all.
        force: replace existing files.
        threads: encoding threads, None for one on each core.
        lora: convert the drafter LoRA too.
        lora_type: a type to store it in, of `LORA_TYPES`; None keeps it as it is.
        imatrix: importance matrix file, of `trimode-quantize imatrix` or llama.cpp.
        types: wishes for the types of single tensors.
        split_max_bytes: write parts with at most as much data.
        metadata: changes, `KEY=VALUE`, see `edit_metadata`.
        dry_run: plan everything and write nothing.
        hashes: record the SHA-256 of the source files in the metadata.
        mmproj: convert the vision tower too.
        mmproj_type: the type of its matrices, of `MMPROJ_TYPES`; None for F16.
        progress: called with (bytes written, bytes in all).

    Raises:
        ConversionError: the checkpoint is unsupported or damaged, or the output cannot be written.
        ValueError: `outtype`, `lora_type` or `mmproj_type` is none of those.
    """
    started = time.monotonic()
    if outtype not in OUTPUT_TYPES:
        raise ValueError(f"outtype {outtype!r}: expected one of {', '.join(OUTPUT_TYPES)}")
    if lora_type is not None and lora_type not in LORA_TYPES:
        raise ValueError(f"lora_type {lora_type!r}: expected one of {', '.join(LORA_TYPES)}")
    if mmproj_type is not None and mmproj_type not in MMPROJ_TYPES:
        raise ValueError(f"mmproj_type {mmproj_type!r}: expected one of {', '.join(MMPROJ_TYPES)}")
    output_type = OUTPUT_TYPES[outtype]
    options = OutputOptions(
        force=force,
        threads=threads or default_threads(),
        types=types or TypeOptions(),
        imatrix=Path(imatrix) if imatrix else None,
        split_max_bytes=split_max_bytes,
        metadata=tuple(metadata),
        dry_run=dry_run,
        hashes=hashes,
    )
    source = snapshot_of(Path(model_dir))
    names = out_names(out_path, source, outtype)
    out = names.model
    check_output(out, force=force or dry_run)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(Checkpoint(source))
        hparams = Hyperparameters.from_config(checkpoint.config)
        vocab = Vocab.from_checkpoint(checkpoint, hparams.vocab_size)
        weights = match_weights(checkpoint, hparams)
        n_params = sum(prod(weight.shape) for weight in weights)
        described = checkpoint_metadata(checkpoint, hparams, vocab, output_type, n_params)
        files_hashed = source_files(checkpoint) if hashes and not dry_run else []
        digests = stack.enter_context(SourceHashes(files_hashed))
        digests.add_to(described)
        sources = [checkpoint_tensor(checkpoint.weights, weight) for weight in weights]
        plan = plan_model(out, described, sources, output_type, options)
        files: list[GgufOutput] = list(plan.files)
        adapter_path, tower_path = None, None
        adapter = DrafterLora.open(checkpoint, hparams) if lora else None
        if adapter:
            stack.enter_context(adapter)
            tensors = adapter.tensors(options.threads, lora_type)
            adapter_path = names.lora(tensors[0].kind.name)
            files.append((adapter_path, adapter.metadata(checkpoint, lora_type), tensors))
        tower = Mmproj.open(checkpoint, hparams, vocab) if mmproj else None
        if tower:
            kind = mmproj_type or DEFAULT_MMPROJ_TYPE
            tower_path = names.mmproj(kind)
            files.append((tower_path, *_mmproj_output(tower, checkpoint, digests, options, kind)))
        n_bytes = sum(tensor.n_bytes for tensor in plan.tensors)
        if not dry_run:
            sizes = write_files(
                files, stack, force=force, progress=progress, hashes=digests,
                shared=[path for path in (adapter_path, tower_path) if path and names.shares],
            )  # fmt: skip
            n_bytes = sum(sizes[: len(plan.files)])
        skipped = [] if tower else vision_weights(checkpoint)
        return ConversionResult(
            path=plan.paths[0],
            lora_path=adapter_path,
            outtype=outtype,
            tensors=plan.tensors,
            n_params=n_params,
            n_bytes=n_bytes,
            source_bytes=sum(source.n_bytes for source in sources),
            seconds=time.monotonic() - started,
            paths=plan.paths,
            chat_template=vocab.chat_template is not None,
            notes=checkpoint.notes
            + _prefix_notes(checkpoint)
            + vocab.notes
            + plan.notes
            + _vision_notes(skipped)
            + _stale_notes(out, adapter, tower),
            skipped=skipped,
            mmproj_path=tower_path,
            mmproj_tensors=files[-1][2] if tower else [],
        )


def checkpoint_metadata(
    checkpoint: Checkpoint, hparams: Hyperparameters, vocab: Vocab, output_type: OutputType, n_params: int
) -> Metadata:
    """All that the GGUF file of a checkpoint says about it."""
    metadata = Metadata()
    add_general(metadata, checkpoint, output_type, n_params)
    hparams.add_to(metadata)
    vocab.add_to(metadata)
    return metadata


def source_files(checkpoint: Checkpoint) -> list[Path]:
    """Return what makes the model what it is."""
    return [checkpoint.path / CONFIG, checkpoint.path / TOKENIZER, *checkpoint.weights.paths]


def _prefix_notes(checkpoint: Checkpoint) -> list[str]:
    if not checkpoint.weights.prefix:
        return []
    return [f'the names of the weights begin with "{checkpoint.weights.prefix}", which is left out']


def _vision_notes(skipped: list[StoredTensor]) -> list[str]:
    if not skipped:
        return []
    size = size_text(sum(tensor.n_bytes for tensor in skipped))
    return [
        f"a vision and language model: {len(skipped)} tensors ({size}) of its vision tower and projector are left "
        f"out, the file holds the text model; --dry-run lists them"
    ]


def _mmproj_output(
    tower: Mmproj, checkpoint: Checkpoint, digests: SourceHashes, options: OutputOptions, outtype: str
) -> tuple[Metadata, list[OutputTensor]]:
    metadata = tower.metadata(checkpoint, outtype)
    digests.add_to(metadata)
    return metadata, tower.tensors(options.threads, outtype)


def _stale_notes(out: Path, adapter: DrafterLora | None, tower: Mmproj | None) -> list[str]:
    """Return warnings of old files beside the new one that would be loaded with it."""
    return [
        f"{path} is from an earlier conversion and will be loaded with {out.name}: remove it if it does not belong"
        for path, written in ((lora_beside(out), adapter), (mmproj_beside(out), tower))
        if not written and path.exists()
    ]
