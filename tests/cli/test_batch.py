"""`pytrimode batch`: files of requests in OpenAI's format."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pexpect
import pytest
from support.serving import until
from support.terminal import COMMAND, TIMEOUT, run

from pytrimode import TriMode
from pytrimode.server.batch import AnswersFile, run_batch
from pytrimode.server.settings import ServerSettings

pytestmark = pytest.mark.slow

OPTIONS = ["-t", 1, "-np", 3, "-c", 1024, "--temp", 0]
CHAT = "/v1/chat/completions"


def request(custom_id: str, url: str = CHAT, **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def questions(n: int, max_tokens: int = 12) -> list[str]:
    return [
        request(f"q{i}", messages=[{"role": "user", "content": f"What is {i} plus 30?"}], max_tokens=max_tokens)
        for i in range(n)
    ]


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(path: Path) -> dict[str, str]:
    return {r["custom_id"]: r["response"]["body"]["choices"][0]["message"]["content"] for r in records(path)}


def test_answers_are_those_of_the_model_alone(q8_gguf: Path, model: TriMode, tmp_path: Path) -> None:
    lines = [*questions(5), request("text", "/v1/completions", prompt="Write a", max_tokens=5)]
    output = tmp_path / "answers.jsonl"
    done = run("batch", written(tmp_path / "in.jsonl", lines), "-o", output, "-m", q8_gguf, *OPTIONS)
    assert done.returncode == 0 and "6 answered" in done.stderr and done.stdout == ""
    by_id = {record["custom_id"]: record for record in records(output)}
    for i in range(5):
        messages = [{"role": "user", "content": f"What is {i} plus 30?"}]
        expected: Any = model.create_chat_completion(messages, max_tokens=12, temperature=0.0)
        response = by_id[f"q{i}"]["response"]
        assert response["body"]["choices"] == expected["choices"] and response["status_code"] == 200
        assert by_id[f"q{i}"]["error"] is None and by_id[f"q{i}"]["id"].startswith("batch_req_")
    completion: Any = model.create_completion("Write a", max_tokens=5, temperature=0.0)
    assert by_id["text"]["response"]["body"]["choices"] == completion["choices"]


def test_bad_lines_become_records_and_a_rerun_has_nothing_to_do(q8_gguf: Path, tmp_path: Path) -> None:
    good, *_ = questions(1)
    lines = [
        good, "", "nonsense", "[1]", good, '{"method": "POST"}', request("x", "/v1/files"), request("y", stream=True),
        json.dumps({"custom_id": "z", "method": "GET", "url": CHAT, "body": {}}),
        request("refused", messages=[]), request("long", messages=[{"role": "user", "content": "word " * 2000}]),
    ]  # fmt: skip
    output = tmp_path / "answers.jsonl"
    command = ["batch", written(tmp_path / "in.jsonl", lines), "-o", output, "-m", q8_gguf, *OPTIONS]
    done = run(*command)
    assert done.returncode == 1 and "1 answered, 9 refused" in done.stderr and "Traceback" not in done.stderr
    found = records(output)
    by_line = {r["error"]["line"]: r["error"]["code"] for r in found if r["error"]}
    assert by_line == {
        3: "invalid_json_line", 4: "invalid_json_line", 5: "duplicate_custom_id", 6: "missing_required_parameter",
        7: "invalid_url", 8: "invalid_request", 9: "invalid_method",
    }  # fmt: skip
    refused = {r["custom_id"]: r["response"] for r in found if r["response"] and r["response"]["status_code"] != 200}
    assert set(refused) == {"refused", "long"} and {r["status_code"] for r in refused.values()} == {400}
    assert "messages" in refused["refused"]["body"]["error"]["message"]
    before = output.read_bytes()
    again = run(*command)
    assert again.returncode == 0 and "0 answered, 10 were there" in again.stderr and output.read_bytes() == before


def test_nothing_is_lost_when_the_process_is_killed(q8_gguf: Path, tmp_path: Path) -> None:
    lines = questions(24, max_tokens=30)
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    requests = written(tmp_path / "in.jsonl", lines)
    assert run("batch", requests, "-o", whole, "-m", q8_gguf, *OPTIONS).returncode == 0
    command = ["batch", requests, "-o", killed, "-m", q8_gguf, *OPTIONS]
    arguments = [str(part) for part in command]
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE) as process:
        until(lambda: killed.exists() and killed.read_bytes().count(b"\n") >= 4)
        process.send_signal(signal.SIGKILL)
    kept = texts(killed)
    assert 4 <= len(kept) < 24
    with killed.open("ab") as torn:
        torn.write(b'{"id": "batch_req_1", "custom_id": "q23", "respo')
    done = run(*command)
    assert done.returncode == 0 and f"{24 - len(kept)} answered, {len(kept)} were there" in done.stderr
    assert len(records(killed)) == 24 and texts(killed) == texts(whole)


def test_the_slots_are_busy(q8_gguf: Path, tmp_path: Path) -> None:
    loaded: list[TriMode] = []

    def load() -> TriMode:
        loaded.append(TriMode(q8_gguf, n_ctx=1024, n_threads=1, n_parallel=4))
        return loaded[0]

    rows: list[float] = []
    with AnswersFile(tmp_path / "answers.jsonl") as answers:
        run_batch(load, ServerSettings(), questions(16), answers, n_parallel=4,
                  tell=lambda _: rows.append(loaded[0].engine.times["passes"]))  # fmt: skip
    of_answers = sum(r["response"]["body"]["timings"]["forward_passes"] for r in records(tmp_path / "answers.jsonl"))
    assert rows[-1] - rows[0] < 0.6 * of_answers, "a pass has the rows of several answers"


def test_files_that_are_not_for_it(q8_gguf: Path, tmp_path: Path) -> None:
    requests = written(tmp_path / "in.jsonl", questions(1))
    notes = written(tmp_path / "notes.txt", ["my notes"])
    for output, message in ((notes, "line 1 is no answer of a batch"), (requests, "the file with the requests"),
                            (tmp_path / "none" / "x", "No such file")):  # fmt: skip
        done = run("batch", requests, "-o", output, "-m", q8_gguf)
        assert done.returncode in (1, 2) and message in done.stderr and "Traceback" not in done.stderr
    assert notes.read_text() == "my notes\n"
    with AnswersFile(tmp_path / "busy.jsonl"):
        done = run("batch", requests, "-o", tmp_path / "busy.jsonl", "-m", q8_gguf)
        assert done.returncode == 1 and "another run is writing it" in done.stderr
    assert run("batch", requests, "-o", tmp_path / "x", "-m", tmp_path / "none.gguf").returncode == 1


def test_a_bar_on_a_terminal(q8_gguf: Path, tmp_path: Path) -> None:
    requests = written(tmp_path / "in.jsonl", questions(3))
    command = ["batch", requests, "-o", tmp_path / "out.jsonl", "-m", q8_gguf, *OPTIONS]
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], *map(str, command)], encoding="utf-8", timeout=TIMEOUT)
    child.expect("3/3")
    child.expect("3 answered")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
