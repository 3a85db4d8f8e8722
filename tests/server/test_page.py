"""The page as files over HTTP: what they are, and what the browser may do with them (see page_in_browser.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.serving import Served, error_of, loader, served

VENDOR = ["vendor/highlight.js", "vendor/marked.js", "vendor/purify.js"]


def test_every_file_that_the_page_names_is_there(server: Served) -> None:
    seen, waiting = set(), ["/"]
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        response = server.get(address)
        assert response.status_code == 200, address
        named = re.findall(r"""(?:from|src=|href=|URL\() ?["']([\w./]+)["']""", response.text)
        waiting += [str(response.url.join(name).path) for name in named if "vendor" not in address]
    assert {f"/page/{name}" for name in VENDOR} < seen and len(seen) > 10


@pytest.mark.parametrize("address", ["/", "/page/app.js", "/page/style.css", "/page/icon.svg"])
def test_the_browser_may_load_nothing_else(server: Served, address: str) -> None:
    headers = server.get(address).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert {value for name, value in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert headers["x-content-type-options"] == "nosniff"


def test_no_file_names_another_address(server: Served) -> None:
    modules = ("app", "api", "live", "markdown", "markdown_worker", "parser")
    for name in ("/", *(f"/page/{n}.js" for n in modules), "/page/style.css"):
        addresses = set(re.findall(r"https?://[\w./]+", server.get(name).text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name


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
