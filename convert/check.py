"""Does a GGUF file hold a checkpoint, tensor by tensor and key by key? `trimode-convert --check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path

from pytrimode.convert.checkpoint.checkpoint import Checkpoint
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.names import match_weights, vision_weights
from pytrimode.convert.checkpoint.vocab import Vocab
from pytrimode.convert.conversion import checkpoint_metadata, source_files
from pytrimode.convert.encode import SourceTensor, checkpoint_tensor, encode_tensor
from pytrimode.convert.gguf_input import MMPROJ_DIMS, GgufInput
from pytrimode.convert.imatrix_file import ImportanceMatrix
from pytrimode.convert.provenance import SourceHashes
from pytrimode.convert.vision.mmproj import DEFAULT_MMPROJ_TYPE, Mmproj
from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import mmproj_beside
from pytrimode.gguf.metadata import Metadata, decode_strings
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.threads import default_threads

# They describe the file, not the checkpoint.
OF_THE_FILE = (keys.GENERAL_FILE_TYPE, keys.GENERAL_QUANTIZATION_VERSION, "trimode.source.", "quantize.")


@dataclass(frozen=True)
class CheckResult:
    """What a comparison found.

    Attributes:
        n_tensors: tensors compared.
        n_keys: metadata keys compared.
        hashes_checked: the file records SHA-256 of its source files, and they were compared too.
        differences: each in one line; empty when the file holds the checkpoint.
        n_skipped: tensors of the checkpoint that stand in another file: those of a vision and language model's vision.
        is_mmproj: the file is a vision tower's.
    """

    n_tensors: int
    n_keys: int
    hashes_checked: bool
    differences: list[str]
    n_skipped: int = 0
    is_mmproj: bool = False


def files_to_check(gguf: Path) -> list[Path]:
    """Return the file and, where there is one beside it, its vision tower's."""
    beside = mmproj_beside(gguf)
    return [gguf, beside] if beside.is_file() and beside != gguf else [gguf]


def check(
    gguf: str | PathLike[str],
    model_dir: str | PathLike[str],
    *,
    threads: int | None = None,
    imatrix: str | PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckResult:
    """Compare a GGUF file, a model or the vision tower of one, with the checkpoint that it was made from.

    Every weight of the checkpoint is encoded again, in the type that its tensor has in the file, and must give the same
    bytes; every key that the converter would write must be there with the same value, further keys do not matter.

    imatrix: the importance matrix that the file was made with. progress: called with (bytes compared, bytes in all).
    Raises ConversionError when one of them cannot be read, or an importance matrix is needed and not given.
    """
    with GgufInput(Path(gguf), max_dims=MMPROJ_DIMS) as file, Checkpoint(Path(model_dir)) as checkpoint:
        hparams = Hyperparameters.from_config(checkpoint.config)
        vocab = Vocab.from_checkpoint(checkpoint, hparams.vocab_size)
        if file.value(keys.GENERAL_ARCHITECTURE) == vision_keys.ARCHITECTURE:
            return _check_mmproj(file, checkpoint, Mmproj.open(checkpoint, hparams, vocab), threads or 0, progress)
        importance = _importance(file, imatrix)
        weights = match_weights(checkpoint, hparams)
        n_params = sum(prod(weight.shape) for weight in weights)
        expected = checkpoint_metadata(checkpoint, hparams, vocab, OUTPUT_TYPES["f32"], n_params)
        n_keys, differences = _compare_keys(expected.without(*OF_THE_FILE), file.metadata())
        with _hashes_for(file, checkpoint) as hashes:
            sources = [checkpoint_tensor(checkpoint.weights, weight) for weight in weights]
            differences += _compare_tensors(sources, file, importance, threads or default_threads(), progress)
            differences += _compare_hashes(file.metadata(), hashes)
        n_skipped = len(vision_weights(checkpoint))
        return CheckResult(len(sources), n_keys, bool(hashes.files), differences, n_skipped)


def _check_mmproj(
    file: GgufInput,
    checkpoint: Checkpoint,
    tower: Mmproj | None,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> CheckResult:
    if tower is None:
        raise ConversionError(f"{file.path}: a vision tower, {checkpoint.path} is no vision and language model")
    expected = tower.metadata(checkpoint, DEFAULT_MMPROJ_TYPE)
    n_keys, differences = _compare_keys(expected.without(*OF_THE_FILE), file.metadata())
    with _hashes_for(file, checkpoint) as hashes:
        differences += _compare_tensors(tower.sources, file, None, threads, progress)
        differences += _compare_hashes(file.metadata(), hashes)
    return CheckResult(len(tower.sources), n_keys, bool(hashes.files), differences, is_mmproj=True)


def _hashes_for(file: GgufInput, checkpoint: Checkpoint) -> SourceHashes:
    """Of the checkpoint's files, where the file records them."""
    return SourceHashes(source_files(checkpoint) if keys.TRIMODE_SOURCE_SHA256 in file.metadata() else [])


def _importance(file: GgufInput, imatrix: str | PathLike[str] | None) -> ImportanceMatrix | None:
    used = file.value(keys.IMATRIX_FILE)
    if imatrix is None and used is not None:
        raise ConversionError(
            f"{file.path}: was made with the importance matrix {used}: give it with --imatrix to compare the bytes"
        )
    return ImportanceMatrix.read(Path(imatrix)) if imatrix is not None else None


def _compare_keys(expected: Metadata, found: Metadata) -> tuple[int, list[str]]:
    differences = []
    for key in expected.keys():  # noqa: SIM118  # no dictionary
        if key not in found:
            differences.append(f"{key}: missing")
        elif expected.entry(key) != found.entry(key):
            differences.append(f"{key}: differs from what the checkpoint gives")
    return len(expected), differences


def _compare_tensors(
    sources: list[SourceTensor],
    file: GgufInput,
    imatrix: ImportanceMatrix | None,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[str]:
    found = {tensor.name: tensor for tensor in file.tensors}
    done, total = 0, sum(tensor.n_bytes for tensor in found.values())
    for source in sources:
        tensor = found.pop(source.name, None)
        if tensor is None:
            yield f"tensor {source.name}: missing"
            continue
        if tensor.shape != source.shape:
            yield f"tensor {source.name}: shape {list(tensor.shape)}, the checkpoint has {list(source.shape)}"
        elif not _same_bytes(source, tensor, imatrix, threads):
            yield f"tensor {source.name}: other weights than the checkpoint's in {tensor.kind.name}"
        done += tensor.n_bytes
        if progress:
            progress(done, total)
    for name in found:
        yield f"tensor {name}: not in the checkpoint"


def _same_bytes(source: SourceTensor, tensor: SourceTensor, imatrix: ImportanceMatrix | None, threads: int) -> bool:
    importance = imatrix.of(source) if imatrix and tensor.kind.is_quantized else None
    position = tensor.offset
    for chunk in encode_tensor(source, tensor.kind, threads, importance):
        with tensor.file.read(position, position + len(chunk)) as stored:
            if stored != chunk:
                return False
        tensor.file.forget(position, position + len(chunk))
        position += len(chunk)
    return True


def _compare_hashes(metadata: Metadata, hashes: SourceHashes) -> Iterator[str]:
    if not hashes.files:
        return
    files, digests = (
        decode_strings(metadata.entry(key) or b"") for key in (keys.TRIMODE_SOURCE_FILES, keys.TRIMODE_SOURCE_SHA256)
    )
    recorded = dict(zip(files, digests, strict=False))
    for path, digest in zip(hashes.files, hashes.result(), strict=True):
        if recorded.get(path.name) != digest:
            yield f"{path.name}: SHA-256 {digest}, the file records {recorded.get(path.name, 'none')}"
