"""A checkpoint directory: its configuration files and its weights, in one safetensors file or several shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.convert.checkpoint.model_card import MODEL_CARD, ModelCard
from pytrimode.convert.checkpoint.safetensors_file import SafetensorsFile, StoredTensor
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.hub_layout import snapshot_of

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
PROCESSOR_TEMPLATE = "chat_template.json"
"""Where processors keep it, those of older vision and language models among them."""
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
LORA_DIR = "linear_spec_lora"
FIRST_WEIGHT = "encoder.embed_tokens.weight"
"""The first tensor: what stands before its name is a prefix of a trainer's wrapper."""

OTHER_WEIGHTS = {
    "consolidated*.safetensors": "Mistral's own layout, which is not read: get the files named model*.safetensors",
    "model-*.safetensors": f"shards without their {WEIGHTS_INDEX}: get that too",
    "adapter_model.safetensors": "an adapter: trimode-convert --lora converts it",
    "*.bin": "only safetensors are read",
    "*.pt*": "only safetensors are read",
}
"""Weights under other names, and what to do about them."""

MODEL_TYPE = "nemotron_labs_diffusion"
VLM_MODEL_TYPE = "nemotron_labs_diffusion_vlm"


class Checkpoint:
    """An opened checkpoint directory. Use it as a context manager: the weights are memory-mapped until it closes.

    Attributes:
        path: the directory.
        config: config.json, its model_type checked; of a vision and language model the settings of its text model.
        weights: the tensors of all shards by name.
        card: what its model card says.
        notes: what the user should know.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises ConversionError when it is no tri-mode checkpoint or its weights are incomplete."""
        path = snapshot_of(path)
        self.path = path
        self.config = read_config(path)
        if not (path / TOKENIZER).is_file():
            raise ConversionError(f"{path / TOKENIZER}: not found: the checkpoint is incomplete, download it again")
        self.card = ModelCard.parse(self.read_optional_text(MODEL_CARD) or "")
        self.notes = _stale_index_notes(path) + self.card.notes
        self.weights = Weights(_weight_files(path))
        self.weights.strip_prefix(FIRST_WEIGHT)

    @property
    def has_vision(self) -> bool:
        """Whether it is a vision and language model."""
        return bool(self.config["model_type"] == VLM_MODEL_TYPE)

    def read_json(self, name: str) -> JsonObject:
        """Return a required JSON file of the directory."""
        return JsonObject.read(self.path / name)

    def read_optional_json(self, name: str) -> JsonObject:
        """Return a JSON file of the directory, empty when there is none."""
        path = self.path / name
        return JsonObject.read(path) if path.is_file() else JsonObject({}, str(path))

    def read_optional_text(self, name: str) -> str | None:
        """Return a text file of the directory, None when there is none."""
        path = self.path / name
        if not path.is_file():
            return None
        try:
            # newline="": a template's line ends are part of the prompt.
            with path.open(encoding="utf-8", newline="") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ConversionError(f"{path}: cannot be read as UTF-8 text: {error}") from None

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


class Weights:
    """The tensors of one or more safetensors files, by name.

    Attributes:
        tensors: what is stored, by name.
        prefix: what was taken off the names; "" for nothing.
    """

    prefix = ""

    def __init__(self, files: dict[Path, list[str] | None]) -> None:
        """Open the files; a list names the tensors that the index promises in a file, None promises nothing."""
        self._files: dict[str, SafetensorsFile] = {}
        self._opened: list[SafetensorsFile] = []
        self.tensors: dict[str, StoredTensor] = {}
        try:
            for path, promised in files.items():
                self._add(path, promised)
        except ConversionError:
            self.close()
            raise

    def file_of(self, name: str) -> SafetensorsFile:
        """Return the file that holds the tensor."""
        return self._files[name]

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [file.path for file in self._opened]

    def strip_prefix(self, known: str) -> None:
        """Take off all names what stands before the tensor `known`, as wrappers of trainers leave it ("module.")."""
        found = [name for name in self.tensors if name.endswith(f".{known}")]
        if known in self.tensors or len(found) != 1:
            return
        self.prefix = found[0].removesuffix(known)
        self._files = {name.removeprefix(self.prefix): file for name, file in self._files.items()}
        self.tensors = {
            name.removeprefix(self.prefix): replace(tensor, name=name.removeprefix(self.prefix))
            for name, tensor in self.tensors.items()
        }

    def close(self) -> None:
        """Unmap all files."""
        for file in self._opened:
            file.close()

    def _add(self, path: Path, promised: list[str] | None) -> None:
        file = SafetensorsFile(path)
        self._opened.append(file)
        for name in promised or []:
            if name not in file.tensors:
                raise ConversionError(f"{path}: tensor {name} is missing, {WEIGHTS_INDEX} says that it is here")
        for name, tensor in file.tensors.items():
            if name in self._files:
                raise ConversionError(f"{path}: tensor {name} is in {self._files[name].path.name} too")
            self._files[name] = file
            self.tensors[name] = tensor


def read_config(path: Path) -> JsonObject:
    """Return config.json of a checkpoint directory; of a vision and language model the settings of its text model.

    Raises ConversionError when it is no tri-mode checkpoint.
    """
    return _text_config(_read_config(snapshot_of(path)))


def _read_config(path: Path) -> JsonObject:
    if not path.exists():
        raise ConversionError(f"{path}: not found: give the directory of a downloaded checkpoint")
    if not path.is_dir():
        raise ConversionError(f"{path}: not a directory: give the directory that holds {CONFIG}")
    if not (path / CONFIG).is_file():
        raise ConversionError(f"{path}: not a checkpoint directory: it has no {CONFIG}")
    config = JsonObject.read(path / CONFIG)
    found = config.get("model_type")
    if found not in (MODEL_TYPE, VLM_MODEL_TYPE):
        raise ConversionError(
            f'{config.where}: model_type: expected "{MODEL_TYPE}" or "{VLM_MODEL_TYPE}", found {found!r}: '
            f"not a tri-mode model"
        )
    return config


def _text_config(config: JsonObject) -> JsonObject:
    """Return the settings of the text model: those of a vision and language model may stand apart, in `text_config`.

    What is null or missing there holds for the whole model.
    """
    if config["model_type"] != VLM_MODEL_TYPE or config.get("text_config") is None:
        return config
    nested = config.object("text_config")
    given = {key: value for key, value in nested.items() if value is not None and key != "model_type"}
    return JsonObject({**config, **given}, nested.where)


def _weight_files(path: Path) -> dict[Path, list[str] | None]:
    """Return the files and what an index promises of each; a single file goes before an index, as in transformers."""
    if (path / WEIGHTS).is_file():
        return {path / WEIGHTS: None}
    if (path / WEIGHTS_INDEX).is_file():
        return _shards(path)
    hint = ""
    for pattern, advice in OTHER_WEIGHTS.items():
        if found := sorted(file.name for file in path.glob(pattern)):
            hint = f" (found {', '.join(found[:3])}: {advice})"
            break
    raise ConversionError(f"{path}: no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX}{hint}")


def _stale_index_notes(path: Path) -> list[str]:
    """Tell of shards beside a single file: an earlier save left them, or the single file is of another one."""
    if not (path / WEIGHTS).is_file() or not (path / WEIGHTS_INDEX).is_file():
        return []
    named = set(JsonObject.read(path / WEIGHTS_INDEX).object("weight_map").values())
    if named == {WEIGHTS}:
        return []
    return [
        f"{WEIGHTS} is converted; {WEIGHTS_INDEX} beside it, which names other files, is left aside, as transformers "
        f"does: remove what is out of date"
    ]


def _shards(path: Path) -> dict[Path, list[str] | None]:
    index = JsonObject.read(path / WEIGHTS_INDEX)
    shards: dict[str, list[str]] = {}
    for name, file in index.object("weight_map").items():
        # A shard lies beside its index; anything else would read files that are not the checkpoint's.
        if not isinstance(file, str) or PurePosixPath(file).name != file:
            raise ConversionError(f"{index.where}: weight_map: {name}: expected a file name, found {file!r}")
        shards.setdefault(file, []).append(name)
    if not shards:
        raise ConversionError(f"{index.where}: weight_map is empty")
    missing = sorted(file for file in shards if not (path / file).is_file())
    if missing:
        raise ConversionError(
            f"{path / missing[0]}: shard not found ({len(missing)} of {len(shards)} are missing): download it"
        )
    return {path / file: names for file, names in sorted(shards.items())}
