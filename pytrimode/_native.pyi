"""The compiled engine (`native/`): llama.cpp's model loading and kernels under our graph, cache and decoders.

Low-level and unstable: applications use `pytrimode.TriMode`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOP_WINDOW: int
LOOP_MIN_REPEATS: int
"""Defaults of `LoopDetector`."""
LLAMA_CPP_PYTHON_VERSION: str
"""Version of llama-cpp-python that this extension was compiled against."""

def set_log_verbose(verbose: bool) -> None:
    """Show llama.cpp's log on stderr (warnings and errors are always shown)."""

def encode(src: Any, src_type: str, dst_type: str, n_cols: int, n_threads: int, imatrix: Any | None = None) -> bytes:
    """Encode rows of weights with ggml's own quantizers; `imatrix`: n_cols float32. See `native/encode.h`."""

def quantize_file(
    src: str,
    dst: str,
    *,
    ftype: int,
    output_tensor_type: str = "",
    token_embedding_type: str = "",
    quantize_output_tensor: bool = True,
    pure: bool = False,
    tensor_types: Sequence[tuple[str, str]] = (),
    imatrix: Sequence[tuple[str, int]] = (),
) -> None:
    """libllama's own quantization of a GGUF file. See `native/quantize_file.h`. Raises RuntimeError with its reason."""

def requires_imatrix(type: str) -> bool:
    """Whether ggml cannot quantize to the type without an importance matrix."""

class Activations:
    """Squares of what goes into each weight matrix, summed up over passes. See `native/activations.h`."""

    def __init__(
        self, path: str, *, lora_path: str = "", n_ctx: int = 512, n_threads: int = 0, n_gpu_layers: int = 0
    ) -> None: ...
    def causal(self, tokens: Sequence[int], position: int = 0) -> None: ...
    def block(self, tokens: Sequence[int], position: int, lora: bool = False) -> None: ...
    def sums(self) -> dict[str, tuple[NDArray[np.float64], int]]:
        """By the name of a weight: the sum of squares of each column, and the rows."""
    def tokenize(self, text: bytes, add_special: bool, parse_special: bool = False) -> list[int]: ...
    @property
    def bos_token_id(self) -> int: ...
    @property
    def mask_token_id(self) -> int: ...
    @property
    def add_bos(self) -> bool: ...
    @property
    def has_lora(self) -> bool: ...

class Model:
    """A GGUF model, memory-mapped and loaded by libllama, and its drafter LoRA."""

    def __init__(
        self,
        path: str,
        *,
        lora_path: str | None = None,
        n_gpu_layers: int = 0,
        use_mmap: bool = True,
        vocab_only: bool = False,
    ) -> None: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def description(self) -> str: ...
    @property
    def n_params(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def n_ctx_train(self) -> int: ...
    @property
    def n_layer(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def n_head(self) -> int: ...
    @property
    def n_head_kv(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def bos_token_id(self) -> int: ...
    @property
    def eos_token_id(self) -> int: ...
    @property
    def mask_token_id(self) -> int:
        """-1 when the file names none: only mode ar works then."""
    @property
    def add_bos(self) -> bool: ...
    @property
    def lora_rank(self) -> int:
        """0 without a drafter LoRA."""
    def is_eog(self, token: int) -> bool: ...
    def tokenize(self, text: bytes, add_special: bool, parse_special: bool) -> list[int]: ...
    def token_to_piece(self, token: int, special: bool) -> bytes: ...

class TokenLogprob:
    """A token and its log-probability."""

    @property
    def token(self) -> int: ...
    @property
    def logprob(self) -> float: ...

class PositionLogprobs:
    """The emitted token and the most likely ones at its position."""

    @property
    def chosen(self) -> TokenLogprob: ...
    @property
    def top(self) -> list[TokenLogprob]: ...

class Event:
    """What one engine step did for one request."""

    @property
    def request_id(self) -> int: ...
    @property
    def tokens(self) -> list[int]:
        """Tokens emitted by this step, in order; final."""
    @property
    def block(self) -> list[int]:
        """Mode diffusion: the block being denoised, mask ids where nothing is committed yet; else empty."""
    @property
    def confidence(self) -> list[float]:
        """Probability of each committed token of `block`, 0 where masked, 1 for the seed."""
    @property
    def logprobs(self) -> list[PositionLogprobs]:
        """Of each of `tokens`, if the request wants them; else empty."""
    @property
    def error(self) -> str:
        """Finish reason "failed": why."""
    @property
    def finish_reason(self) -> str:
        """ "" while running, else "stop", "length", "loop", "cancelled" or "failed"."""

class Stats:
    """Counters of one request. Times in seconds."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int:
        """Prompt tokens found in the cache and not computed again."""
    @property
    def completion_tokens(self) -> int:
        """Emitted tokens, a final end-of-generation token included."""
    @property
    def forward_passes(self) -> int:
        """Passes after the prefill (NFE)."""
    @property
    def prefill_passes(self) -> int: ...
    @property
    def drafted(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def cycles(self) -> int:
        """Self-spec: draft/verify cycles; diffusion: blocks."""
    @property
    def loop_period(self) -> int:
        """Finish reason "loop": the shortest period in tokens; else 0."""
    @property
    def loop_repeated(self) -> int:
        """Finish reason "loop": how many tokens at the end only repeat what came before."""
    @property
    def prompt_seconds(self) -> float: ...
    @property
    def generation_seconds(self) -> float: ...

class Engine:
    """Runs requests over one model and one KV cache: `submit`, then `step` until each has its finish reason."""

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        n_batch: int = 512,
        n_threads: int = 0,
        type_k: str = "f16",
        type_v: str = "f16",
        flash_attn: bool = True,
        n_parallel: int = 1,
        use_scheduler: bool = False,
        exact_reuse: bool = False,
    ) -> None:
        """`use_scheduler` sends a CPU-only model through ggml's scheduler too, as devices need it (for tests)."""
    @property
    def n_ctx(self) -> int: ...
    @property
    def memory(self) -> dict[str, int]:
        """Bytes: `kv_cache`, `compute`."""
    def submit(self, tokens: Sequence[int], **options: Any) -> int:
        """Queue a request. Options: the fields of `RequestOptions` and `SamplerOptions` (native/decoders/request.h,
        native/sampling/sampler.h) by name; `mode` and `reveal` as text, `logit_bias` as a dictionary.

        Raises ValueError for options out of range and for a grammar that does not parse, TypeError for unknown ones.
        """
    def step(self) -> list[Event]:
        """One forward pass for whatever the active requests plan. The GIL is released."""
    def cancel(self, request_id: int) -> None: ...
    def stats(self, request_id: int) -> Stats: ...
    def release(self, request_id: int) -> None:
        """Forget a finished request (its cells stay for prefix reuse)."""
    def clear_cache(self) -> None: ...
    def save_state(self, tokens: Sequence[int]) -> tuple[list[int], NDArray[np.uint8], NDArray[np.uint8]]:
        """The longest beginning of `tokens` that an idle slot holds, its keys and its values as the cache stores them:
        [n_layer, n, bytes of a row]. No tokens where no idle slot holds any."""
    def load_state(self, tokens: Sequence[int], k: NDArray[np.uint8], v: NDArray[np.uint8]) -> None:
        """Put such a beginning into an idle slot. Raises ValueError for arrays of another size, for more tokens than
        the context, or none; RuntimeError when no slot is idle."""
    def logits(self, tokens: Sequence[int], block_start: int = -1, lora: bool = False) -> NDArray[np.float32]:
        """[n, vocab]: causal rows; from `block_start` on in both directions (LoRA on these only)."""

class LoopDetector:
    """Finds an output that has become an endless repetition. See `native/loop_detector.h`; exposed for tests."""

    def __init__(self, window: int = 900, min_repeats: int = 4) -> None:
        """Raises ValueError for a window below 3 or min_repeats below 2."""
    def push(self, token: int) -> bool:
        """True while the output ends in a loop."""
    @property
    def period(self) -> int:
        """The shortest period of the loop in tokens, 0 outside one."""
    @property
    def repeated(self) -> int:
        """How many tokens at the end repeat what came before: dropping them leaves one copy."""
    def reset(self) -> None: ...
