"""TriMode: a loaded model, and everything an application does with it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from pytrimode.answers.results import ChatCompletion, ChatCompletionChunk, Completion
from pytrimode.answers.step import Step, steps
from pytrimode.async_run import AsyncRun
from pytrimode.engine_loop import Cancellation, EngineLoop
from pytrimode.jobs import Jobs
from pytrimode.loading import open_files
from pytrimode.options.defaults import DEFAULT_CHAT_TEMPERATURE, DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE
from pytrimode.options.generation_options import GenerationOptions, ResolvedOptions, option_table
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.methods import check_names, takes
from pytrimode.options.modes import AR
from pytrimode.options.option import checked, rows, switch
from pytrimode.prompted_model import PromptedModel
from pytrimode.vision.load import load_vision, tower_device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from pytrimode._native import DraftLength, Engine, Event
    from pytrimode.answers.decision import Decision, Question
    from pytrimode.answers.filling import Filled, Filling, Template
    from pytrimode.answers.job import AnyJob
    from pytrimode.files.cache_state import CacheState
    from pytrimode.formats.chat_template import Message
    from pytrimode.options.arguments import LoadArguments, RequestArguments
    from pytrimode.options.method_arguments import ChatArguments, CompletionArguments
    from pytrimode.vision.prompt import Pictures

_SHARED_OPTIONS = [row for row in option_table().values() if not row.about.varies]


class TriMode(PromptedModel):
    """A GGUF model ready to decode in every mode.

    `n_ctx` 0 takes the model's own context, at most 4096 tokens. `n_parallel` requests run side by side, one pass over
    the weights for all of them, and share these `n_ctx` cells: one alone may have them all, and when they run out the
    youngest pauses. Any number more may wait, or `max_queue`: then QueueFullError. `n_batch`: most rows in a pass;
    `n_ubatch`: of these, most of prompts while other requests decode.

    `n_gpu_layers`: how many layers the GPU holds, -1 or "all" for everything, "auto" for what its free memory holds (0
    without a GPU); `split_mode` ("layer", "none"), `main_gpu` and `tensor_split` spread them over several.

    `lora_path` "auto" uses `<model>-drafter-lora.gguf` beside the model if it is there; None uses none. `loras`: LoRA
    adapters of your own, paths or pairs of a path and a scale; they apply to all rows of all modes, and `lora` in a
    request chooses among them. `type_k`,
    `type_v`: types of the KV cache (f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1). `flash_attn=False` has a GPU compute
    attention by products of matrices; a CPU has one attention, in F32. `n_threads`: None for one on each core (see
    `pytrimode.threads`), or one alone where that is as fast; `n_threads_batch`: of passes with rows of prompts,
    None for as many. `seed` is that of every request that names none; None draws a new one for each. `repack=False`
    leaves the weights on the CPU as they are mapped from the file, for processes that share them: passes are then
    slower. `tuning_cache=False` begins anew with what mode auto measures, and keeps nothing of it; else that goes to a
    small file in the cache directory when the model is closed, for the next time.

    `mmproj` "auto" loads the vision tower `<model>-mmproj.gguf` beside the model if it is there, for images in prompts;
    None loads none. `image_max_side`: pixels that the longest side of an image keeps, None for the model's own.

    Objects may be shared between threads; `AsyncTriMode` is for asyncio. Use as a context manager, or `close()`; the
    end of the process closes what is open. In a fork of a process that had loaded a model there is RuntimeError.

    `chat_template_file`: a Jinja template in place of the file's own. `parse_special`: special tokens that are spelled
    out in the text of chat messages become their ids.

    None is the default of each option but `lora_path` and `mmproj`.

    Raises TypeError for an unknown argument or a wrong type, FileNotFoundError for a missing file, ValueError for one
    that is damaged or no model and for impossible options, RuntimeError for one that does not load.
    """

    @takes(rows(LoadOptions).values())
    def __init__(self, path: str | Path, **options: Unpack[LoadArguments]) -> None:
        check_names(TriMode.__init__, options)
        asked = LoadOptions(**options)  # type: ignore[arg-type]
        path = checked("path", "str | Path", path)
        opened = open_files(path, asked)
        engine = opened.engine
        super().__init__(opened.model, str(path), n_ctx=engine.n_ctx, n_batch=asked.n_batch, seed=asked.seed,
                         lora_scales=[lora.scale for lora in opened.loras])  # fmt: skip
        self.parse_special = asked.parse_special
        if asked.chat_template_file is not None:
            self.use_chat_template(asked.chat_template_file)
        self.lora_path = opened.lora_path
        self.loras = tuple(lora.path for lora in opened.loras)
        """Files of the LoRA adapters, by their numbers."""
        self.n_threads, self.n_threads_batch = opened.n_threads, opened.n_threads_batch
        self.n_gpu_layers = opened.n_gpu_layers
        """As loaded; -1: all."""
        if opened.tower:
            from pytrimode.files.cache_state import weights_digest

            self.vision = load_vision(
                opened.tower, n_embd=opened.model.n_embd, model=self, n_threads=self.n_threads,
                device=tower_device(self.n_gpu_layers, asked.main_gpu), max_side=asked.image_max_side,
                digest=weights_digest(opened.tower),
            )  # fmt: skip
        self.memory = engine.memory | ({"vision": self.vision.tower.weight_bytes} if self.vision else {})
        """Bytes of the `kv_cache` and of the `compute` buffers, and of a `vision` tower."""
        self.n_parallel = asked.n_parallel
        """Requests that run side by side."""
        self.max_queue = asked.max_queue
        """Requests that may wait; None: any number."""
        limit = None if asked.max_queue is None else asked.n_parallel + asked.max_queue
        self._loop = EngineLoop(engine, self.vision, limit, opened.tuning.save if opened.tuning else None)
        self._file = opened.file.absolute()
        self._cache_types = (asked.type_k, asked.type_v)

    @classmethod
    def from_pretrained(cls, repo: str, type: str | None = None, **options: Unpack[LoadArguments]) -> TriMode:
        """Load a model by its name on the Hugging Face hub, downloaded (and converted, if a checkpoint) at first use.

        `repo`: "OWNER/NAME", also "OWNER/NAME:TYPE". `type`: of the weights, "q4_k_m"; None takes what is here, else
        what fits into this machine's memory. `options`: those of the constructor. Where the model is here already, no
        connection is opened. Needs the extra `[hub]` for the first use.

        Raises ImportError without it, `pytrimode.hub.errors.HubError` (a RuntimeError) for what cannot be had, and as
        the constructor.
        """
        from pytrimode.hub.pretrained import pretrained

        return cls(pretrained(repo, type), **options)

    # --- The model -------------------------------------------------------------------------------------------------

    def __enter__(self) -> TriMode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the KV cache and the compute buffers. Requests that still run end with RuntimeError."""
        self._loop.close()

    @property
    def jobs(self) -> Jobs:
        """Return what makes jobs of requests, for `AsyncTriMode` and the server."""
        return Jobs(self, self._model, self._visible_specials)

    @property
    def engine(self) -> Engine:
        """Return the engine beneath, for its counters and for requests pass by pass (`pytrimode._native.Engine`).

        Raises RuntimeError after `close()`.
        """
        return self._loop.engine

    # --- Decoding --------------------------------------------------------------------------------------------------

    def steps(
        self,
        tokens: Sequence[int],
        options: GenerationOptions,
        cancellation: Cancellation | None = None,
        *,
        pictures: Pictures | None = None,
    ) -> Generator[Step, None, None]:
        """One `Step` per forward pass: new text, new tokens, and in diffusion the block as it stands.

        Options are checked at the call, the engine starts with the first `next()`. Closing the generator, or an
        exception such as KeyboardInterrupt in it, cancels the request; the object stays usable. `cancellation` does so
        from another thread: `next()` raises RuntimeError then. `pictures`: of a `Prompt`; they are encoded by the first
        `next()`.
        """
        tokens = checked("tokens", "Sequence[int]", tokens)
        resolved = self.resolve(options, len(tokens), pictures)
        return steps(self._loop, tokens, resolved, self.jobs.step_maker(resolved), cancellation)

    def run_many(
        self, jobs: Sequence[tuple[Sequence[int], ResolvedOptions]], parallel: int
    ) -> Generator[tuple[int, Event], None, None]:
        """Run prompts with their `resolve`d options, `parallel` at a time (at most `n_parallel` side by side): every
        event with the number of its job. Leaving the iterator early cancels what still runs."""
        return self._loop.run_many(jobs, parallel)

    def run_async(self, jobs: Sequence[AnyJob]) -> AsyncRun:
        """Jobs of one task of asyncio; for `AsyncTriMode` and the server."""
        return AsyncRun(self._loop, jobs)

    @property
    def draft_length(self) -> DraftLength:
        """What mode auto has measured: time by rows, acceptance by position. To look at while no request runs."""
        return self._loop.draft_length

    @takes(_SHARED_OPTIONS, temperature=DEFAULT_TEMPERATURE)
    def generate(self, tokens: Sequence[int], **options: Unpack[RequestArguments]) -> Iterator[int]:
        """Token ids as they become final, the end-of-generation token included; to the end of the context unless
        `max_tokens` is given. Options as `create_completion`'s."""
        check_names(TriMode.generate, options)
        tokens = checked("tokens", "Sequence[int]", tokens)
        chosen = self.request_options(options, temperature=DEFAULT_TEMPERATURE)
        resolved = self.resolve(chosen, len(tokens))

        def token_ids() -> Iterator[int]:
            with contextlib.closing(self._loop.run(tokens, resolved)) as events:
                for event in events:
                    yield from event.tokens

        return token_ids()

    @overload
    def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[CompletionArguments],
    ) -> Completion: ...

    @overload
    def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: Literal[True],
        **options: Unpack[CompletionArguments],
    ) -> Iterator[Completion]: ...

    @overload
    def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: bool | None,
        **options: Unpack[CompletionArguments],
    ) -> Completion | Iterator[Completion]: ...

    @takes(_SHARED_OPTIONS, temperature=DEFAULT_TEMPERATURE, max_tokens=DEFAULT_MAX_TOKENS)
    def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: bool | None = None,
        logprobs: int | None = None,
        echo: bool | None = None,
        images: Sequence[Any] | None = None,
        prompt_logprobs: int | None = None,
        **options: Any,
    ) -> Completion | Iterator[Completion]:
        """Continue a prompt: text (special tokens in it become their ids) or token ids.

        Returns llama-cpp-python's dictionary with `timings`, `finish_details` and a wider `usage`, or with `stream` an
        iterator of chunks, the last of which has them and the finish reason. `max_tokens` None or -1: to the end of the
        context. `temperature` 0: greedy. `logprobs`: how many of the most likely tokens to report at each position, by
        the model's causal rows in every mode. `prompt_logprobs`: how many at each position of the prompt, beside its
        own token, as vLLM writes them.

        `suffix`: what is to follow; the completion is then the middle, `max_tokens` masks that block diffusion fills
        seeing both sides (an end-of-generation token ends it early).

        `images`: paths, bytes, Pillow images or uint8 arrays, for a model with vision; they stand where the text has
        `<|image_start|>`, or in front of it. `options`: how to decode, when to end and how to sample
        (docs/requests.md). None is the default of each but `max_tokens`, which is 16 if it is left out.

        Raises TypeError for an unknown argument and for a wrong type, ValueError for impossible options and for a
        prompt that does not fit the context, QueueFullError when `max_queue` requests wait already.
        """
        check_names(TriMode.create_completion, options)
        job = self.jobs.asked_completion(
            prompt, suffix, logprobs=logprobs, echo=echo, images=images, prompt_logprobs=prompt_logprobs, **options
        )
        return job.stream(self._loop) if switch("stream", stream) else job.run(self._loop)

    __call__ = create_completion

    @overload
    def create_chat_completion(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatArguments],
    ) -> ChatCompletion: ...

    @overload
    def create_chat_completion(
        self, messages: Sequence[Message], *, stream: Literal[True], **options: Unpack[ChatArguments]
    ) -> Iterator[ChatCompletionChunk]: ...

    @overload
    def create_chat_completion(
        self, messages: Sequence[Message], *, stream: bool | None, **options: Unpack[ChatArguments]
    ) -> ChatCompletion | Iterator[ChatCompletionChunk]: ...

    @takes(_SHARED_OPTIONS, temperature=DEFAULT_CHAT_TEMPERATURE)
    def create_chat_completion(
        self,
        messages: Sequence[Message],
        *,
        stream: bool | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        enable_thinking: bool | None = None,
        reasoning_format: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        prompt_logprobs: int | None = None,
        **options: Any,
    ) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Answer a conversation through the file's chat template; options and results as `create_completion`'s.

        An answer goes to the end of the context unless `max_tokens` is given. `logprobs` with `top_logprobs`: how many
        of the most likely tokens to report; `prompt_logprobs` as `create_completion`'s. `enable_thinking`: the template
        lets the model reason first; `reasoning_format` "deepseek" (default) returns that as `reasoning_content`, "none"
        inline. `chat_template_kwargs`: further variables for the template. `response_format`: {"type": "json_object"},
        with an optional "schema", or OpenAI's {"type": "json_schema", ...}; it takes the place of a `grammar`, and
        holds for the answer behind the reasoning. `tools` and `tool_choice` are OpenAI's; calls come as `tool_calls`.

        Messages of the user may have images, for a model with vision: see `chat_prompt`.

        Raises ValueError also for messages that the template refuses, and for a file without one.
        """
        check_names(TriMode.create_chat_completion, options)
        job = self.jobs.asked_chat(
            messages,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            enable_thinking=enable_thinking,
            reasoning_format=reasoning_format,
            chat_template_kwargs=chat_template_kwargs,
            response_format=response_format,
            tools=tools,
            tool_choice=tool_choice,
            prompt_logprobs=prompt_logprobs,
            **options,
        )
        return job.stream(self._loop) if switch("stream", stream) else job.run(self._loop)

    def decide(
        self,
        prompt: str | bytes | Sequence[int] | Sequence[Message],
        choices: Sequence[str],
        *,
        masks: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Tell how likely each of some given answers is: for routers, graders and multiple choice.

        `prompt`: messages, a text or token ids. The prompt is read once; then each choice has `logprob`, the
        log-likelihood of its tokens by the rows of mode ar, and `probability`, its share of all choices' likelihoods.
        Beside it `block` has the same of one pass of `masks` masks behind the prompt, in which diffusion predicts all
        tokens at once, each without the others. None: as many as the longest choice has tokens; with fewer, the first
        ones are estimated; 0: no such pass. `best` is the text of the likeliest choice by `logprob`.

        A text and a choice are tokenized together, so a space between them may stand on either side; behind token ids a
        choice is tokenized by itself. Nothing is added behind a choice: "no" counts all answers that begin so.

        Raises ValueError for no, empty, equal and too many or too long choices, and a prompt that does not fit the
        context with them; QueueFullError and CacheFullError as requests do.
        """
        question = self.jobs.asked_decision(prompt, choices, masks=masks, chat_template_kwargs=chat_template_kwargs)
        return self.run_decision(question)

    def run_decision(
        self, question: Question, cache_scope: int = 0, cancellation: Cancellation | None = None
    ) -> Decision:
        """Decide; for the server and other threads. Raises RequestCancelledError once `cancellation` is called."""
        return question.decide(
            self._loop, lora_scales=self.lora_scales, cache_scope=cache_scope, cancellation=cancellation
        )

    def fill(
        self,
        template: Template,
        messages: Sequence[Message] | None = None,
        *,
        temperature: float = 0.0,
        seed: int | None = None,
        threshold: float | None = None,
    ) -> Filled:
        """Fill the gaps of a text: `model.fill(["The ", Gap(choices=["cat", "dog"]), " says", Gap(4), "."])`.

        From left to right. Block diffusion fills a gap of tokens, seeing the text on both sides, in which gaps that are
        still open are masks; `temperature` 0: greedy, `threshold` as in mode diffusion. Of `choices` that one is taken
        with which mode ar finds it and the text behind it, up to the next gap, likeliest. `messages`: the text is the
        assistant's answer to them. A gap takes the space in front of its word best: most tokens begin with it.

        Raises TypeError and ValueError for a template without a gap, a gap that cannot be, and what does not fit the
        context or, of a gap and the text behind it, `n_batch`; QueueFullError and CacheFullError as requests do.
        """
        filling = self.jobs.asked_filling(template, messages, temperature=temperature, seed=seed, threshold=threshold)
        return self.run_filling(filling)

    def run_filling(self, filling: Filling, cancellation: Cancellation | None = None) -> Filled:
        """Fill; for other threads. Raises RequestCancelledError once `cancellation` is called."""
        return filling.fill(self._loop, lora_scales=self.lora_scales, cancellation=cancellation)

    def keep(self, prompt: str | bytes | Sequence[int], images: Sequence[Any] | None = None) -> int:
        """Compute a beginning that many prompts share, and keep it in the cache until nothing else could go.

        Text or token ids, such as those of a system message, without what differs; `images` as `create_completion`
        takes them. Returns its number of tokens.
        `clear_cache` lets it go. On a CPU, bits are those of a long prompt, so a last part of it that is shorter than
        64 tokens may have to be computed again by prompts that end soon after it.
        """
        tokens, pictures = self.image_prompt(prompt, images)
        resolved = self.resolve(GenerationOptions(mode=AR, max_tokens=1), len(tokens), pictures)
        self._loop.complete(tokens, replace(resolved, engine=resolved.engine.replace(keep=True)))
        return len(tokens)

    def clear_cache(self) -> None:
        """Drop what the cache holds of finished requests."""
        self._loop.clear_cache()

    def logits(
        self,
        tokens: Sequence[int],
        *,
        block_start: int | None = None,
        lora: bool = False,
        first: int = 0,
        pictures: Pictures | None = None,
    ) -> NDArray[np.float32]:
        """Logits of the rows from `first` on, float32 [len(tokens) - first, n_vocab].

        Rows are causal: row i predicts token i + 1. From `block_start` on, rows see each other in both directions and
        row i predicts the token at i; with `lora` the drafter LoRA is on for these rows. `pictures`: of a `Prompt`.

        With `first` 0 the requests' cache is not used. Else causal rows before `first` may be found there, with the
        same bits, and stay there for the next call: of a long text, a few rows at a time cost no more than all at once.

        Raises ValueError for rows that there are not, and a block longer than `n_batch`.
        """
        tokens = checked("tokens", "Sequence[int]", tokens)
        if block_start is not None and not 0 <= block_start < len(tokens):
            raise ValueError(f"block_start {block_start}: must be between 0 and {len(tokens) - 1}")
        begin = -1 if block_start is None else block_start
        return self._loop.logits(tokens, begin, lora, first, pictures, lora_scales=self.lora_scales)

    def set_weight(self, name: str, data: bytes) -> None:
        """Replace the data of a weight, rows in the type that it has, and drop the cache, which the old one wrote.

        Of a model loaded with `use_mmap=False`; while nothing is generated. Raises ValueError for an unknown name,
        data of another size, and a memory-mapped model.
        """
        self._model.set_weight(name, data)
        self.clear_cache()

    # --- The cache -------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> dict[str, Any]:
        """What keys and values of this model and cache depend on; see `pytrimode.files.cache_state.origin_of`."""
        loras = [[digest, scale] for digest, scale in zip(self._lora_digests, self.lora_scales, strict=True) if scale]
        return self._own_origin | ({"loras": loras} if loras else {})

    @cached_property
    def _own_origin(self) -> dict[str, Any]:
        from pytrimode.files.cache_state import origin_of

        return origin_of(self._model, self._file, *self._cache_types)

    @cached_property
    def _lora_digests(self) -> list[str]:
        from pytrimode.files.cache_state import weights_digest

        return [weights_digest(Path(path)) for path in self.loras]

    def save_state(self, tokens: Sequence[int], *, pictures: Pictures | None = None) -> CacheState:
        """Return the keys and values of the longest beginning of `tokens` that finished requests have left in the
        cache.

        For what comes later and elsewhere: `load_state` of the same model in another process.
        `pictures`: of a `Prompt`.
        """
        import numpy as np

        from pytrimode.files.cache_state import CacheState, ImageRun

        tokens = checked("tokens", "Sequence[int]", tokens)
        held, k, v = self._loop.save_state(tokens, pictures, self.lora_scales)
        runs = [ImageRun(*run) for run in self._loop.image_runs(held)]
        plain = np.asarray(held, np.int32)
        for run in runs:
            plain[run.begin : run.begin + run.n] = tokens[run.begin : run.begin + run.n]
        return CacheState(plain, k, v, self.origin, tuple(runs))

    def load_state(self, state: CacheState) -> None:
        """Put a saved state into the cache: a prompt that begins with its tokens computes only the rest, to the same
        bits as where it was saved.

        Raises ValueError, and changes nothing, when the state comes from other weights or another cache type, or has
        more tokens than the context; RuntimeError while requests leave no slot or no room.
        """
        from pytrimode.files.cache_state import difference

        if other := difference(state.origin, self.origin):
            raise ValueError(f"the state was saved with {other}")
        if len(state.tokens) > self.n_ctx:
            raise ValueError(f"the state has {len(state.tokens)} tokens, the context has {self.n_ctx}")
        tokens = state.tokens.tolist()
        held = []  # until the cache has them
        if state.images and self.vision is None:
            raise ValueError("the state has images, the model was loaded without its vision tower")
        for run in state.images:
            image = self._loop.add_image(run.key, run.n_rows)
            held.append(image)
            begin = image.first - run.first
            tokens[run.begin : run.begin + run.n] = range(begin, begin - run.n, -1)
        if tokens:
            self._loop.load_state(tokens, state.k, state.v, self.lora_scales)
