"""A server on this machine that speaks the Hugging Face hub's API, as far as downloads need it.

Source: https://huggingface.co/docs/hub/api, and the headers that huggingface_hub reads.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_let_me_in"


@dataclass
class HubRepo:
    """A repository: the files of a directory, and who may have them."""

    directory: Path
    gated: bool = False
    private: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    """What the hub claims instead of the real sizes."""

    @property
    def files(self) -> dict[str, Path]:
        return {str(p.relative_to(self.directory)): p for p in sorted(self.directory.rglob("*")) if p.is_file()}

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, path in self.files.items():
            digest.update(f"{name} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def listing(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "size": self.sizes.get(name, path.stat().st_size), "oid": etag_of(path)}
            for name, path in self.files.items()
        ]


def etag_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Hub:
    """The server, and what it was asked.

    Attributes:
        repos: by "OWNER/NAME".
        requests: method, path and the header Range of each request.
        cut_after: bytes after which the first answer with a file breaks off, by its name.
        status: what every request is answered with instead, None for none.
    """

    def __init__(self) -> None:
        self.repos: dict[str, HubRepo] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.cut_after: dict[str, int] = {}
        self.status: int | None = None
        self.url = ""

    def downloads(self) -> list[str]:
        """Names of the files that were sent, in order."""
        return [path.split("/", 5)[5] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if self.hub.status:
            self._send(self.hub.status, {})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._info(found[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            self._tree(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(found[1], found[2])
        else:
            self._send(404, {})

    def _repo(self, name: str) -> HubRepo | None:
        """The repository, if it is there and may be seen; the hub tells the two apart for nobody."""
        repo = self.hub.repos.get(name)
        if repo and (not repo.private or self._known()):
            return repo
        if self._known():
            self._send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        else:
            self._send(401, {"X-Error-Message": "Invalid username or password."})
        return None

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _info(self, name: str) -> None:
        if repo := self._repo(name):
            siblings = [{"rfilename": f["name"], "size": f["size"], "blobId": f["oid"]} for f in repo.listing()]
            about = {"_id": "1", "id": name, "modelId": name, "sha": repo.commit, "siblings": siblings}
            self._send(200, {}, json.dumps(about | {"gated": "auto" if repo.gated else False}).encode())

    def _tree(self, name: str) -> None:
        if repo := self._repo(name):
            entries = [{"type": "file", "path": f["name"], "size": f["size"], "oid": f["oid"]} for f in repo.listing()]
            self._send(200, {}, json.dumps(entries).encode())

    def _file(self, name: str, file: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if repo.gated and not self._known():
            self._send(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {name} is restricted"})
            return
        if file not in repo.files:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        path = repo.files[file]
        data = path.read_bytes()
        headers = {"ETag": f'"{etag_of(path)}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        start = 0
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(found[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.hub.cut_after.pop(file, None) if self.command == "GET" else None
        self._send(206 if start else 200, headers, data[start:], cut)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"", cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
