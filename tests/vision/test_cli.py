"""Images on the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.serving import loader, served
from support.synthetic import edit_json
from support.vlm import make_vlm, picture

from pytrimode.convert import convert

COMMAND = [sys.executable, "-m", "pytrimode"]
N_TOKENS = 1 + 3 * (4 + 1)
FIXED = ["-c", "512", "-t", "1", "-n", "8", "--temp", "0"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(picture(100, 75)).save(path)
    return path


def run(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    """With a terminal's width, through pipes."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip


def test_generate(vlm_gguf: Path, image: Path) -> None:
    done = run("generate", vlm_gguf, "-p", "What is this?", "--image", image, "--json", *FIXED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["prompt_tokens_details"]["image_tokens"] == N_TOKENS
    chat = run("generate", vlm_gguf, "-p", "And these?", "--image", image, "--image", image, "--chat", "--json", *FIXED)
    assert json.loads(chat.stdout)["usage"]["prompt_tokens_details"]["image_tokens"] == 2 * N_TOKENS


def test_chat(vlm_gguf: Path, image: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk"
    turns = ["-p", "What is this?", "-p", f"/image {image}", "-p", "And this?", "-p", f"/save {saved}"]
    done = run("chat", vlm_gguf, "--image", image, *turns, *FIXED)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{image}: 100 x 75, {N_TOKENS} tokens; goes with the next turn") == 2
    again = run("chat", vlm_gguf, "-p", f"/load {saved}", "-p", "Go on", *FIXED)
    assert "2 turns loaded, mode auto" in again.stderr
    assert "tokens cached" in again.stderr


def test_chat_with_a_server(vlm_gguf: Path, image: Path) -> None:
    with served(loader(vlm_gguf, 512), max_body_bytes=1 << 20) as server:
        done = run("chat", "--url", server.url, "--image", image, "-p", "What is this?", "-n", "4")
    assert done.returncode == 0, done.stderr
    assert "100 x 75; goes with the next turn" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "missing.png"], "missing.png"),
        (["--image", __file__], "test_cli.py: the image cannot be decoded"),
        (["--image", "IMAGE", "--no-mmproj"], "was loaded without a vision tower"),
        (
            ["--image", "IMAGE", "--image-max-side", "100"],
            "must be a multiple of 28 from 28 to 1540; the nearest is 112",
        ),
        (["--mmproj", "MODEL"], "general.architecture: expected clip, found mistral3"),
        (["--mmproj", "missing.gguf"], "missing.gguf: no such file"),
    ],
)
def test_errors_are_lines(arguments: list[str], said: str, vlm_gguf: Path, image: Path) -> None:
    given = [{"IMAGE": str(image), "MODEL": str(vlm_gguf)}.get(a, a) for a in arguments]
    for command in (["generate", vlm_gguf, "-p", "x"], ["chat", vlm_gguf, "-p", "x"]):
        done = run(*command, *given, *FIXED)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_info_and_plan(vlm_gguf: Path) -> None:
    shown = run("info", vlm_gguf).stdout
    assert "vision tower   pixtral, 2 layers of 64, sides up to 1400 pixels, F32" in shown
    tower = json.loads(run("info", vlm_gguf.with_name("vlm-mmproj.gguf"), "--json").stdout)
    assert (tower["kind"], tower["vision"]["projector"]) == ("mmproj", "pixtral")
    assert "the tower and its buffer for the largest image" in run("plan", vlm_gguf, "-c", "512").stdout


@pytest.mark.parametrize("nested", [False, True])
def test_plan_of_a_checkpoint_equals_that_of_its_files(nested: bool, tmp_path: Path) -> None:
    """config.json is enough; the tower's default type is F16."""
    model = make_vlm(tmp_path / "vlm", nested=nested)
    converted = convert(model, tmp_path / "vlm.gguf", "f32").path
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(model / "config.json", alone)
    planned, of_files = (json.loads(run("plan", path, "-c", "512", "--json").stdout) for path in (alone, converted))
    assert planned["vision"] == of_files["vision"] > 0
    assert planned["kv_cache"] == of_files["kv_cache"]


def test_plan_of_a_checkpoint_with_another_tower(tmp_path: Path) -> None:
    model = make_vlm(tmp_path / "vlm")
    edit_json(model / "config.json", vision_config__patch_size=16)
    done = run("plan", model)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "vision_config: patch_size" in done.stderr
