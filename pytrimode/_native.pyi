"""The compiled engine (`native/`): llama.cpp's model loading and kernels under our graph, cache and decoders.

Low-level and unstable: applications use `pytrimode.TriMode`.
"""

from collections.abc import Sequence
from typing import Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

LOOP_WINDOW: int
LOOP_MIN_REPEATS: int
"""Defaults of `LoopDetector`."""
LLAMA_CPP_PYTHON_VERSION: str
"""Version of llama-cpp-python that this extension was compiled against."""

def set_log_verbose(verbose: bool) -> None:
    """Show llama.cpp's log on stderr. Without it nothing of it is shown; errors become the text of exceptions."""

def load_llguidance(path: str) -> None:
    """Load llguidance's shared library, for grammars. Raises RuntimeError where it is not as the engine expects."""

def encode(src: Any, src_type: str, dst_type: str, n_cols: int, n_threads: int, imatrix: Any | None = None) -> bytes:
    """Encode rows of weights with ggml's own quantizers; `imatrix`: n_cols float32. See `native/weights/encode.h`."""

def product_kernels() -> list[str]:
    """Return the sets of CPU kernels that this machine can run, best first, "plain" last. See `native/products/`."""

def product_kernels_in_use() -> str | None:
    """Return the best set or what $PYTRIMODE_PRODUCTS names; None: ggml multiplies. Raises ValueError for an unknown
    name.
    """

def has_product(type: str, n_in: int, n_out: int) -> bool:
    """Whether weights of a type and shape have a product of our own."""

class PackedWeight:
    """Weights [n_out, n_in] as our products take them, from rows as ggml stores them."""

    def __init__(self, type: str, data: bytes, n_in: int, n_out: int) -> None: ...
    @property
    def n_bytes(self) -> int: ...
    def multiply(self, x: NDArray[np.float32], kernels: str, piece: int = 0) -> NDArray[np.float32]:
        """Rows [n, n_in] times the weights: [n, n_out], in one thread, `piece` tiles of 16 outputs at a time."""

class GgmlProduct:
    """The same product by ggml, in one thread too; `repack`: in ggml's own layout where it has one."""

    def __init__(self, type: str, data: bytes, n_in: int, n_out: int, repack: bool) -> None: ...
    @property
    def is_repacked(self) -> bool: ...
    def multiply(self, x: NDArray[np.float32]) -> NDArray[np.float32]: ...

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
    """Quantize a GGUF file as libllama does (`native/weights/quantize_file.h`). Raises RuntimeError with its reason."""

def tensor_type(number: int) -> tuple[str, int, int]:
    """Name, elements per block and bytes per block of a tensor type (enum ggml_type). Raises ValueError without one."""

def attention_kernels() -> list[str]:
    """Return the instruction sets of the CPU's attention that this machine has, the fastest first."""

def attention_kernel() -> str:
    """Return the one in use: the fastest, or that which $PYTRIMODE_ATTENTION names. Raises RuntimeError for another
    name.
    """

class AttentionProbe:
    """One layer's keys and values, and attention over them: `native/attention/`, and ggml's to compare with."""

    def __init__(
        self, k: bytes, v: bytes, *, type_k: str, type_v: str, n_head: int, n_head_kv: int, head_dim: int,
        n_threads: int = 1, kernel: str = "",
    ) -> None:  # fmt: skip
        """`k`, `v`: cells of n_head_kv * head_dim values in their type. `kernel`: one of `attention_kernels()`.

        Raises ValueError for a kernel that is not there and for `k` and `v` of different numbers of cells.
        """

    def run(
        self, q: NDArray[np.float32], pages: Sequence[Sequence[int]], rows: Sequence[tuple[int, int, int, int]]
    ) -> NDArray[np.float32]:
        """Attention of q [rows, n_head, head_dim]; the result has its shape.

        `pages`: of each sequence, pages of 64 cells. `rows`: which sequence a row belongs to, and that it sees the
        cells [0, seen) and [begin, end) of it. Rows of a sequence stand together.
        """

    def run_ggml(self, q: NDArray[np.float32], seen: Sequence[int], *, flash: bool = True) -> NDArray[np.float32]:
        """ggml's, of rows that see the first `seen` cells each. `flash=False`: by products, with V taken as if it had
        been stored transposed, as llama.cpp does then: the values are others, the work is the same.
        """

    @property
    def seconds(self) -> float:
        """What the last run took."""

def requires_imatrix(type: str) -> bool:
    """Whether ggml cannot quantize to the type without an importance matrix."""

class Activations:
    """Squares of what goes into each weight matrix, summed up over passes. See `native/weights/activations.h`."""

    def __init__(self, model: Model, *, lora_path: str = "", n_ctx: int = 512, n_threads: int = 0) -> None:
        """Take a model that was loaded with `repack=False`; raises ValueError for one that libllama cannot run so."""
    def causal(self, tokens: Sequence[int], position: int = 0) -> None: ...
    def block(self, tokens: Sequence[int], position: int, lora: bool = False) -> None: ...
    def sums(self) -> dict[str, tuple[NDArray[np.float64], int]]:
        """Return, by the name of a weight, the sum of squares of each column, and the rows."""

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
        devices: Sequence[str] = (),
        split_mode: str = "layer",
        main_gpu: int = 0,
        tensor_split: Sequence[float] = (),
        repack: bool = True,
    ) -> None:
        """Devices by ggml's names, all without any. Raises ValueError for devices that are not there."""
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
    def prepare_grammars(self) -> None: ...
    def tokenize(self, text: bytes, add_special: bool, parse_special: bool) -> list[int]: ...
    def token_to_piece(self, token: int, special: bool) -> bytes: ...
    def set_weight(self, name: str, data: bytes) -> None:
        """Replace the data of a weight, in the type that it has; see `TriMode.set_weight`."""

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
    def draft(self) -> list[int]:
        """Mode self-spec: what a draft pass proposed, to be verified by the next pass; else empty."""
    @property
    def logprobs(self) -> list[PositionLogprobs]:
        """Of each of `tokens`, if the request wants them; else empty."""
    @property
    def error(self) -> str:
        """Finish reason "failed": why."""
    @property
    def stats(self) -> Stats:
        """So far."""
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
    def fused_passes(self) -> int:
        """Of these, those that verified and drafted at once."""
    @property
    def prefill_passes(self) -> int: ...
    @property
    def drafted(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def simulated_acceptance(self) -> bool:
        """Drafts were accepted by lot: the text is meaningless."""
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
    @property
    def compute_seconds(self) -> float:
        """Of `generation_seconds`, what went into the graphs: the rest is the engine's overhead."""

class PassCost:
    """Seconds of a pass by its number of rows, learned from passes. See `native/speculation/pass_cost.h`."""

    def __init__(self) -> None: ...
    def observe(self, rows: int, seconds: float) -> None: ...
    def seconds(self, rows: float) -> float: ...
    def table(self) -> list[tuple[float, float]]:
        """Rows that were seen and their seconds, ascending."""

class Acceptance:
    """How often drafts are accepted, by position. See `native/speculation/acceptance.h`.

    Raises ValueError for an empty prior, a rate outside 0 to 1 and a memory that is not positive.
    """

    def __init__(self, prior: Sequence[float], memory: float) -> None: ...
    @staticmethod
    def published() -> list[float]: ...
    def observe(self, drafted: int, accepted: int, uncounted: int = 0) -> None: ...
    @property
    def rates(self) -> list[float]: ...
    def tokens(self, length: int, first: int = 0) -> float:
        """Return the expected tokens of a cycle with a block of `length`; `first`: right drafts before its own."""

class Cycle:
    """How self-speculation goes on. See `native/speculation/cycle.h`."""

    @property
    def length(self) -> int: ...
    @property
    def fused(self) -> bool: ...

class DraftLength:
    """Chooses the block length of self-speculation, and whether it is fused. See `native/speculation/draft_length.h`.

    `other_rows`, `other_tokens`: what the other requests bring to an average pass. `fusing`: "never", "always" or
    "measured".
    """

    def __init__(self, max_length: int, prior: Sequence[float] | None = None) -> None: ...
    def new_request(self) -> Acceptance: ...
    def choose(
        self, acceptance: Acceptance, other_rows: float = 0.0, other_tokens: float = 0.0, fusing: str = "never"
    ) -> Cycle: ...
    def best(
        self, acceptance: Acceptance, other_rows: float = 0.0, other_tokens: float = 0.0, fusing: str = "never"
    ) -> Cycle: ...
    def branches(
        self,
        acceptance: Acceptance,
        length: int,
        n_draft: int,
        first: int = 1,
        other_rows: float = 0.0,
        other_tokens: float = 0.0,
    ) -> list[tuple[int, int]]:
        """Return the groups of a verification: behind how many drafts, and how wide."""
    def observe_pass(self, rows: int, seconds: float, chosen: bool = True) -> None:
        """`chosen`: it served a cycle that `choose` chose."""

    def observe_cycle(self, drafted: int, accepted: int, uncounted: int = 0) -> None: ...
    def observe_rejection(self, predicted: bool) -> None: ...
    @property
    def after_rejection(self) -> float:
        """How often the first mask behind a rejected draft predicts the target's token."""
    @property
    def acceptance(self) -> Acceptance:
        """Of all requests."""
    @property
    def cost(self) -> PassCost: ...
    @property
    def lengths(self) -> list[int]: ...

class QueueFullError(RuntimeError):
    """`n_parallel` requests run and `max_queue` wait."""

class Engine:
    """Runs requests over one model and one KV cache: `submit`, then `wait` until each has its finish reason.

    Any thread may call anything.
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        n_batch: int = 512,
        n_ubatch: int = 128,
        n_threads: int = 0,
        n_threads_batch: int = 0,
        fewer_threads: bool = False,
        type_k: str = "f16",
        type_v: str = "f16",
        flash_attn: bool = True,
        n_parallel: int = 1,
        max_queue: int = -1,
        use_scheduler: bool = False,
        device_graphs: bool = False,
        fused_stores: bool = True,
        row_steps: Sequence[int] = (),
        exact_rows: int = 0,
        images: bool = False,
    ) -> None:
        """`n_threads_batch`: threads of passes with rows of prompts, 0: as many as of the others. `fewer_threads`: the
        others take one where that is as fast, measured on the way. `images`: prompts may have rows of images.

        For tests: `use_scheduler` sends a model through ggml's scheduler where it would not be needed;
        `device_graphs` computes on the CPU as on a device (embedding looked up outside, argmax within, rows padded).

        On devices only: `fused_stores`, see `GraphOptions` in native/forward/graph.h; `row_steps`, the numbers of rows
        that passes are padded to (powers of two without any and beyond the last); `exact_rows`, see `EngineOptions` in
        native/engine/engine_options.h. Raises ValueError for options out of range.
        """
    @property
    def n_ctx(self) -> int: ...
    @property
    def n_parallel(self) -> int: ...
    @property
    def state(self) -> dict[str, int]:
        """Now: `n_cells` and of these `n_free_cells`, `n_idle_cells` (held by finished requests only); requests
        `n_running`, `n_suspended` (for lack of cells), `n_queued`."""
    @property
    def times(self) -> dict[str, float]:
        """So far: `passes`, their `rows`, `graphs` built; seconds of all steps (`step`), of these `build` (graphs),
        `inputs`, `compute` (the graphs), `outputs` (argmax); `cells` that attention read, in each layer; bytes written
        to inputs (`bytes_in`) and read from outputs (`bytes_out`; on the CPU no logits, which are read where they are).
        """
    @property
    def memory(self) -> dict[str, int]:
        """Bytes: `kv_cache`, `compute`."""
    @property
    def row_steps(self) -> list[int]:
        """The numbers of rows that passes are padded to; none on a CPU."""
    def operations(self, n_rows: int) -> list[str]:
        """Names of ggml's operations, in their order, in a pass of `n_rows` rows without the drafter LoRA."""
    @property
    def left_to_cpu(self) -> set[str]:
        """Operations on a device's weights or cache that it has no kernel for, such as "FLASH_ATTN_EXT on CUDA0"."""
    @property
    def draft_length(self) -> DraftLength:
        """The engine's own; for use while no request runs."""
    def submit(self, tokens: Sequence[int], *, channel: int = 0, **options: Any) -> int:
        """Queue a request, without waiting. Its events go to `channel`; 0: to one of its own, which has its number.
        With `images`, these stand where the tokens are `image_pad`, in order.
        Options: the fields of `RequestOptions` and `SamplerOptions` (native/decoders/request.h,
        native/sampling/options.h) by name; `mode` and `reveal` as text, `logit_bias` as a dictionary.

        `simulated_acceptance` and `simulated_after_rejection` (native/speculation/simulated.h) are for benchmarks:
        drafts are accepted by lot, so the text is meaningless. No option of a request leads there.

        Raises ValueError for options out of range and for a grammar that does not parse, TypeError for unknown ones,
        QueueFullError.
        """
    def wait(self, channel: int) -> list[Event]:
        """Return the next events of a channel; none when all its requests have ended. Steps the engine meanwhile, for
        everybody, or waits for the thread that does. The GIL is released.

        Raises RuntimeError when the engine is closed, KeyboardInterrupt (and loses nothing) between two passes.
        """
    def wait_to_end(self, request_id: int) -> Event:
        """All of a request's events as one: every token, and its end."""
    def step(self) -> list[Event]:
        """One forward pass for whatever the active requests plan, and all events that wait; for tests."""
    def cancel(self, request_id: int) -> None:
        """End a request with the current pass; an event says so."""
    def release(self, request_id: int) -> None:
        """Forget a request, at once; one that runs is cancelled. Its cells stay for prompts that begin alike."""
    def hold(self, request_id: int, held: bool) -> None:
        """Its reader is behind, or no longer: it pauses meanwhile, unless nothing else could go on."""
    def close(self) -> None:
        """From now on `submit` and `wait` raise."""
    def clear_cache(self) -> None:
        """Drop what finished requests have left."""
    @overload
    def add_image(self, key: str, rows: NDArray[np.float32]) -> Image: ...
    @overload
    def add_image(self, key: str, n_rows: int) -> Image:
        """Ids for the rows of an image, whose content `key` names, [n, n_embd] or without them for cells that a saved
        state has. Known content keeps its ids. Raises ValueError for rows of another width or number."""
    def image_runs(self, tokens: Sequence[int]) -> list[tuple[int, int, str, int, int]]:
        """Rows of images among tokens that `save_state` returned: where each run begins and its length, the image's
        key, the first of its rows, and how many it has."""
    def save_state(
        self, tokens: Sequence[int], images: Sequence[Image] = (), image_pad: int = -1
    ) -> tuple[list[int], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the longest beginning of `tokens` that finished requests have left, its keys and its values as the
        cache stores them: [n_layer, n, bytes of a row]. No tokens where there are none.
        """
    def load_state(self, tokens: Sequence[int], k: NDArray[np.uint8], v: NDArray[np.uint8]) -> None:
        """Put such a beginning into the cache. Raises ValueError for arrays of another size, for more tokens than
        the context, or none; RuntimeError when running requests leave no slot or no room."""
    def logits(
        self,
        tokens: Sequence[int],
        block_start: int = -1,
        lora: bool = False,
        first: int = 0,
        images: Sequence[Image] = (),
        image_pad: int = -1,
    ) -> NDArray[np.float32]:
        """[n - first, vocab]: causal rows; from `block_start` on in both directions (LoRA on these only). With `first`
        above 0, causal rows before it may come from the cache and stay there."""

class ThreadChoice:
    """Whether one thread is as fast as all (`native/engine/thread_choice.h`); exposed for tests."""

    def __init__(self, n_threads: int, measured: bool) -> None: ...
    def choose(self, rows: int) -> int:
        """Threads for a pass."""
    def observe(self, rows: int, seconds: float) -> None:
        """Tell how long that pass took."""
    def trying(self, rows: int) -> bool:
        """Whether the number is not the choice, to see how long a pass takes."""

class Image:
    """Rows of an image that an engine knows; its vectors are there for as long as this is."""

    @property
    def key(self) -> str:
        """Names the content."""
    @property
    def first(self) -> int:
        """The id of its first row, below -1; those of the others follow downwards."""
    @property
    def n_rows(self) -> int: ...
    @property
    def n_bytes(self) -> int:
        """Of its vectors."""

class VisionCancelledError(RuntimeError):
    """The encoding of a picture was ended by its `VisionAbort`."""

class VisionAbort:
    """Ends an encoding from another thread."""

    def set(self) -> None: ...

VISION_CELL_PIXELS: int
"""Sides of a cell of a picture, which becomes one row: 28."""

def vision_grid(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Columns and rows of cells of a picture whose longest side keeps `max_side` pixels."""

class Tower:
    """The vision tower of an mmproj file (`native/vision/`)."""

    def __init__(
        self, path: str, *, n_threads: int = 0, device: str = "", exact: bool = True, no_alloc: bool = False
    ) -> None:
        """`device`: a name of `devices`, "": the CPU. `exact`: keys and values of the CPU's attention in F32, else F16
        as on devices. `no_alloc`: only to plan the memory. Raises RuntimeError that names key or tensor for a file that
        is damaged or none."""
    @property
    def n_embd(self) -> int:
        """Width of a row."""
    @property
    def largest_side(self) -> int:
        """Pixels, a multiple of 28."""
    @property
    def weight_bytes(self) -> int: ...
    @property
    def compute_bytes(self) -> int:
        """Of the buffer that the largest picture so far needed."""
    @property
    def device(self) -> str: ...
    def planned_compute_bytes(self, max_side: int) -> int:
        """Of the buffer for a picture of the largest size."""
    def pixels(self, picture: NDArray[np.uint8], max_side: int) -> NDArray[np.float32]:
        """Return what the tower reads of uint8 RGB pixels [height, width, 3]: [3, rows * 28, columns * 28]."""
    def encode(
        self, picture: NDArray[np.uint8], max_side: int, abort: VisionAbort | None = None
    ) -> NDArray[np.float32]:
        """Rows [cells, n_embd] of uint8 RGB pixels [height, width, 3]. The GIL is released; one at a time.

        Raises VisionCancelledError, ValueError for sides out of range, RuntimeError where memory is missing,
        KeyboardInterrupt.
        """

class LoopDetector:
    """Finds an endless repetition in an output (`native/decoders/loop_detector.h`); exposed for tests."""

    def __init__(self, window: int = 900, min_repeats: int = 4) -> None:
        """Make a detector. Raises ValueError for a window below 3 or min_repeats below 2."""
    def push(self, token: int) -> bool:
        """Take the next token. Returns True while the output ends in a loop."""
    @property
    def period(self) -> int:
        """The shortest period of the loop in tokens, 0 outside one."""
    @property
    def repeated(self) -> int:
        """How many tokens at the end repeat what came before: dropping them leaves one copy."""
    def reset(self) -> None: ...

class Device(TypedDict):
    """A device that ggml found."""

    name: str
    description: str
    backend: str
    type: str
    """cpu, gpu, igpu or accel"""
    memory_free: int
    memory_total: int

class Backend(TypedDict):
    """A backend that libllama was built with."""

    name: str
    devices: int
    features: dict[str, str]

class DeviceMemory(TypedDict):
    """Bytes on one device."""

    device: str
    weights: int
    """The drafter LoRA included."""
    kv_cache: int
    compute: int

def devices() -> list[Device]: ...
def backends() -> list[Backend]: ...
def plan_memory(
    path: str,
    *,
    lora_path: str | None = None,
    n_gpu_layers: int = 0,
    n_ctx: int,
    n_parallel: int = 1,
    n_batch: int = 512,
    type_k: str = "f16",
    type_v: str = "f16",
    flash_attn: bool = True,
    devices: Sequence[str] = (),
    split_mode: str = "layer",
    main_gpu: int = 0,
    tensor_split: Sequence[float] = (),
) -> list[DeviceMemory]:
    """Return what the engine would take, the CPU last; nothing is loaded. See `native/engine/plan_memory.h`.

    Raises as `Model` and `Engine` do.
    """
