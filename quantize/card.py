"""The model card of GGUF files: README.md of a repository on the Hugging Face hub.

Front matter: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from pytrimode.bench.report import markdown_table
from pytrimode.convert.general import HUB
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.files.file_info import file_info
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside, mmproj_beside
from pytrimode.gguf.metadata import decode_strings
from pytrimode.gguf.output import OutputFile
from pytrimode.gguf.sizes import size_text
from pytrimode.options import modes
from pytrimode.quantize.evaluation.files import FileFacts, file_facts
from pytrimode.quantize.evaluation.report import LEGEND, about_lines, table
from pytrimode.quantize.evaluation.results import Evaluation

TAGS = ("gguf", "llama.cpp", "pytrimode")
IMATRIX = {"file": keys.IMATRIX_FILE, "text": keys.IMATRIX_DATASET, "chunks": keys.IMATRIX_CHUNKS}


@dataclass(frozen=True)
class CardFile:
    """A model file of the repository.

    Attributes:
        facts: type and sizes.
        adapter: its drafter LoRA, None without.
        mmproj: its vision tower, None without.
        metadata: scalars of its metadata.
        tags: general.tags.
        sources: names and SHA-256 of the files that it was made of.
    """

    facts: FileFacts
    adapter: FileFacts | None
    mmproj: FileFacts | None
    metadata: dict[str, Any]
    tags: list[str]
    sources: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> CardFile:
        """Read a file. Raises ConversionError for what is no model."""
        facts = file_facts(path, is_adapter=False)
        beside, tower = lora_beside(path), mmproj_beside(path)
        with GgufInput(path) as file:
            names, digests = (_strings(file, key) for key in (keys.TRIMODE_SOURCE_FILES, keys.TRIMODE_SOURCE_SHA256))
            return cls(
                facts,
                file_facts(beside, is_adapter=True) if beside.is_file() else None,
                file_facts(tower, is_adapter=False, is_mmproj=True) if tower.is_file() else None,
                file.headers[0].metadata,
                _strings(file, keys.GENERAL_TAGS),
                list(zip(names, digests, strict=False)),
            )

    @property
    def source(self) -> str:
        """The model that it was made of: a name on the hub, or the name of a directory."""
        return str(self.metadata.get(keys.TRIMODE_SOURCE_MODEL) or self.name)

    @property
    def name(self) -> str:
        """The model's."""
        return str(self.metadata.get(keys.GENERAL_NAME) or self.facts.path.stem)


def _strings(file: GgufInput, key: str) -> list[str]:
    entry = file.metadata().entry(key)
    return decode_strings(entry) if entry else []


def model_card(
    files: Sequence[Path],
    evaluation: Evaluation | None = None,
    *,
    repo: str | None = None,
    base_model: str | None = None,
) -> str:
    """Return the card of one model's files, with the table of an evaluation.

    `repo`: "OWNER/NAME" on the hub, for the command that downloads them. `base_model`: likewise, the model that they
    were made of, where the files do not say it. Raises ConversionError for files of several models, for what is no
    model, and for a name that is no such.
    """
    for what, named in (("repository", repo), ("base model", base_model)):
        if named is not None and not _is_on_hub(named):
            raise ConversionError(f"{what} {named!r}: expected OWNER/NAME")
    found = [CardFile.read(path) for path in files]
    first = found[0]
    other = next((file for file in found if file.source != first.source), None)
    if other:
        raise ConversionError(
            f"{other.facts.path}: of {other.source}, {first.facts.path} of {first.source}: a card is for one model"
        )
    parts = [
        _front_matter(first, base_model or first.source),
        f"# {_text(first.name)}, GGUF",
        _what(first, base_model or first.source),
        _files(found),
        _usage(found, repo),
        _model(first),
        _provenance(found),
    ]
    if evaluation:
        parts.append(f"## Evaluation\n\n{about_lines(evaluation)}\n\n{table(evaluation)}\n\n{LEGEND}")
    return "\n\n".join(part for part in parts if part) + "\n"


def write_card(path: Path, text: str, *, force: bool) -> None:
    """Write it, whole or not at all. Raises ConversionError where the file exists (without `force`), or cannot be."""
    with OutputFile(path, force=force) as out:
        out.write(text.encode())
        out.publish()


def _front_matter(file: CardFile, base_model: str) -> str:
    fields: dict[str, Any] = {}
    for name, key in (
        ("license", keys.GENERAL_LICENSE),
        ("license_name", keys.GENERAL_LICENSE_NAME),
        ("license_link", keys.GENERAL_LICENSE_LINK),
    ):
        if file.metadata.get(key):
            fields[name] = str(file.metadata[key])
    if _is_on_hub(base_model):
        fields |= {"base_model": base_model, "base_model_relation": "quantized"}
    task = "image-text-to-text" if file.mmproj else "text-generation"
    fields |= {"pipeline_tag": task, "tags": list(dict.fromkeys([*TAGS, *file.tags]))}
    # A JSON value is YAML, whatever characters are in it.
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    return "\n".join(["---", *lines, "---"])


def _is_on_hub(source: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None


def _text(value: object) -> str:
    """Of metadata, in a line of Markdown."""
    return re.sub(r"([|\\`<>\[\]*_#])", r"\\\1", " ".join(str(value).split()))


def _what(file: CardFile, base_model: str) -> str:
    source = f"[{_text(base_model)}]({HUB}{base_model})" if _is_on_hub(base_model) else _text(base_model)
    listed = ", ".join(f"`{mode}` ({modes.MODE_HELP[mode]})" for mode in modes.MODES)
    return (
        f"{source} as GGUF. pytrimode decodes these files in three modes from the same weights: {listed}. Their "
        f"architecture is `{keys.ARCHITECTURE}`, so stock llama.cpp runs them too, in `{modes.AR}`."
    )


def _files(found: Sequence[CardFile]) -> str:
    rows = []
    for file in found:
        for what, part in (("", file.facts), ("drafter LoRA, ", file.adapter), ("vision tower, ", file.mmproj)):
            if part:
                bits = f"{part.bits_per_weight:.2f}"
                rows.append([f"`{part.path.name}`", what + part.outtype, bits, size_text(part.n_bytes)])
    rows = [row for i, row in enumerate(rows) if row not in rows[:i]]  # files may share a drafter LoRA or a tower
    parts = ["## Files", markdown_table(["file", "type", "bits per weight", "size"], rows)]
    if any(file.adapter for file in found):
        parts.append(
            "A drafter LoRA lies beside its model and is used for drafts only: it changes the speed, never the text."
        )
    if any(file.mmproj for file in found):
        parts.append(
            "A vision tower lies beside its model, which takes pictures then; without it the model takes text."
        )
    return "\n\n".join(parts)


def _usage(found: Sequence[CardFile], repo: str | None) -> str:
    smallest = min(found, key=lambda file: abs(file.facts.bits_per_weight - 4.9))  # q4_k_m, or what is near it
    name = smallest.facts.path.name
    names = " ".join([quote(name), *(quote(part.path.name) for part in (smallest.adapter, smallest.mmproj) if part)])
    file = quote(name)
    download = f"hf download {repo} {names} --local-dir .\n" if repo else ""
    return f"""## Use

With pytrimode:

```bash
{download}pytrimode chat {file}
pytrimode chat {file} --mode diffusion
pytrimode serve {file}      # OpenAI-compatible server; needs the extra [server]
```

```python
from pytrimode import TriMode

with TriMode("{name}") as model:
    answer = model.create_chat_completion([{{"role": "user", "content": "Hello"}}], mode="self-spec")
    print(answer["choices"][0]["message"]["content"])
```

With stock llama.cpp (mode `{modes.AR}`; without the drafter LoRA, which is not for causal rows):

```bash
llama-cli -m {file}
llama-server -m {file}
```"""


def _model(file: CardFile) -> str:
    info = file_info(file.facts.path)
    shape, tokenizer = info["shape"], info["tokenizer"]
    rows = [
        ["parameters", f"{file.facts.n_params:,}"],
        ["layers, width, feed-forward", f"{shape['layers']}, {shape['hidden']}, {shape['feed_forward']}"],
        ["heads, key heads, head size", f"{shape['heads']}, {shape['kv_heads']}, {shape['head_dim']}"],
        ["context", f"{shape['context_length']} tokens"],
        ["vocabulary", f"{tokenizer['vocabulary']} tokens, mask {tokenizer['mask_token_id']}"],
        ["modes", ", ".join(info["modes"]["available"])],
        ["block length it was trained for", str(file.metadata.get(keys.TRIMODE_BLOCK_LENGTH, ""))],
    ]
    return "## Model\n\n" + markdown_table(["", ""], (row for row in rows if row[1]))


def _provenance(found: Sequence[CardFile]) -> str:
    sources = list(dict.fromkeys(source for file in found for source in file.sources))
    imatrices = {
        file.facts.path.name: {name: file.metadata[key] for name, key in IMATRIX.items() if key in file.metadata}
        for file in found
    }
    lines = [
        f"- `{name}`: importance matrix " + ", ".join(f"{what} {_text(value)}" for what, value in used.items())
        for name, used in imatrices.items()
        if used
    ]
    if not sources and not lines:
        return ""
    parts = ["## Made from"]
    if sources:
        parts.append(markdown_table(["file", "SHA-256"], ([_text(name), f"`{_text(sha)}`"] for name, sha in sources)))
        parts.append("As recorded by trimode-convert in each file; `trimode-convert --check FILE DIR` compares them.")
    if lines:
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
