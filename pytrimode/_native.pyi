"""The compiled engine (`native/`): llama.cpp's model loading and kernels under our graph, cache and decoders.

Low-level and unstable: applications use `pytrimode.TriMode`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypedDict, overload

import numpy
import numpy.typing
from numpy.typing import NDArray

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

class OutOfMemoryError(RuntimeError):
    """A device or the machine has no room for weights, cache, compute buffers or a picture."""

LLAMA_CPP_PYTHON_VERSION: str = "0.3.36"

OWN_LLAMA_CPP: bool = False

def set_log_verbose(verbose: bool) -> None:
    """Show llama.cpp's log on stderr, control characters written out; off, only the last error is kept, for our own
    messages.
    """

def set_log_file(path: str) -> None:
    """Append it to a file in place of stderr; "": stderr again. Raises RuntimeError where it cannot be written."""

def set_log_json(json: bool) -> None:
    """Show it as a JSON object per line, as the server's log."""

def load_llguidance(path: str) -> None:
    """Load llguidance's shared library, for grammars. Raises RuntimeError where it is not as the engine expects."""

def begin_process_end() -> None:
    """Hold all other threads that are in a call, or begin one, when they come back for the GIL: the process ends."""

def stay_if_over() -> None:
    """Stay here for good in another thread than the one that ends the process, once it ends."""

def calls_under_way() -> int:
    """Count calls without the GIL that have not come back."""

def forget_calls() -> None:
    """Count from 0, in a fork: other threads are not in it."""

def tensor_type(number: int) -> tuple[str, int, int]:
    """Return name, elements per block and bytes per block of a tensor type (enum ggml_type). Raises ValueError without
    one.
    """

def encode(
    src: object, src_type: str, dst_type: str, n_cols: int, n_threads: int, imatrix: object | None = None
) -> bytes:
    """Encode rows of weights with ggml's own quantizers.

    `src`: a contiguous buffer of rows of n_cols elements of src_type. `imatrix`: the importance of each column, n_cols
    float32. `n_threads` 0: all cores.

    Raises ValueError with the element's index for NaN or infinite weights and for weights too large for dst_type, and
    for types and row lengths that do not go together.
    """

def quantized_types(
    path: str,
    *,
    ftype: int,
    output_tensor_type: str = "",
    token_embedding_type: str = "",
    quantize_output_tensor: bool = True,
    pure: bool = False,
    tensor_types: Sequence[tuple[str, str]] = [],
    imatrix: Sequence[tuple[str, int]] = [],
) -> list[tuple[str, str]]:
    """List name and ggml type of each tensor of a GGUF file, as libllama would quantize it
    (`native/weights/quantized_types.h`). Raises RuntimeError with its reason, ValueError for an unknown type.
    """

def requires_imatrix(type: str) -> bool:
    """Whether ggml cannot quantize to the type without an importance matrix."""

def product_kernels() -> list[str]:
    """List the sets of CPU kernels that this machine can run, best first, "plain" last. See `native/products/`."""

def product_kernels_in_use() -> str | None:
    """Return the best set, or the one that $PYTRIMODE_PRODUCTS names; None: ggml multiplies. Raises ValueError for an
    unknown name.
    """

def has_product(type: str, n_in: int, n_out: int) -> bool:
    """Whether weights of a type and shape have a product of our own."""

class PackedWeight:
    """Weights [n_out, n_in] as our products take them, from rows as ggml stores them."""

    def __init__(self, type: str, data: bytes, n_in: int, n_out: int) -> None: ...
    @property
    def n_bytes(self) -> int:
        """Bytes in memory."""

    def multiply(
        self,
        x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        kernels: str,
        piece: int = 0,
    ) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None))]:
        """Multiply rows [n, n_in] with the weights: [n, n_out], in one thread, `piece` tiles of 16 outputs at once."""

class GgmlProduct:
    """The same product by ggml, in one thread too; `repack`: in ggml's own layout where it has one."""

    def __init__(self, type: str, data: bytes, n_in: int, n_out: int, repack: bool) -> None: ...
    @property
    def is_repacked(self) -> bool:
        """Whether ggml's own layout is used."""

    def multiply(
        self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)]
    ) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None))]:
        """Rows [n, n_in] times the weights: [n, n_out]."""

def attention_kernels() -> list[str]:
    """List the instruction sets of the CPU's attention that this machine has, the fastest first."""

def attention_kernel() -> str:
    """Return the one in use: the fastest, or the one that $PYTRIMODE_ATTENTION names. Raises RuntimeError for another
    name.
    """

class AttentionProbe:
    """One layer's keys and values, and attention over them: `native/attention/`, and ggml's to compare with."""

    def __init__(
        self,
        k: bytes,
        v: bytes,
        *,
        type_k: str,
        type_v: str,
        n_head: int,
        n_head_kv: int,
        head_dim: int,
        n_threads: int = 1,
        kernel: str = "",
    ) -> None:
        """`k`, `v`: cells of n_head_kv * head_dim values in their type. `kernel`: one of `attention_kernels()`.

        Raises ValueError for a kernel that is not there and for `k` and `v` of different numbers of cells.
        """

    def run(
        self,
        q: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
        pages: Sequence[Sequence[int]],
        rows: Sequence[tuple[int, int, int, int]],
    ) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None, None))]:
        """Attention of q [rows, n_head, head_dim]; the result has its shape.

        `pages`: of each sequence, pages of 64 cells. `rows`: which sequence a row belongs to, and that it sees the
        cells [0, seen) and [begin, end) of it. Rows of a sequence stand together.
        """

    def run_ggml(
        self,
        q: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
        seen: Sequence[int],
        *,
        flash: bool = True,
    ) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None, None))]:
        """ggml's, of rows that see the first `seen` cells each. `flash=False`: by products, with V taken as if it had
        been stored transposed, as llama.cpp does then: the values are others, the work is the same.
        """

    @property
    def seconds(self) -> float:
        """What the last run took."""

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
        devices: Sequence[str] = [],
        split_mode: str = "layer",
        main_gpu: int = 0,
        tensor_split: Sequence[float] = [],
        adapters: Sequence[str] = [],
        repack: bool = True,
    ) -> None:
        """`lora_path`: of the drafter; `adapters`: files of LoRAs of the user. `devices`: by ggml's names; all without
        any. `repack`: weights in the layout of our own products, in place of the file's.

        Raises ValueError for devices that are not there, RuntimeError that names file, tensor or key for what cannot be
        loaded.
        """

    @property
    def metadata(self) -> dict[str, str]:
        """Every key of the file, its value as text."""

    @property
    def description(self) -> str:
        """Architecture, size and type, as libllama says it."""

    @property
    def n_params(self) -> int:
        """Number of weights."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""

    @property
    def n_ctx_train(self) -> int:
        """Context it was trained for."""

    @property
    def n_layer(self) -> int:
        """Layers."""

    @property
    def n_embd(self) -> int:
        """Width of a row between layers."""

    @property
    def n_head(self) -> int:
        """Heads of queries."""

    @property
    def n_head_kv(self) -> int:
        """Heads of keys and values."""

    @property
    def head_dim(self) -> int:
        """Width of a head."""

    @property
    def lora_rank(self) -> int:
        """0 without a drafter LoRA."""

    @property
    def bos_token_id(self) -> int:
        """The token before a text; -1 without one."""

    @property
    def eos_token_id(self) -> int:
        """The token behind a text; -1 without one."""

    @property
    def mask_token_id(self) -> int:
        """-1 when the file names none: only mode ar works then."""

    @property
    def add_bos(self) -> bool:
        """Whether the tokenizer puts `bos_token_id` before a text."""

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation."""

    def prepare_grammars(self) -> None:
        """Hand the vocabulary to llguidance, as the first grammar would."""

    def tokenize(self, text: bytes, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of UTF-8 text; `add_special`: with bos where the tokenizer adds it; `parse_special`: special tokens
        spelled out become their ids.
        """

    def token_to_piece(self, token: int, special: bool) -> bytes:
        """Bytes of a token; of special ones none without `special`. Raises ValueError outside the vocabulary."""

    def lock(self) -> int:
        """Keep the weights that are in main memory there (mlock); returns their bytes. Raises RuntimeError where the
        system refuses.
        """

    def set_weight(self, name: str, data: bytes) -> None:
        """Replace the data of a weight, in the type that it has; see `TriMode.set_weight`."""

class Activations:
    """Squares of what goes into each weight matrix, summed up over passes of libllama. See
    `native/weights/activations.h`.
    """

    def __init__(self, model: Model, *, lora_path: str = "", n_ctx: int = 512, n_threads: int = 0) -> None:
        """Take a model that was loaded with `repack=False`. `n_threads` 0: libllama's default. Raises ValueError for a
        model that libllama cannot run so, RuntimeError for an adapter that cannot be loaded and without memory.
        """

    def causal(self, tokens: Sequence[int], position: int = 0) -> None:
        """Run a causal pass over tokens from `position` on; what the cache holds from there on is dropped before."""

    def block(self, tokens: Sequence[int], position: int, lora: bool = False) -> None:
        """Run the same pass, but its rows see each other in both directions, with the LoRA if asked for; nothing stays
        in the cache.
        """

    def sums(self) -> dict[str, tuple[numpy.typing.NDArray[numpy.float64], int]]:
        """By the name of a weight: the sum of squares of each column, and the rows."""

class TokenLogprob:
    """A token and its log-probability."""

    @property
    def token(self) -> int:
        """Its id."""

    @property
    def logprob(self) -> float:
        """Natural logarithm of its probability."""

class PositionLogprobs:
    """The emitted token and the most likely ones at its position."""

    @property
    def chosen(self) -> TokenLogprob:
        """The emitted one."""

    @property
    def top(self) -> list[TokenLogprob]:
        """The most likely ones, the likeliest first."""

class Stats:
    """Counters of one request. Times in seconds."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""

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
    def drafted(self) -> int:
        """Self-spec: tokens that were drafted."""

    @property
    def accepted(self) -> int:
        """Self-spec: of these, those that were accepted."""

    @property
    def ngram_drafted(self) -> int:
        """Of `drafted`, those that were read off the text."""

    @property
    def ngram_accepted(self) -> int:
        """Of these, those that were accepted."""

    @property
    def tree_drafted(self) -> int:
        """Of `drafted`, those beside the chain."""

    @property
    def tree_accepted(self) -> int:
        """Of these, those that were accepted."""

    @property
    def cycles(self) -> int:
        """Self-spec: draft/verify cycles; diffusion: blocks."""

    @property
    def simulated_acceptance(self) -> bool:
        """Drafts were accepted by lot: the text is meaningless."""

    @property
    def loop_period(self) -> int:
        """Finish reason "loop": the shortest period in tokens; else 0."""

    @property
    def loop_repeated(self) -> int:
        """Finish reason "loop": how many tokens at the end only repeat what came before."""

    @property
    def prompt_seconds(self) -> float:
        """Until the first token."""

    @property
    def generation_seconds(self) -> float:
        """From the first token on."""

    @property
    def compute_seconds(self) -> float:
        """Of `generation_seconds`, what went into the graphs: the rest is the engine's overhead."""

class Event:
    """What one engine step did for one request."""

    @property
    def request_id(self) -> int:
        """As `Engine.submit` returned it."""

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

class ThreadChoice:
    """Whether one thread is as fast as all (`native/engine/thread_choice.h`); for tests."""

    def __init__(self, n_threads: int, measured: bool) -> None:
        """`measured`: choose; else it is always `n_threads`."""

    def choose(self, rows: int) -> int:
        """Threads for a pass."""

    def observe(self, rows: int, seconds: float) -> None:
        """Learn that the pass took so long."""

    def trying(self, rows: int) -> bool:
        """Whether the number is not the choice, to see how long a pass takes."""

class PassCost:
    """Seconds of a pass by its number of rows, learned from passes. See `native/speculation/pass_cost.h`."""

    def __init__(self, steps: Sequence[int] = []) -> None:
        """Learn from nothing. `steps`: numbers of rows that passes are padded to, ascending."""

    def observe(self, rows: int, seconds: float) -> None:
        """Learn that a pass took so long."""

    def seconds(self, rows: float) -> float:
        """Estimated seconds of a pass; 0 before the first observation."""

    def table(self) -> list[tuple[float, float]]:
        """Rows that were seen and their seconds, ascending."""

class Acceptance:
    """How often drafts are accepted, by position. See `native/speculation/acceptance.h`."""

    def __init__(self, prior: Sequence[float], memory: float) -> None:
        """Start from a prior. Raises ValueError for an empty one, a rate outside 0 to 1 and a memory that is not
        positive.
        """

    @staticmethod
    def published() -> list[float]:
        """Return the rates of the 8B model's card."""

    def observe(self, drafted: int, accepted: int, uncounted: int = 0) -> None:
        """Learn from a cycle; the first `uncounted` of the accepted drafts say nothing about the rates."""

    @property
    def rates(self) -> list[float]:
        """Of each position, where all drafts before it were accepted."""

    def tokens(self, length: int, first: int = 0) -> float:
        """Estimate the tokens of a cycle with a block of `length`; `first`: drafts before its own that proved right."""

class NgramLookup:
    """Drafts from what followed the last tokens before. See `native/speculation/ngram_lookup.h`."""

    def __init__(self, n_vocab: int, mask: int) -> None:
        """Begin an empty text."""

    def add(self, token: int) -> None:
        """Add a token to the text, as of a prompt: nothing is looked for."""

    def push(self, token: int) -> None:
        """Add a token to the text, and look for what followed it before."""

    @property
    def match(self) -> int:
        """How many tokens at the end stood before; 0: fewer than 3."""

    def draft(self, n: int) -> list[int]:
        """Return at most `n` tokens that followed them there."""

class NgramAcceptance:
    """How often such drafts are right. See `native/speculation/ngram_acceptance.h`."""

    def __init__(self, memory: float) -> None:
        """Start from low rates; an observation fades after `memory` others."""

    def observe(self, match: int, right: bool) -> None:
        """Learn from a token behind a match."""

    def rate(self, match: int) -> float:
        """Estimate how often the next token is right."""

    def tokens(self, match: int, n: int) -> float:
        """Estimate the tokens of a verification of `n` drafts."""

class SidePlaces:
    """Where rows beside a chain leave keys and values. See `native/forward/side_places.h`."""

    def __init__(self, first: int, n_taken: int, end: int) -> None:
        """Begin with the places from `first` up to `end`, of which the first `n_taken` are not free."""

    def take(self, pos: int, n: int) -> tuple[int, int]:
        """Take places for `n` tokens from position `pos` on. Returns the first one (-1: none) and their number."""

    @property
    def extent(self) -> int:
        """Places up to the last one that is taken."""

class Cycle:
    """How self-speculation goes on. See `native/speculation/cycle.h`."""

    def __init__(self, length: int, fused: bool = False) -> None: ...
    @property
    def length(self) -> int:
        """Rows of a block, or masks of a group; 1: nothing is drafted."""

    @property
    def fused(self) -> bool:
        """Whether one pass verifies and drafts."""

class Learned:
    """What the choice of drafts has learned. See `native/speculation/learned.h`."""

    def __init__(
        self,
        *,
        passes: Sequence[Sequence[float]],
        drafts: Sequence[Sequence[float]],
        ngrams: Sequence[Sequence[float]],
        after_rejection: float,
    ) -> None:
        """Take what another one had. What cannot be is refused where it is restored."""

    @property
    def passes(self) -> list[list[float]]:
        """Of each number of rows: rows, seconds, how many passes were measured."""

    @property
    def drafts(self) -> list[list[float]]:
        """By position in a draft: cycles that reached it, of these accepted."""

    @property
    def ngrams(self) -> list[list[float]]:
        """The same of drafts that were read off the text, by length of the match."""

    @property
    def after_rejection(self) -> float:
        """See `DraftLength.after_rejection`."""

class DraftLength:
    """Chooses the block length of self-speculation, and whether it is fused. See `native/speculation/draft_length.h`.

    `other_rows`, `other_tokens`: what the other requests bring to an average pass. `fusing`: "never", "always" or
    "measured".
    """

    def __init__(self, max_length: int, prior: Sequence[float] | None = None, steps: Sequence[int] = []) -> None:
        """`prior`: rates to begin with; None: the published ones. `steps`: numbers of rows that passes are padded to,
        where they are.
        """

    def new_request(self) -> Acceptance:
        """Return what a request starts from: the rates of those before it."""

    def choose(
        self, acceptance: Acceptance, other_rows: float | None = None, other_tokens: float = 0.0, fusing: str = "never"
    ) -> Cycle:
        """Choose the next cycle: mostly the best one, now and then a trial. `other_rows`, `other_tokens`: of other
        requests, which do not choose; None: the crowd of `observe_crowd`.
        """

    def best(
        self, acceptance: Acceptance, other_rows: float | None = None, other_tokens: float = 0.0, fusing: str = "never"
    ) -> Cycle:
        """Return the cycle with the most expected tokens per second; others as for `choose`."""

    def branches(
        self,
        acceptance: Acceptance,
        length: int,
        n_draft: int,
        first: int = 1,
        other_rows: float = 0.0,
        other_tokens: float = 0.0,
    ) -> list[tuple[int, int]]:
        """List the groups of a verification: behind how many drafts, and how wide."""

    def tree(
        self,
        acceptance: Acceptance,
        leads: Sequence[float],
        n_beside: int = -1,
        most_rows: int = 64,
        other_rows: float = 0.0,
        other_tokens: float = 0.0,
    ) -> tuple[int, list[tuple[int, int]]]:
        """Return what is verified of a draft: how many drafts of the chain, and runs beside it, each as the drafts
        before it and its length. `leads`: of the best tokens over the second-best ones, in logits.
        """

    def observe_node(self, kind: str, lead: float, right: bool) -> None:
        """Learn whether a draft was right: the "best" or the "second" token of its position, or a best one that
        "strayed": behind a second-best one. Raises ValueError for another kind.
        """

    def looked_up(
        self,
        acceptance: NgramAcceptance,
        match: int,
        most: int,
        instead: float,
        other_rows: float = 0.0,
        other_tokens: float = 0.0,
    ) -> int:
        """Return how many drafts read off the text to verify, 0 for none. `match`: of how many tokens; `most`: follow
        them; `instead`: tokens per second without.
        """

    def observe_pass(self, rows: int, seconds: float, chosen: bool = True) -> None:
        """Learn that a pass took so long; 0: it says nothing of other passes. `chosen`: it served a cycle that `choose`
        chose.
        """

    def expect_crowd(self, n_choosing: int, n_new: int = 0, n_fixed: int = 0) -> None:
        """Take who shares the next pass: requests that choose, `n_new` of which begin, and others."""

    def observe_crowd(self, choosing: Sequence[int], fixed: Sequence[int] = [0, 0, 0]) -> None:
        """Learn what requests that choose, and others, brought to a pass: their number, rows and tokens."""

    @property
    def load(self) -> tuple[float, float]:
        """Rows and tokens that others are expected to bring to a request's next pass."""

    def moved(self, before: Cycle, after: Cycle, acceptance: Acceptance) -> None:
        """Learn that a request has chosen another cycle than before."""

    def observe_cycle(self, drafted: int, accepted: int, uncounted: int = 0) -> None:
        """Learn from a cycle, as `Acceptance.observe` does."""

    def observe_rejection(self, predicted: bool) -> None:
        """Learn whether the first mask behind a rejected draft predicted the target's token."""

    def learned(self) -> Learned:
        """Return what is known, for `restore` of another one."""

    def restore(self, learned: Learned) -> None:
        """Begin with what another one has learned. Raises ValueError, and changes nothing, for what cannot be."""

    @property
    def after_rejection(self) -> float:
        """How often the first mask behind a rejected draft predicts the target's token."""

    @property
    def acceptance(self) -> Acceptance:
        """Of all requests."""

    @property
    def cost(self) -> PassCost:
        """Of passes, by rows."""

    @property
    def lengths(self) -> list[int]:
        """Block lengths to choose from, ascending."""

class Image:
    """Rows of an image that an engine knows; its vectors are there for as long as this is."""

    @property
    def key(self) -> str:
        """Names the content."""

    @property
    def first(self) -> int:
        """The id of its first row, below -1; those of the others follow downwards."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    def n_bytes(self) -> int:
        """Bytes of its vectors; 0 without."""

class RequestOptions:
    """What a request asks of the engine.

    Raises TypeError for a name that is none and for a value of a wrong type, ValueError for a mode, fusing or order
    that is not known. `Engine.submit` checks ranges.
    """

    def __init__(
        self,
        *,
        mode: str = "self-spec",
        max_tokens: int = 0,
        block_length: int = 16,
        fusing: str = "never",
        ngram: int = 0,
        tree_nodes: int = 0,
        threshold: float = 0.9,
        steps: int = 0,
        reveal: str = "confidence",
        use_lora: bool = True,
        lora_scales: Sequence[float] = [],
        suffix: Sequence[int] = [],
        ignore_eos: bool = False,
        stop: Sequence[str] = [],
        stop_token_ids: Sequence[int] = [],
        min_tokens: int = 0,
        loop_window: int = 900,
        loop_min_repeats: int = 4,
        think_begin: int = -1,
        think_end: int = -1,
        max_thinking_tokens: int = -1,
        keep: bool = False,
        cache_scope: int = 0,
        logprobs: int = -1,
        post_sampling_probs: bool = False,
        temperature: float = 0.0,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        penalty_last_n: int = 64,
        dry_multiplier: float = 0.0,
        dry_base: float = 1.75,
        dry_allowed_length: int = 2,
        dry_penalty_last_n: int = -1,
        dry_sequence_breakers: Sequence[str] = ["\n", ":", '"', "*"],
        logit_bias: Mapping[int, float] = {},
        grammar: str = "",
        grammar_after: int = -1,
        seed: int = 0,
        coupled: bool = False,
        simulated_acceptance: Sequence[float] = [],
        simulated_after_rejection: float = 0.5,
        simulated_centres: Sequence[float] = [],
        simulated_spread: float = 0.0,
        simulated_second: float = 0.57,
        simulated_strayed: float = 1.7,
    ) -> None: ...
    @property
    def mode(self, /) -> str:
        """ "ar", "diffusion" or "self-spec"."""

    @mode.setter
    def mode(self, value: str, /) -> None: ...
    @property
    def max_tokens(self, /) -> int:
        """Most tokens to emit; -1: as many as the context has room for."""

    @max_tokens.setter
    def max_tokens(self, value: int, /) -> None: ...
    @property
    def block_length(self, /) -> int:
        """Tokens per block; 0: self-spec chooses it by measurement, cycle by cycle."""

    @block_length.setter
    def block_length(self, value: int, /) -> None: ...
    @property
    def fusing(self, /) -> str:
        """Self-spec: whether drafts ride with verifications, "never", "always" or "measured"."""

    @fusing.setter
    def fusing(self, value: str, /) -> None: ...
    @property
    def ngram(self, /) -> int:
        """Self-spec: most tokens of a draft that is read off the text; 0: none, -1: where that is faster."""

    @ngram.setter
    def ngram(self, value: int, /) -> None: ...
    @property
    def tree_nodes(self, /) -> int:
        """Self-spec, greedy: most drafts beside the chain; 0: none, -1: as much of a tree as is worth its rows."""

    @tree_nodes.setter
    def tree_nodes(self, value: int, /) -> None: ...
    @property
    def threshold(self, /) -> float:
        """Diffusion: confidence from which a token is kept at once."""

    @threshold.setter
    def threshold(self, value: float, /) -> None: ...
    @property
    def steps(self, /) -> int:
        """Diffusion: passes for each block, instead of the threshold; 0: by threshold."""

    @steps.setter
    def steps(self, value: int, /) -> None: ...
    @property
    def reveal(self, /) -> str:
        """Diffusion: order in which tokens are kept, "confidence", "leftmost" or "margin"."""

    @reveal.setter
    def reveal(self, value: str, /) -> None: ...
    @property
    def use_lora(self, /) -> bool:
        """Draft with the drafter LoRA, if one is loaded."""

    @use_lora.setter
    def use_lora(self, value: bool, /) -> None: ...
    @property
    def lora_scales(self, /) -> Sequence[float]:
        """Of the model's LoRA adapters, by their numbers; those that are not there: 0."""

    @lora_scales.setter
    def lora_scales(self, value: Sequence[float], /) -> None: ...
    @property
    def suffix(self, /) -> Sequence[int]:
        """Diffusion: tokens behind the middle that is wanted; empty: none."""

    @suffix.setter
    def suffix(self, value: Sequence[int], /) -> None: ...
    @property
    def ignore_eos(self, /) -> bool:
        """Go on after an end-of-generation token."""

    @ignore_eos.setter
    def ignore_eos(self, value: bool, /) -> None: ...
    @property
    def stop(self, /) -> Sequence[str]:
        """Texts before which the answer ends."""

    @stop.setter
    def stop(self, value: Sequence[str], /) -> None: ...
    @property
    def stop_token_ids(self, /) -> Sequence[int]:
        """Tokens that end the answer as an end-of-generation token does."""

    @stop_token_ids.setter
    def stop_token_ids(self, value: Sequence[int], /) -> None: ...
    @property
    def min_tokens(self, /) -> int:
        """Tokens before which nothing ends the answer but max_tokens."""

    @min_tokens.setter
    def min_tokens(self, value: int, /) -> None: ...
    @property
    def loop_window(self, /) -> int:
        """An output of which the last N tokens only repeat ends; 0: it goes on."""

    @loop_window.setter
    def loop_window(self, value: int, /) -> None: ...
    @property
    def loop_min_repeats(self, /) -> int:
        """How often a period must have come before that counts."""

    @loop_min_repeats.setter
    def loop_min_repeats(self, value: int, /) -> None: ...
    @property
    def think_begin(self, /) -> int:
        """The special token before reasoning; -1: none."""

    @think_begin.setter
    def think_begin(self, value: int, /) -> None: ...
    @property
    def think_end(self, /) -> int:
        """The special token behind reasoning; -1: none."""

    @think_end.setter
    def think_end(self, value: int, /) -> None: ...
    @property
    def max_thinking_tokens(self, /) -> int:
        """Tokens of reasoning after which its end token is emitted; -1: no budget."""

    @max_thinking_tokens.setter
    def max_thinking_tokens(self, value: int, /) -> None: ...
    @property
    def keep(self, /) -> bool:
        """The prompt stays in the cache for prompts that begin with it."""

    @keep.setter
    def keep(self, value: bool, /) -> None: ...
    @property
    def cache_scope(self, /) -> int:
        """Only requests of the same one share what the cache holds."""

    @cache_scope.setter
    def cache_scope(self, value: int, /) -> None: ...
    @property
    def logprobs(self, /) -> int:
        """How many of the most likely tokens to report at each position; -1: nothing."""

    @logprobs.setter
    def logprobs(self, value: int, /) -> None: ...
    @property
    def post_sampling_probs(self, /) -> bool:
        """Log-probabilities after the sampler chain, not of the raw logits."""

    @post_sampling_probs.setter
    def post_sampling_probs(self, value: bool, /) -> None: ...
    @property
    def temperature(self, /) -> float:
        """0: greedy, without a random draw."""

    @temperature.setter
    def temperature(self, value: float, /) -> None: ...
    @property
    def top_k(self, /) -> int:
        """Keep the N likeliest; 0: all."""

    @top_k.setter
    def top_k(self, value: int, /) -> None: ...
    @property
    def top_p(self, /) -> float:
        """Keep the likeliest that together have this probability; 1: all."""

    @top_p.setter
    def top_p(self, value: float, /) -> None: ...
    @property
    def min_p(self, /) -> float:
        """Keep those with at least this share of the probability of the likeliest; 0: all."""

    @min_p.setter
    def min_p(self, value: float, /) -> None: ...
    @property
    def typical_p(self, /) -> float:
        """Keep the most typical that together have this probability; 1: all."""

    @typical_p.setter
    def typical_p(self, value: float, /) -> None: ...
    @property
    def repeat_penalty(self, /) -> float:
        """Divides the logits of recent tokens; 1: off."""

    @repeat_penalty.setter
    def repeat_penalty(self, value: float, /) -> None: ...
    @property
    def frequency_penalty(self, /) -> float:
        """Taken off a token's logit for each recent occurrence."""

    @frequency_penalty.setter
    def frequency_penalty(self, value: float, /) -> None: ...
    @property
    def presence_penalty(self, /) -> float:
        """Taken off the logits of recent tokens."""

    @presence_penalty.setter
    def presence_penalty(self, value: float, /) -> None: ...
    @property
    def penalty_last_n(self, /) -> int:
        """Emitted tokens that penalties look back at."""

    @penalty_last_n.setter
    def penalty_last_n(self, value: int, /) -> None: ...
    @property
    def dry_multiplier(self, /) -> float:
        """DRY: strength of the penalty for repetitions; 0: off."""

    @dry_multiplier.setter
    def dry_multiplier(self, value: float, /) -> None: ...
    @property
    def dry_base(self, /) -> float:
        """DRY: what each further token of a repetition multiplies it by."""

    @dry_base.setter
    def dry_base(self, value: float, /) -> None: ...
    @property
    def dry_allowed_length(self, /) -> int:
        """DRY: longest repetition without a penalty."""

    @dry_allowed_length.setter
    def dry_allowed_length(self, value: int, /) -> None: ...
    @property
    def dry_penalty_last_n(self, /) -> int:
        """DRY: tokens to look back at; -1: the context."""

    @dry_penalty_last_n.setter
    def dry_penalty_last_n(self, value: int, /) -> None: ...
    @property
    def dry_sequence_breakers(self, /) -> Sequence[str]:
        """DRY: texts at which a repetition ends."""

    @dry_sequence_breakers.setter
    def dry_sequence_breakers(self, value: Sequence[str], /) -> None: ...
    @property
    def logit_bias(self, /) -> Mapping[int, float]:
        """What to add to the logits of tokens."""

    @logit_bias.setter
    def logit_bias(self, value: Mapping[int, float], /) -> None: ...
    @property
    def grammar(self, /) -> str:
        """In llguidance's Lark syntax; empty: none."""

    @grammar.setter
    def grammar(self, value: str, /) -> None: ...
    @property
    def grammar_after(self, /) -> int:
        """The token behind which the grammar begins; -1: at once."""

    @grammar_after.setter
    def grammar_after(self, value: int, /) -> None: ...
    @property
    def seed(self, /) -> int:
        """Of the random numbers."""

    @seed.setter
    def seed(self, value: int, /) -> None: ...
    @property
    def coupled(self, /) -> bool:
        """Target and draft take the Gumbel-max token under the same noise, instead of rejection."""

    @coupled.setter
    def coupled(self, value: bool, /) -> None: ...
    @property
    def simulated_acceptance(self, /) -> Sequence[float]:
        """For benchmarks: the rates, by position, at which drafts are accepted by lot. The text is meaningless; no
        option of `TriMode` leads here. Empty: drafts are compared with the target.
        """

    @simulated_acceptance.setter
    def simulated_acceptance(self, value: Sequence[float], /) -> None: ...
    @property
    def simulated_after_rejection(self, /) -> float:
        """For benchmarks: how often the first mask behind a rejected draft predicts the next token."""

    @simulated_after_rejection.setter
    def simulated_after_rejection(self, value: float, /) -> None: ...
    @property
    def simulated_centres(self, /) -> Sequence[float]:
        """For benchmarks: the log-odds, by position, around which the chances of drafts vary; empty: all alike."""

    @simulated_centres.setter
    def simulated_centres(self, value: Sequence[float], /) -> None: ...
    @property
    def simulated_spread(self, /) -> float:
        """For benchmarks: the standard deviation of these log-odds."""

    @simulated_spread.setter
    def simulated_spread(self, value: float, /) -> None: ...
    @property
    def simulated_second(self, /) -> float:
        """For benchmarks: how often the second-best token is right where the best one is not."""

    @simulated_second.setter
    def simulated_second(self, value: float, /) -> None: ...
    @property
    def simulated_strayed(self, /) -> float:
        """For benchmarks: log-odds that a draft loses behind a second-best token."""

    @simulated_strayed.setter
    def simulated_strayed(self, value: float, /) -> None: ...
    def replace(self, **changes: object) -> RequestOptions:
        """Return a copy with other values of some options. Raises as the constructor does."""

class QueueFullError(RuntimeError):
    """As many requests run and wait as may."""

class CacheFullError(RuntimeError):
    """Running requests have the cells that are asked for."""

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
        row_steps: Sequence[int] = [],
        exact_rows: int = 0,
        images: bool = False,
    ) -> None:
        """`n_threads_batch`: threads of passes with rows of prompts, 0: as many as of the others. `fewer_threads`: the
        others take one where that is as fast, measured on the way. `images`: prompts may have rows of images.

        For tests: `use_scheduler` sends a model through ggml's scheduler where it would not be needed; `device_graphs`
        computes on the CPU as on a device (embedding looked up outside, argmax within, rows padded).

        On devices only: `fused_stores`, see `GraphOptions` in native/forward/graph.h; `row_steps`, the numbers of rows
        that passes are padded to (powers of two without any and beyond the last); `exact_rows`, see `EngineOptions` in
        native/engine/engine_options.h. Raises ValueError for options out of range.
        """

    @property
    def n_ctx(self) -> int:
        """Cells of the cache, shared by all requests."""

    @property
    def n_parallel(self) -> int:
        """Requests that run side by side."""

    @property
    def state(self) -> dict[str, int]:
        """Now: `n_cells` and of these `n_free_cells`, `n_idle_cells` (held by finished requests only); requests
        `n_running`, `n_suspended` (for lack of cells), `n_queued`.
        """

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
        """Name ggml's operations, in their order, in a pass of `n_rows` rows without the drafter LoRA."""

    @property
    def left_to_cpu(self) -> set[str]:
        """Operations on a device's weights or cache that it has no kernel for, such as "FLASH_ATTN_EXT on CUDA0"."""

    @property
    def draft_length(self) -> DraftLength:
        """The engine's own; for use while no request runs."""

    def learned(self, patience: float) -> Learned | None:
        """Return what the choice of drafts has learned from passes. None where there were none, where drafts were
        accepted by lot, and where a pass does not end in `patience` seconds.
        """

    def submit(
        self,
        tokens: Sequence[int],
        options: RequestOptions,
        channel: int = 0,
        images: Sequence[Image] = [],
        image_pad: int = -1,
    ) -> int:
        """Queue a request, without waiting, and return its number. Its events go to `channel`; 0: to one of its own,
        which has that number. With `images`, these stand where the tokens are `image_pad`, in order.

        Raises ValueError for options out of range, for a grammar that does not parse and for tokens that no prompt
        could have, QueueFullError when `n_parallel` requests run and `max_queue` wait.
        """

    def wait(self, channel: int) -> list[Event]:
        """Return the next events of a channel; none when all its requests have ended. Steps the engine meanwhile, for
        everybody, or waits for the thread that does. The GIL is released.

        Raises RuntimeError when the engine is closed, KeyboardInterrupt (and loses nothing) between two passes.
        """

    def wait_to_end(self, request_id: int) -> Event:
        """Wait for all of a request's events, as one: every token, and its end. Raises as `wait` does."""

    def step(self) -> list[Event]:
        """Run one forward pass for whatever the active requests plan; returns all events that wait. For tests."""

    def cancel(self, request_id: int) -> None:
        """End a request with the current pass, with an event. Raises ValueError for an unknown one."""

    def release(self, request_id: int) -> None:
        """Forget a request, at once; one that runs is cancelled. Its cells stay for prompts that begin alike. Raises
        ValueError for an unknown one.
        """

    def hold(self, request_id: int, held: bool) -> None:
        """Hold a request back between passes, as its reader is behind, or let it go on. Its cells and its place stay.
        Raises ValueError for an unknown one.
        """

    def close(self) -> None:
        """Make `submit` and `wait` raise RuntimeError."""

    def clear_cache(self) -> None:
        """Drop what finished requests have left."""

    @overload
    def add_image(
        self,
        key: str,
        rows: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
    ) -> Image:
        """Give ids to the rows [n, n_embd] of an image, whose content `key` names. Known content keeps its ids. Raises
        ValueError for rows of another width or number.
        """

    @overload
    def add_image(self, key: str, n_rows: int) -> Image:
        """Do the same without the rows, for cells that a saved state has."""

    def image_runs(self, tokens: Sequence[int]) -> list[tuple[int, int, str, int, int]]:
        """List the rows of images among tokens that `save_state` returned: where each run begins and its length, the
        image's key, the first of its rows, and how many it has.
        """

    def logits(
        self,
        tokens: Sequence[int],
        block_start: int = -1,
        lora: bool = False,
        first: int = 0,
        images: Sequence[Image] = [],
        image_pad: int = -1,
        cache_scope: int = 0,
        lora_scales: Sequence[float] = [],
    ) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None))]:
        """[n - first, n_vocab]: causal rows; from `block_start` on in both directions (the drafter LoRA on these only).
        With `first` above 0, causal rows before it may come from the cache, as a request's with this `cache_scope` and
        these `lora_scales`, and stay there.
        """

    def score(
        self,
        tokens: Sequence[int],
        continuations: Sequence[Sequence[int]],
        images: Sequence[Image] = [],
        image_pad: int = -1,
        cache_scope: int = 0,
        lora_scales: Sequence[float] = [],
        check: Callable[[], None] | None = None,
    ) -> list[list[float]]:
        """Return the log-probabilities of the tokens of each continuation of a prompt, as mode ar reports them: the
        prompt is computed once, continuations side by side, and other requests go on meanwhile. Cache as for `logits`.
        `check`: called without arguments between passes; what it raises ends the scoring. Raises ValueError for no
        continuation, an empty one, and one that does not fit the context; CacheFullError when running requests leave no
        room.
        """

    def save_state(
        self,
        tokens: Sequence[int],
        images: Sequence[Image] = [],
        image_pad: int = -1,
        lora_scales: Sequence[float] = [],
    ) -> tuple[
        list[int],
        Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None))],
        Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None))],
    ]:
        """Return the longest beginning of `tokens` that finished requests have left, its keys and its values as the
        cache stores them: [n_layer, n, bytes of a row]. No tokens where there are none.
        """

    def load_state(
        self,
        tokens: Sequence[int],
        k: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
        v: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
        lora_scales: Sequence[float] = [],
    ) -> None:
        """Put such a beginning into the cache. Raises ValueError for arrays of another size, for more tokens than the
        context, or none; RuntimeError when running requests leave no slot or no room.
        """

LOOP_WINDOW: int = 900

LOOP_MIN_REPEATS: int = 4

class LoopDetector:
    """Finds an endless repetition in an output (`native/decoders/loop_detector.h`); for tests."""

    def __init__(self, window: int = 900, min_repeats: int = 4) -> None:
        """Count from nothing. Raises ValueError for a window below 3 or min_repeats below 2."""

    def push(self, token: int) -> bool:
        """Add a token; True while the output ends in a loop."""

    @property
    def period(self) -> int:
        """The shortest period of the loop in tokens, 0 outside one."""

    @property
    def repeated(self) -> int:
        """How many tokens at the end repeat what came before: dropping them leaves one copy."""

    def reset(self) -> None:
        """Forget all tokens."""

class VisionCancelledError(RuntimeError):
    """The encoding of an image was cancelled."""

VISION_CELL_PIXELS: int = 28

def vision_grid(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Columns and rows of cells of a picture whose longest side keeps `max_side` pixels."""

class VisionAbort:
    """Ends an encoding from another thread."""

    def __init__(self) -> None: ...
    def set(self) -> None:
        """End it, within a node of the graph on the CPU."""

class Tower:
    """The vision tower of an mmproj file (`native/vision/`)."""

    def __init__(
        self, path: str, *, n_threads: int = 0, device: str = "", exact: bool = True, no_alloc: bool = False
    ) -> None:
        """`device`: a name of `devices`, "": the CPU. `exact`: keys and values of the CPU's attention in F32, else F16
        as on devices. `no_alloc`: only to plan the memory.

        Raises RuntimeError that names key or tensor for a file that is damaged or none.
        """

    @property
    def n_embd(self) -> int:
        """Width of a row."""

    @property
    def largest_side(self) -> int:
        """Pixels, a multiple of 28."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""

    @property
    def device(self) -> str:
        """ "CPU" or the device's name."""

    def planned_compute_bytes(self, max_side: int) -> int:
        """Bytes of the buffer for a picture of the largest size."""

    def pixels(
        self,
        picture: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu", writable=False)],
        max_side: int,
    ) -> NDArray[numpy.float32]:
        """Return what the tower reads of uint8 RGB pixels [height, width, 3]: [3, rows * 28, columns * 28]."""

    def encode(
        self,
        picture: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order="C", device="cpu", writable=False)],
        max_side: int,
        abort: VisionAbort | None = None,
    ) -> NDArray[numpy.float32]:
        """Rows [cells, n_embd] of uint8 RGB pixels [height, width, 3]. The GIL is released; one at a time.

        Raises VisionCancelledError, ValueError for sides out of range, RuntimeError where memory is missing,
        KeyboardInterrupt.
        """

def devices() -> list[Device]:
    """List the devices that ggml found."""

def backends() -> list[Backend]:
    """List the backends that libllama was built with."""

def add_rpc_server(endpoint: str) -> None:
    """Add the devices of a server of ggml's RPC backend, HOST:PORT, to those of this process; once. Raises RuntimeError
    where no server answers, or this build lacks the backend.
    """

def run_rpc_server(endpoint: str, devices: Sequence[str], n_threads: int) -> None:
    """Give devices of this machine, by ggml's names, to whoever connects to HOST:PORT. Does not return."""

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
    devices: Sequence[str] = [],
    split_mode: str = "layer",
    main_gpu: int = 0,
    tensor_split: Sequence[float] = [],
    adapters: Sequence[str] = [],
) -> list[DeviceMemory]:
    """Estimate what the engine would take, the CPU last; nothing is loaded. See `native/engine/plan_memory.h`.

    Raises as `Model` and `Engine` do.
    """
