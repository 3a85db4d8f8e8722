"""Many requests from a file, in OpenAI's batch format, through the server's own routes without a socket.

A line of the input is `{"custom_id", "method", "url", "body"}`, a line of the output
`{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}`. A line that is no request gets a
record with an `error` that has its number.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from pytrimode.server.app import create_app
from pytrimode.server.middleware import REQUEST_ID
from pytrimode.server.settings import ServerSettings
from pytrimode.trimode import TriMode

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
IN_FLIGHT = 2
"""Requests for each slot: while one is answered, the next one is read."""
_POLL_SECONDS = 0.05


class BadLineError(ValueError):
    """A line that is no request; `code` is OpenAI's or like theirs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class BatchRequest:
    """A line of the input."""

    custom_id: str
    url: str
    body: dict[str, Any]


def parse_request(line: str) -> BatchRequest:
    """Read a line. Raises BadLineError that names the field."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLineError("invalid_json_line", f"this is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise BadLineError("invalid_json_line", "a line must be an object with custom_id, method, url and body")
    custom_id, url, body = (given.get(name) for name in ("custom_id", "url", "body"))
    if not isinstance(custom_id, str) or not custom_id:
        raise BadLineError("missing_required_parameter", "custom_id is missing, or no text")
    if given.get("method", "POST") != "POST":
        raise BadLineError("invalid_method", f"method {given['method']!r}: must be POST")
    if url not in URLS:
        raise BadLineError("invalid_url", f"url {url!r}: must be one of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise BadLineError("missing_required_parameter", "body is missing, or no object")
    if body.get("stream"):
        raise BadLineError("invalid_request", "body.stream: an answer in a file is not streamed")
    return BatchRequest(custom_id, url, body)


class AnswersFile:
    """The output, open for one run at a time: every record is written at once and whole.

    Raises ValueError for a file that holds something else, BlockingIOError while another run writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ids: set[str] = set()
        """Of requests that are answered."""
        self.lines: set[int] = set()
        """Numbers of lines of the input that were refused."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._file, path)
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AnswersFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self._file)

    def add(self, record: dict[str, Any]) -> None:
        """Append a record: in one write, so that a process that is killed leaves at most the last one torn."""
        data = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        while data:
            data = data[os.write(self._file, data) :]

    def _read(self) -> None:
        """Take note of what is there, and cut a record off that was not written to its end."""
        whole = 0
        with self._path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break
                self._note(number, line)
                whole += len(line)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)

    def _note(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            error = record["error"]
            if error and "line" in error:
                self.lines.add(int(error["line"]))
            else:
                self.ids.add(record["custom_id"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self._path}: line {number} is no answer of a batch: give another name with -o"
            ) from None


def _lock(file: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(f"{path}: another run is writing it") from None


@dataclass
class Progress:
    """What has become of the requests so far."""

    answered: int = 0
    refused: int = 0
    """Bad lines, and requests that the server refuses."""
    before: int = 0
    """Found in the output: an earlier run's."""
    tokens: int = 0
    """Of the answers."""
    seen: set[str] = field(default_factory=set)

    @property
    def lines(self) -> int:
        """Lines of the input that are done."""
        return self.answered + self.refused + self.before


def run_batch(
    load: Callable[[], TriMode],
    settings: ServerSettings,
    lines: Iterable[str],
    answers: AnswersFile,
    *,
    n_parallel: int,
    tell: Callable[[Progress], None],
) -> Progress:
    """Answer the lines that `answers` does not have yet; `tell` is called when the model is there, and for each line.

    Raises what `load` raises.
    """
    return asyncio.run(_Batch(load, settings, answers, n_parallel, tell).run(lines))


class _Batch:
    """One run."""

    def __init__(
        self,
        load: Callable[[], TriMode],
        settings: ServerSettings,
        answers: AnswersFile,
        n_parallel: int,
        tell: Callable[[Progress], None],
    ) -> None:
        self._app = create_app(settings, load)
        self._answers = answers
        self._at_a_time = IN_FLIGHT * n_parallel
        self._tell = tell
        self._progress = Progress()

    async def run(self, lines: Iterable[str]) -> Progress:
        """Keep the slots busy until the lines end."""
        transport = httpx.ASGITransport(self._app)
        async with (
            self._app.router.lifespan_context(self._app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as client,
        ):
            await self._loaded()
            self._tell(self._progress)
            running: set[asyncio.Task[None]] = set()
            try:
                for request in self._requests(lines):
                    running.add(asyncio.create_task(self._answer(client, request)))
                    if len(running) >= self._at_a_time:
                        running = await self._some_done(running)
                while running:
                    running = await self._some_done(running)
            finally:
                for task in running:
                    task.cancel()
        return self._progress

    @staticmethod
    async def _some_done(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        done, others = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return others

    async def _loaded(self) -> None:
        host = self._app.state.host
        while not host.is_ready:
            if host.failure:
                raise host.failure
            await asyncio.sleep(_POLL_SECONDS)

    def _requests(self, lines: Iterable[str]) -> Iterator[BatchRequest]:
        """Yield what is still to be answered; bad lines become records."""
        progress, answers = self._progress, self._answers
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if number in answers.lines:
                progress.before += 1
                continue
            try:
                request = parse_request(line)
                if request.custom_id in progress.seen:
                    raise BadLineError("duplicate_custom_id", f"custom_id {request.custom_id!r} occurs twice")
            except BadLineError as error:
                told = {"code": error.code, "message": str(error), "line": number}
                answers.add({"id": _new_id(), "custom_id": None, "response": None, "error": told})
                progress.refused += 1
                self._tell(progress)
                continue
            progress.seen.add(request.custom_id)
            if request.custom_id in answers.ids:
                progress.before += 1
                self._tell(progress)
                continue
            yield request

    async def _answer(self, client: httpx.AsyncClient, request: BatchRequest) -> None:
        response = await client.post(request.url, json=request.body)
        body = response.json()
        told = {"status_code": response.status_code, "request_id": response.headers[REQUEST_ID], "body": body}
        self._answers.add({"id": _new_id(), "custom_id": request.custom_id, "response": told, "error": None})
        if response.is_success:
            usage = body["usage"]
            self._progress.answered += 1
            self._progress.tokens += usage.get("completion_tokens") or usage.get("output_tokens") or 0
        else:
            self._progress.refused += 1
        self._tell(self._progress)


def _new_id() -> str:
    return f"batch_req_{uuid.uuid4().hex}"
