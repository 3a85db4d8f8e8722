"""What `llama_cpp` has and pytrimode lacks: neutral values pass, others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Refusals = Mapping[str, tuple[tuple[Any, ...], str]]
"""By parameter: the values that change nothing, and what to do about others."""

_FILE = "the file says it; leave it out"
_OWN_DRAFTS = "the model drafts by itself; leave it out and choose with mode="

LOADING: Refusals = {
    "vocab_only": ((False,), "load the whole model: leave it out"),
    "use_mlock": ((False,), "memory is not locked; leave it out"),
    "kv_overrides": ((None, {}), "metadata is read as it is; change the file"),
    "rope_scaling_type": ((-1, None), _FILE),
    "pooling_type": ((-1, 0), "there are no embeddings; leave it out"),
    "attention_type": ((-1,), _FILE),
    "rope_freq_base": ((0.0,), _FILE),
    "rope_freq_scale": ((0.0,), _FILE),
    "yarn_ext_factor": ((-1.0,), _FILE),
    "yarn_attn_factor": ((1.0,), _FILE),
    "yarn_beta_fast": ((32.0,), _FILE),
    "yarn_beta_slow": ((1.0,), _FILE),
    "yarn_orig_ctx": ((0,), _FILE),
    "embedding": ((False,), "there are no embeddings; use an embedding model with llama_cpp"),
    "offload_kqv": ((True,), "the cache lies where its layers are; choose with n_gpu_layers"),
    "op_offload": ((None, True), "operations run where their layers are; choose with n_gpu_layers"),
    "swa_full": ((None,), "these models have no sliding window; leave it out"),
    "lora_base": ((None,), "leave it out"),
    "numa": ((False, 0), "start the process with numactl"),
    "chat_format": ((None,), "chats follow the template in the file; leave it out, or use create_completion"),
    "chat_handler": ((None,), "chats follow the template in the file; for images there is TriMode(mmproj=...)"),
    "draft_model": ((None,), _OWN_DRAFTS),
    "tokenizer": ((None,), "the tokenizer is the file's; leave it out"),
    "spm_infill": ((False,), "suffix= fills the middle by diffusion; leave it out"),
}  # fmt: skip
"""Of the constructor."""

SAMPLING: Refusals = {
    "tfs_z": ((1.0, None), "use top_p or min_p"),
    "mirostat_mode": ((0, None), "use temperature, top_p or min_p"),
    "penalize_nl": ((True, None), "leave it out"),
}
"""Of requests."""

DEPRECATED: Refusals = {
    "functions": ((None,), "use tools"),
    "function_call": ((None,), "use tool_choice"),
}
"""Of chats."""


def refuse(table: Refusals, given: Mapping[str, Any]) -> None:
    """Raise ValueError that names the first parameter whose value pytrimode cannot keep."""
    for name, (neutral, advice) in table.items():
        if name in given and not any(given[name] is value or given[name] == value for value in neutral):
            raise ValueError(f"{name}={given[name]!r}: pytrimode does not have it: {advice}")


def refuse_processors(logits_processor: Any) -> None:
    """Raise NotImplementedError for functions that change logits: the engine samples without Python."""
    if logits_processor:
        raise NotImplementedError(
            "logits_processor: pytrimode samples without Python, use logit_bias, grammar or the penalties"
        )
