"""What an evaluation has computed so far, in one SQLite file: every transaction is whole or not there at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pytrimode.gguf.errors import ConversionError
from pytrimode.quantize.evaluation.scores import LogProbs, Scores

APPLICATION_ID = 0x54524956
"""SQLite's mark of whose file it is."""

SCHEMA = """
CREATE TABLE about (what TEXT PRIMARY KEY, value TEXT);
CREATE TABLE base (kind TEXT, chunk INTEGER, piece INTEGER, logprobs BLOB, PRIMARY KEY (kind, chunk, piece));
CREATE TABLE scores (file TEXT, kind TEXT, chunk INTEGER, nll BLOB, kld BLOB, same BLOB,
                     PRIMARY KEY (file, kind, chunk));
CREATE TABLE answers (file TEXT, setting TEXT, prompt TEXT, answer TEXT, PRIMARY KEY (file, setting, prompt));
"""


class Store:
    """The base's log-probabilities, and the scores and answers of all files so far. Use it as a context manager.

    Files are named by digests of their weights, kinds of rows and settings by text.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Open or make the file. Raises ConversionError for one that is something else, or of another base or text."""
        self.path = path
        if not path.parent.is_dir():
            raise ConversionError(f"{path}: the directory {path.parent} does not exist: create it first")
        with self._errors():
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=2)
        try:
            with self._errors():
                # What is committed survives the end of the process in any way; a power failure costs the file at worst.
                self._connection.execute("PRAGMA synchronous = OFF")
                # Held to the end: two runs with one file would do the same work twice.
                self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._open(about)
        except ConversionError:
            self._connection.close()
            raise

    def _open(self, about: Mapping[str, Any]) -> None:
        described = {what: json.dumps(value) for what, value in about.items()}
        with self.transaction():
            if self._one("SELECT count(*) FROM sqlite_master")[0] == 0:
                for statement in SCHEMA.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.executemany("INSERT INTO about VALUES (?, ?)", described.items())
            if self._one("PRAGMA application_id")[0] != APPLICATION_ID:
                raise ConversionError(f"{self.path}: no file of base logits: give another name")
            known = dict(self._connection.execute("SELECT what, value FROM about"))
        for what in [*described, *known]:
            if known.get(what) != described.get(what):
                raise ConversionError(
                    f"{self.path}: was made with another {what}: {_short(known.get(what))} there, "
                    f"{_short(described.get(what))} now: give another name, or remove the file"
                )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that is put within it when it ends, or nothing of it."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def put_base(self, kind: str, chunk: int, piece: int, logprobs: LogProbs) -> None:
        """Keep the base's rows of a pass."""
        self._execute("INSERT INTO base VALUES (?, ?, ?, ?)", kind, chunk, piece, logprobs.to_bytes())

    def base(self, kind: str, chunk: int, piece: int) -> LogProbs:
        """Return the base's rows of a pass."""
        with self._errors():
            found = self._one(
                "SELECT logprobs FROM base WHERE kind = ? AND chunk = ? AND piece = ?", kind, chunk, piece
            )
        return LogProbs.from_bytes(found[0])

    def put_scores(self, file: str, kind: str, chunk: int, scores: Scores) -> None:
        """Keep the scores of a chunk."""
        arrays = [scores.nll.tobytes(), scores.kld.tobytes(), scores.same.tobytes()]
        self._execute("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?)", file, kind, chunk, *arrays)

    def scores(self, file: str, kind: str, chunk: int) -> Scores | None:
        """Return the scores of a chunk, None where there are none yet."""
        with self._errors():
            found = self._one(
                "SELECT nll, kld, same FROM scores WHERE file = ? AND kind = ? AND chunk = ?", file, kind, chunk
            )
        if not found:
            return None
        kinds = (np.float64, np.float64, np.bool_)
        return Scores(*(np.frombuffer(data, kind) for data, kind in zip(found, kinds, strict=True)))

    def put_answer(self, file: str, setting: str, prompt: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer, JSON."""
        self._execute("INSERT INTO answers VALUES (?, ?, ?, ?)", file, setting, prompt, json.dumps(answer))

    def answer(self, file: str, setting: str, prompt: str) -> dict[str, Any] | None:
        """Return an answer, None where there is none yet."""
        with self._errors():
            found = self._one(
                "SELECT answer FROM answers WHERE file = ? AND setting = ? AND prompt = ?", file, setting, prompt
            )
        return json.loads(found[0]) if found else None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _one(self, sql: str, *values: object) -> Any:
        return self._connection.execute(sql, values).fetchone()

    def _execute(self, sql: str, *values: object) -> None:
        with self._errors():
            self._connection.execute(sql, values)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ConversionError(f"{self.path}: another run is using it") from None
            raise ConversionError(f"{self.path}: cannot be opened or written: {error}") from None
        except sqlite3.DatabaseError as error:
            raise ConversionError(f"{self.path}: no file of base logits ({error}): give another name") from None


def _short(value: str | None) -> str:
    return "nothing" if value is None else value if len(value) <= 20 else f"{value[:16]}...{value[-1]}"
