"""The page as files over HTTP: what they are, and what the browser may do with them (more in tests/server/browser)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.serving import Served, error_of, loader, served

PAGE = Path(__file__).resolve().parents[2] / "pytrimode/server/page"
VENDOR = {"katex.css", "katex.js", "highlight.js", "marked.js", "purify.js"}
ROOMS = ["base", "store", "server", "answer", "chat", "controls"]
MODULES = [path for path in PAGE.rglob("*.js") if "vendor" not in path.parts and "node_modules" not in path.parts]
"""A module of a room imports only from its own room and those before it."""


def test_every_file_that_the_page_names_is_there(server: Served) -> None:
    seen, waiting = set(), ["/"]
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        response = server.get(address)
        assert response.status_code == 200, address
        if (
            address.endswith((".js", ".css", ".webmanifest", "/")) and "vendor/" not in address
        ) or "katex.css" in address:
            named = re.findall(
                r"""(?:from |src=|href=|URL\(|url\(|import\(|"src": )["']?([\w./-]+\.\w+)["')]""", response.text
            )
            waiting += [str(response.url.join(name).path) for name in named]
    assert {f"/page/vendor/{name}" for name in VENDOR} < seen
    assert sum(address.endswith(".woff2") for address in seen) == 20
    assert {f"/page/{path.relative_to(PAGE).as_posix()}" for path in MODULES} <= seen, "no file that nothing needs"


def test_modules_import_in_one_direction() -> None:
    for path in MODULES:
        room = path.parent.name
        for name in re.findall(r"""from "([^"]+)";""", path.read_text(encoding="utf-8")):
            other = (path.parent / name).resolve().parent.name
            if room in ROOMS and other != "vendor":
                assert ROOMS.index(other) <= ROOMS.index(room), f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "address", ["/", "/page/app.js", "/page/styles/frame.css", "/page/icon.svg", "/page/app.webmanifest"]
)
def test_the_browser_may_load_nothing_else(server: Served, address: str) -> None:
    headers = server.get(address).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert {value for name, value in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert headers["x-content-type-options"] == "nosniff"


def test_no_file_names_another_address() -> None:
    for path in [*MODULES, *PAGE.glob("styles/*.css"), PAGE / "index.html", PAGE / "app.webmanifest"]:
        addresses = set(re.findall(r"https?://[\w./]+", path.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path


def test_what_makes_the_vendored_files_is_not_served(server: Served) -> None:
    assert error_of(server.get("/page/vendoring/vendor.mjs"))["code"] == 404


def test_files_are_asked_for_anew_and_not_sent_twice(server: Served) -> None:
    first = server.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = server.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "vendor", "/etc/passwd", "__init__.py"])
def test_other_paths_are_refused(server: Served, name: str) -> None:
    assert error_of(server.client.get(f"/page/{name}"))["code"] == 404


def test_the_page_needs_no_key_and_its_requests_do(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, 64), api_keys=("right",)) as guarded:
        assert guarded.get("/").status_code == guarded.get("/page/app.js").status_code == 200
        assert guarded.get("/props").status_code == 401
