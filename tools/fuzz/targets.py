"""What is fuzzed: a function that takes bytes, what it may raise, and good inputs to begin with."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from pytrimode.cli.remote_stream import parts_of
from pytrimode.convert import convert
from pytrimode.convert.checkpoint.checkpoint import Checkpoint
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.safetensors_file import SafetensorsFile
from pytrimode.convert.checkpoint.vocab import Vocab
from pytrimode.files.conversation_file import read_conversation
from pytrimode.files.shipped_model import shipped_checkpoint
from pytrimode.formats.chat_template import ChatTemplate
from pytrimode.formats.gbnf_lark import gbnf_to_lark
from pytrimode.formats.json_schema import closed
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.preflight import check_model
from pytrimode.vision.picture import from_bytes
from tests.support.synthetic import make_checkpoint

REFUSALS = (ValueError, ConversionError, OSError)
"""What a reader says no with, in words for the user."""


@dataclass(frozen=True)
class Target:
    """A reader."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = REFUSALS

    def check(self, data: bytes) -> bool:
        """Run it; whether the input was taken. Raises what no reader may raise."""
        try:
            self.run(data)
        except self.refusals as error:
            if isinstance(error, UnicodeError) or not str(error):
                raise
            return False
        return True


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


@cache
def _checkpoint() -> Path:
    return make_checkpoint(_folder() / "checkpoint", lora_rank=2)


@cache
def _gguf() -> bytes:
    return convert(_checkpoint(), _folder() / "model.gguf", "q8_0").path.read_bytes()


def _file(data: bytes) -> Path:
    path = _folder() / "input"
    path.write_bytes(data)
    return path


def _safetensors(data: bytes) -> None:
    file = SafetensorsFile(_file(data))
    for tensor in file.tensors.values():
        file.data.read(tensor.offset, tensor.offset + tensor.n_bytes).release()
    file.close()


def _json(name: str) -> Callable[[bytes], object]:
    """Return the reader of a checkpoint in which one file is the input."""

    def run(data: bytes) -> None:
        folder = _folder() / f"with-{name}"
        if not folder.is_dir():
            shutil.copytree(_checkpoint(), folder)
        (folder / name).write_bytes(data)
        with Checkpoint(folder) as checkpoint:
            Vocab.from_checkpoint(checkpoint, Hyperparameters.from_config(checkpoint.config).vocab_size)

    return run


def _stream(data: bytes) -> None:
    """Read a server's answer as `pytrimode chat --url` does."""
    for part in parts_of(httpx.Response(200, content=data)):
        str(part)


def _grammar(data: bytes) -> None:
    gbnf_to_lark(data.decode(errors="replace"), lambda name: 5 if name == "<|im_end|>" else -1)


def _template(data: bytes) -> None:
    """Render as every prompt is, in the process that may end of it."""
    template = ChatTemplate(data.decode(errors="replace"), bos_token="<s>", eos_token="</s>")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}]
    template.render([*turns, turns[0]], tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])


def _schema(data: bytes) -> None:
    try:
        schema = json.loads(data.decode(errors="replace"))
    except RecursionError as error:
        raise ValueError("the server's own reader refuses it") from error
    closed(schema)


def _events() -> list[bytes]:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "live": {"block": [None, {"text": "a", "p": 0.5}]}}
    last = {"choices": [{"index": 0, "delta": {}, "finish_details": {"type": "stop"}}], "timings": {"predicted_n": 1}}
    lines = [f"data: {json.dumps(one)}\n\n" for one in (chunk, last, {"error": {"message": "wrong"}})]
    return ["".join([": waiting\n\n", *lines[:2], "data: [DONE]\n\n"]).encode(), lines[2].encode()]


def _conversation_seed() -> list[bytes]:
    return [path.read_bytes() for path in sorted((Path(__file__).parent / "corpus/conversation").iterdir())]


def _grammars() -> list[bytes]:
    return [
        b'root ::= ("a" | [b-z] | "\\u00e4"){2,5} ws word+\nws ::= [ \\t\\n]*\nword ::= [^"\\\\]+ # a comment\n',
        b'root ::= <|im_end|> | <[5]> | !<think> "x"? ("y" root)*',
    ]


def _templates() -> list[bytes]:
    return [(folder / "chat_template.jinja").read_bytes() for folder in (shipped_checkpoint(), _checkpoint())]


def _schemas() -> list[bytes]:
    schema = {
        "type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}, "maxItems": 3}},
        "required": ["a"], "$defs": {"b": {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["x", None]}]}},
    }  # fmt: skip
    return [json.dumps(schema).encode()]


def _pictures() -> list[bytes]:
    import io

    from PIL import Image

    found = []
    for kind in ("png", "jpeg", "webp", "gif"):
        stream = io.BytesIO()
        Image.new("RGB", (9, 7)).save(stream, kind)
        found.append(stream.getvalue())
    return found


TARGETS = {
    "gguf": Target(lambda data: check_model(_file(data)), lambda: [_gguf()]),
    "safetensors": Target(_safetensors, lambda: [(_checkpoint() / "model.safetensors").read_bytes()]),
    "tokenizer": Target(_json("tokenizer.json"), lambda: [(_checkpoint() / "tokenizer.json").read_bytes()]),
    "config": Target(_json("config.json"), lambda: [(_checkpoint() / "config.json").read_bytes()]),
    "conversation": Target(lambda data: read_conversation(_file(data)), _conversation_seed),
    "grammar": Target(_grammar, _grammars),
    "template": Target(_template, _templates),
    "schema": Target(_schema, _schemas),
    "stream": Target(_stream, _events),
    "picture": Target(from_bytes, _pictures),
}
