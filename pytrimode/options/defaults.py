"""What holds where nobody asks otherwise. Command line, server, API and documents take these values from here."""

from __future__ import annotations

from pytrimode._native import LOOP_MIN_REPEATS, LOOP_WINDOW
from pytrimode.gguf.keys import DEFAULT_THRESHOLD as DEFAULT_THRESHOLD

DEFAULT_MAX_TOKENS = 16
"""Of a completion, as in llama-cpp-python; a chat answers to the end of the context."""
DEFAULT_TEMPERATURE = 0.8
"""Of a completion; llama-cpp-python's."""
DEFAULT_CHAT_TEMPERATURE = 0.2
"""Of a chat completion; llama-cpp-python's."""

DEFAULT_BLOCK_LENGTH = 16
"""Tokens per block of self-spec, and of diffusion where the file names none."""
DEFAULT_LOOP_WINDOW = LOOP_WINDOW
DEFAULT_LOOP_MIN_REPEATS = LOOP_MIN_REPEATS

DEFAULT_N_CTX = 4096
"""Longest context that is reserved unless asked otherwise; models are trained for up to 262,144."""
DEFAULT_N_BATCH = 512
"""Most rows in a pass."""
DEFAULT_N_UBATCH = 128
"""Rows of prompts beside requests that decode: more would keep those waiting, fewer read the weights too often."""
EXACT_ROWS = 32
"""Of every pass that decodes, where text must be exact on a GPU: a longest block of these models."""
DEFAULT_CACHE_TYPE = "f16"
