"""Ask for an answer that follows a JSON schema.

python examples/json_answer.py [MODEL.gguf]
"""

from __future__ import annotations

import json
import sys

from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer"},
        "units": {"enum": ["metric", "imperial"]},
    },
    "required": ["city", "days", "units"],
    "additionalProperties": False,
}


def main() -> None:
    """Print the parsed answer."""
    with TriMode(sys.argv[1] if len(sys.argv) > 1 else shipped_gguf(), n_ctx=1024) as model:
        answer = model.create_chat_completion(
            [{"role": "user", "content": "What is the weather in Berlin for three days?"}],
            response_format={"type": "json_object", "schema": SCHEMA},
            max_tokens=200,
        )
        print(json.loads(answer["choices"][0]["message"]["content"]))


if __name__ == "__main__":
    main()
