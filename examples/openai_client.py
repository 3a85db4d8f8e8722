"""Start `pytrimode serve` and ask it with the openai package (needs `openai` and the extra [server]).

python examples/openai_client.py [MODEL.gguf]
"""

from __future__ import annotations

import re
import subprocess
import sys

from openai import OpenAI


def main() -> None:
    """Stream one answer, then end the server."""
    command = [sys.executable, "-m", "pytrimode", "serve", *sys.argv[1:2], "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in server.stderr or () if (found := re.search(r"http://[\d.:]+", line)))
        client = OpenAI(base_url=f"{address}/v1", api_key="none")
        stream = client.chat.completions.create(
            model="pytrimode", messages=[{"role": "user", "content": "How are you?"}], stream=True, max_tokens=100
        )
        for chunk in stream:
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
