"""Environment variables of options: `PYTRIMODE_CTX_SIZE` for `--ctx-size`, and llama.cpp's own where it has one."""

from __future__ import annotations

import click

PREFIX = "PYTRIMODE_"
LLAMA_VARIABLES = {
    "--alias": "LLAMA_ARG_ALIAS",
    "--api-key": "LLAMA_API_KEY",
    "--batch-size": "LLAMA_ARG_BATCH",
    "--cache-type-k": "LLAMA_ARG_CACHE_TYPE_K",
    "--cache-type-v": "LLAMA_ARG_CACHE_TYPE_V",
    "--chat-template-file": "LLAMA_ARG_CHAT_TEMPLATE_FILE",
    "--ctx-size": "LLAMA_ARG_CTX_SIZE",
    "--flash-attn": "LLAMA_ARG_FLASH_ATTN",
    "--hf-repo": "LLAMA_ARG_HF_REPO",
    "--host": "LLAMA_ARG_HOST",
    "--log-file": "LLAMA_LOG_FILE",
    "--main-gpu": "LLAMA_ARG_MAIN_GPU",
    "--max-tokens": "LLAMA_ARG_N_PREDICT",
    "--mlock": "LLAMA_ARG_MLOCK",
    "--mmap": "LLAMA_ARG_MMAP",
    "--mmproj": "LLAMA_ARG_MMPROJ",
    "--model": "LLAMA_ARG_MODEL",
    "--n-gpu-layers": "LLAMA_ARG_N_GPU_LAYERS",
    "--parallel": "LLAMA_ARG_N_PARALLEL",
    "--port": "LLAMA_ARG_PORT",
    "--reasoning-format": "LLAMA_ARG_THINK",
    "--rpc": "LLAMA_ARG_RPC",
    "--split-mode": "LLAMA_ARG_SPLIT_MODE",
    "--tensor-split": "LLAMA_ARG_TENSOR_SPLIT",
    "--threads": "LLAMA_ARG_THREADS",
    "--timeout": "LLAMA_ARG_TIMEOUT",
    "--top-k": "LLAMA_ARG_TOP_K",
    "--ubatch-size": "LLAMA_ARG_UBATCH",
}
"""llama.cpp's names, by our flag that means the same."""


def variables_of(option: click.Option) -> list[str]:
    """Return the variables that an option is read from: the first that is set counts."""
    flags = [flag for flag in option.opts if flag.startswith("--")]
    own = [PREFIX + flag[2:].replace("-", "_").upper() for flag in flags]
    return own + [LLAMA_VARIABLES[flag] for flag in flags if flag in LLAMA_VARIABLES]
