"""What the files of a conversion are called: as the user says, or by the naming convention of GGUF."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pytrimode.convert.checkpoint.checkpoint import read_config
from pytrimode.convert.general import model_name
from pytrimode.gguf.file_names import drafter_name, lora_path, mmproj_name, mmproj_path


@dataclass(frozen=True)
class OutNames:
    """Names of a model and of what lies beside it.

    Attributes:
        model: the model's file, of which parts take their names too.
        base: by the convention, the model's name without a type; None for a file that the user named.
    """

    model: Path
    base: str | None = None

    @property
    def shares(self) -> bool:
        """Whether drafter LoRA and vision tower belong to all types of the model: those that lie there may be kept."""
        return self.base is not None

    def lora(self, kind: str) -> Path:
        """Return the name of the drafter LoRA in a type."""
        return self.model.with_name(drafter_name(self.base, kind)) if self.base else lora_path(self.model)

    def mmproj(self, kind: str) -> Path:
        """Return the name of the vision tower in a type."""
        return self.model.with_name(mmproj_name(self.base, kind)) if self.base else mmproj_path(self.model)


def out_names(out: str | PathLike[str] | None, checkpoint: Path, outtype: str) -> OutNames:
    """Return the names for `out`: a file, in whose name `{ftype}` stands for the type; else by the convention.

    `out`: a directory, or None for the current one, gets `Model-8B-Q4_K_M.gguf`, by the name of the checkpoint. Raises
    ConversionError where that is none.
    """
    path = output_path(out, outtype) if out is not None else Path()
    if out is not None and not path.is_dir():
        return OutNames(path)
    base = model_name(checkpoint, read_config(checkpoint))
    return OutNames(path / f"{base}-{outtype.upper()}.gguf", base)


def output_path(path: str | PathLike[str], outtype: str) -> Path:
    """Return the file to write: `{ftype}` in its name stands for the type."""
    return Path(str(Path(path)).replace("{ftype}", outtype))
