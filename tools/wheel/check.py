"""Install a wheel where nothing can be compiled, and do the main jobs with it: convert, chat in every mode, serve.

    python tools/wheel/check.py WHEEL

Makes a virtual environment with this Python in a temporary folder. Its commands see no compiler, no CMake and no other
packages; llama-cpp-python must not come along. Raises SystemExit at the first thing that is not as it should be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PROMPT = "Sort these numbers: 74, 31, 95, 12"
PORT = 18233


def main() -> None:
    """Install, then one job after the other."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        check(Root(Path(directory)), wheel)


class Root:
    """A folder with a virtual environment, and commands that run in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(directory),
            "CC": "/nonexistent/cc",
            "CXX": "/nonexistent/c++",
            **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))},
        }

    def run(self, command: str, *arguments: str | Path, text: str | None = None) -> str:
        """Return what a command of the environment prints; exit with its own words where it fails."""
        done = subprocess.run(
            [self.bin / command, *arguments], env=self.environment, cwd=self.directory, input=text,
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        if done.returncode:
            line = " ".join(map(str, (command, *arguments)))
            sys.exit(f"{line}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def check(root: Root, wheel: Path) -> None:
    """Do all jobs."""
    start = time.perf_counter()
    root.run("pip", "install", "-q", f"{wheel}[server]")
    print(f"installed in {time.perf_counter() - start:.0f} s")
    installed = root.run("pip", "freeze")
    if "llama_cpp_python" in installed or "llama-cpp-python" in installed:
        sys.exit(f"llama-cpp-python has come along:\n{installed}")

    findings = {f["name"]: f for f in json.loads(root.run("pytrimode", "doctor", "--json"))["findings"]}
    for name in ("engine", "backends", "CPU features"):
        print(f"{name}: {findings[name]['found']}" if name in findings else f"{name}: -")

    package = Path(root.run("python", "-c", "import pytrimode; print(pytrimode.__file__)").strip()).parent
    for outtype in ("q8_0", "q4_k_m"):
        model = root.directory / f"{outtype}.gguf"
        root.run("trimode-convert", package / "models" / "trimode-tiny", model, f"--{outtype}")
        answers = {
            mode: root.run("pytrimode", "generate", model, "--chat", "--mode", mode, "--temperature", "0", "-p", PROMPT)
            for mode in ("ar", "self-spec", "auto", "diffusion")
        }
        if len({answers[mode] for mode in ("ar", "self-spec", "auto")}) != 1 or "12, 31, 74, 95" not in answers["ar"]:
            sys.exit(f"{outtype}: the modes do not answer alike: {answers}")
        print(f"{outtype}: ar, self-spec and auto answer alike: {answers['ar'].strip()!r}")
    chat = root.run("pytrimode", "chat", root.directory / "q8_0.gguf", text=f"{PROMPT}\n")
    if "12, 31, 74, 95" not in chat:
        sys.exit(f"chat does not answer: {chat}")
    print("chat answers")
    serve(root, root.directory / "q8_0.gguf")


def serve(root: Root, model: Path) -> None:
    """Ask the server once, then stop it."""
    server = subprocess.Popen(
        [root.bin / "pytrimode", "serve", model, "--port", str(PORT)], env=root.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        body = json.dumps({"messages": [{"role": "user", "content": PROMPT}], "temperature": 0}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        for _ in range(200):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    answer = json.load(response)["choices"][0]["message"]["content"]
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("the server does not answer")
    finally:
        server.terminate()
        code = server.wait(timeout=30)
    if "12, 31, 74, 95" not in answer or code:
        sys.exit(f"the server answers {answer!r} and ends with {code}")
    print("serve answers, and ends with 0")


if __name__ == "__main__":
    main()
