"""From the arguments of requests to jobs, for the Python API and for the server."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pytrimode.answers.answer import Answer, ChatAnswer, CompletionAnswer, Reading
from pytrimode.answers.decision import MAX_CHOICE_TOKENS, Question, checked_choices, continuations_of
from pytrimode.answers.filling import Filling, Gap, Template, checked_template
from pytrimode.answers.job import Job
from pytrimode.answers.live_pass import LivePasses
from pytrimode.answers.logprobs import LogprobWriter, PromptWriter
from pytrimode.answers.results import ChatCompletion, ChatCompletionChunk, Completion, ResultWriter
from pytrimode.answers.step import StepMaker
from pytrimode.formats.reasoning import REASONING_DEEPSEEK, check_reasoning_format
from pytrimode.formats.response_format import grammar_of
from pytrimode.formats.tool_choice import Tools
from pytrimode.options.defaults import DEFAULT_CHAT_TEMPERATURE, DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE
from pytrimode.options.generation_options import GenerationOptions, ResolvedOptions, with_options
from pytrimode.options.modes import DIFFUSION
from pytrimode.options.option import checked, mapping, switch
from pytrimode.vision.prompt import Prompt

if TYPE_CHECKING:
    from pytrimode import _native
    from pytrimode.formats.chat_template import Message
    from pytrimode.prompted_model import PromptedModel
    from pytrimode.vision.picture import Picture

_NO_TOOLS = Tools()


@dataclass(frozen=True)
class Wanted:
    """How an answer is to be read and written, beside what its `GenerationOptions` say."""

    writer: ResultWriter
    echo: str = ""
    """What a completion begins with."""
    tools: Tools = _NO_TOOLS
    reasoning_format: str = REASONING_DEEPSEEK
    completion: type[Answer[Any, Any]] = CompletionAnswer
    """What writes a completion."""
    prompt_logprobs: int | None = None
    """How many of the likeliest tokens at each position of the prompt to report; None: nothing of it."""
    live: bool = False
    """Whether the chunks tell what each forward pass did."""


class Jobs:
    """Makes the jobs of one model."""

    def __init__(self, model: PromptedModel, native: _native.Model, visible: Collection[int]) -> None:
        """`visible`: special tokens that are part of the text."""
        self._model = model
        self._native = native
        self._visible = visible

    def step_maker(self, resolved: ResolvedOptions) -> StepMaker:
        """Return what makes the steps of one request from its events."""
        return StepMaker(self._native, resolved, self._visible)

    def completion(self, prompt: Prompt, options: GenerationOptions, wanted: Wanted) -> Job[Completion, Completion]:
        """Return a prompt to be continued. Raises ValueError for options that the model or the context cannot keep."""
        resolved = self._model.resolve(options, len(prompt.tokens), prompt.pictures)
        reading = self._reading(options, wanted, offset=len(wanted.echo))
        answer = wanted.completion(wanted.writer, replace(reading, echo=wanted.echo))
        echoed = options.logprobs if wanted.echo and not prompt.pictures else None
        return Job(prompt.tokens, resolved, self.step_maker(resolved), answer, _prompt_top(prompt, wanted, echoed))

    def chat(
        self, prompt: Prompt, options: GenerationOptions, wanted: Wanted
    ) -> Job[ChatCompletion, ChatCompletionChunk]:
        """Return a conversation to be answered. Raises ValueError also for a required call beside another grammar."""
        check_reasoning_format(wanted.reasoning_format)
        split = self._model.reasoning_split(prompt.tokens)
        if constraint := wanted.tools.constraint(self._model.special_token, reasoning_open=split.open):
            if options.sampling.grammar:
                raise ValueError("tools: give a required tool_choice, or grammar or response_format, not both")
            options = with_options(options, {"grammar": constraint})
        resolved = self._model.resolve(options, len(prompt.tokens), prompt.pictures)
        count = self._model.reasoning_count(split)
        apart = split if wanted.reasoning_format == REASONING_DEEPSEEK else None
        reading = replace(self._reading(options, wanted), split=apart, tools=wanted.tools.parser(), count=count)
        answer = ChatAnswer(wanted.writer, reading)
        return Job(prompt.tokens, resolved, self.step_maker(resolved), answer, _prompt_top(prompt, wanted))

    def _reading(self, options: GenerationOptions, wanted: Wanted, offset: int = 0) -> Reading:
        wants_logprobs = options.logprobs is not None
        return Reading(
            logprobs=LogprobWriter(self._native, self._visible, offset) if wants_logprobs else None,
            n_top=options.logprobs or 0,
            prompt=None if wanted.prompt_logprobs is None else PromptWriter(self._native, wanted.prompt_logprobs),
            live=LivePasses(self._model) if wanted.live else None,
            trim_loop=options.trim_loop,
        )

    def asked_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        logprobs: int | None = None,
        echo: bool | None = None,
        images: Sequence[Any] | None = None,
        prompt_logprobs: int | None = None,
        **options: Any,
    ) -> Job[Completion, Completion]:
        """Return what `TriMode.create_completion` runs; its arguments and errors."""
        prompt = checked("prompt", "str | Sequence[int]", prompt)
        whole = self._model.image_prompt(prompt, images)
        infill: dict[str, Any] = {}
        if suffix is not None and (suffix := checked("suffix", "str | Sequence[int]", suffix)):
            ids = self._model.tokenize(suffix, add_bos=False, special=True) if isinstance(suffix, str) else suffix
            infill = {"suffix": ids, "mode": DIFFUSION}
        usual = {"temperature": DEFAULT_TEMPERATURE, "max_tokens": DEFAULT_MAX_TOKENS, **infill}
        shown = ""
        if switch("echo", echo):
            shown = (
                prompt if isinstance(prompt, str) else self._model.detokenize(whole.tokens).decode("utf-8", "replace")
            )
        wanted = Wanted(ResultWriter(self._model.model_path), shown, prompt_logprobs=n_top_of(prompt_logprobs))
        return self.completion(whole, self._model.request_options(options, **usual, logprobs=logprobs), wanted)

    def asked_chat(
        self,
        messages: Sequence[Message],
        *,
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
    ) -> Job[ChatCompletion, ChatCompletionChunk]:
        """Return what `TriMode.create_chat_completion` runs; its arguments and errors."""
        reasoning_format = REASONING_DEEPSEEK if reasoning_format is None else reasoning_format
        check_reasoning_format(checked("reasoning_format", "str", reasoning_format))
        with_logprobs = switch("logprobs", logprobs)
        if top_logprobs is not None and not with_logprobs:
            raise ValueError("top_logprobs needs logprobs=True")
        n_top = 0 if top_logprobs is None else checked("top_logprobs", "int", top_logprobs)
        variables = mapping("chat_template_kwargs", chat_template_kwargs)
        chosen = self._model.tools(
            None if tools is None else checked("tools", "Sequence[Mapping[str, Any]]", tools), tool_choice
        )
        thinking = switch("enable_thinking", enable_thinking)
        prompt = self._model.chat_prompt(messages, enable_thinking=thinking, tools=chosen, **variables)
        reasoning_open = self._model.reasoning_split(prompt.tokens).open
        if grammar := grammar_of(mapping("response_format", response_format) or None, reasoning_open=reasoning_open):
            options["grammar"] = grammar
        usual = {"temperature": DEFAULT_CHAT_TEMPERATURE, "logprobs": n_top if with_logprobs else None}
        wanted = Wanted(
            ResultWriter(self._model.model_path),
            tools=chosen,
            reasoning_format=reasoning_format,
            prompt_logprobs=n_top_of(prompt_logprobs),
        )
        return self.chat(prompt, self._model.request_options(options, **usual), wanted)

    def asked_decision(
        self,
        prompt: str | bytes | Sequence[int] | Sequence[Message],
        choices: Sequence[str],
        *,
        masks: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Question:
        """Return what `TriMode.decide` runs; its arguments and errors."""
        variables = mapping("chat_template_kwargs", chat_template_kwargs)
        if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
            messages = cast("Sequence[Message]", prompt)
            text, pictures = self._model.rendered(
                messages, local=True, tools=None, **{"enable_thinking": False, **variables}
            )
            return self.decision(text, checked_choices(choices), masks=masks, pictures=pictures, rendered=True)
        if variables:
            raise ValueError("chat_template_kwargs: a prompt without messages has no template")
        given, choices = checked("prompt", "str | Sequence[int]", prompt), checked_choices(choices)
        return self.decision(given, choices, masks=masks)

    def decision(
        self,
        prompt: str | Sequence[int],
        choices: Sequence[str],
        *,
        masks: int | None = None,
        pictures: Sequence[Picture] = (),
        rendered: bool = False,
        model_name: str = "",
    ) -> Question:
        """Return choices to be scored behind a prompt, token ids or a text, as `rendered` or plain.

        Raises ValueError for choices and masks that are too long or too many.
        """
        model = self._model
        if not isinstance(prompt, str):
            tokens = list(prompt)
            rest = [model.tokenize(choice, add_bos=False, special=True) for choice in choices]
        elif rendered:
            guarded = [model.guarded(choice) for choice in choices]
            tokens, rest = continuations_of(model.rendered_tokens, prompt, guarded)
        else:
            tokens, rest = continuations_of(model.prompt_tokens, prompt, choices)
        whole = model.vision_prompt(tokens, pictures) if pictures else Prompt(tokens, None)
        for index, one in enumerate(rest):
            if len(one) > MAX_CHOICE_TOKENS:
                raise ValueError(f"choices[{index}] has {len(one)} tokens: at most {MAX_CHOICE_TOKENS} are scored")
        longest = max(map(len, rest))
        n_masks = self._n_masks(masks, longest)
        if (n := len(whole.tokens) + max(longest, n_masks)) > model.n_ctx:
            raise ValueError(f"prompt: with the longest choice it has {n} tokens, the context has {model.n_ctx}")
        name = model_name or model.model_path
        return Question(name, whole, choices, rest, model.mask_token_id, n_masks)

    def asked_filling(
        self,
        template: Template,
        messages: Sequence[Message] | None = None,
        *,
        temperature: float = 0.0,
        seed: int | None = None,
        threshold: float | None = None,
    ) -> Filling:
        """Return what `TriMode.fill` runs; its arguments and errors."""
        model = self._model
        parts = checked_template(template)
        prompt = model.tokenize("") if messages is None else model.chat_tokens(messages)
        usual = {"mode": DIFFUSION, "temperature": temperature, "seed": seed, "threshold": threshold}
        constraints = {gap: gap.constraint() for gap in parts if isinstance(gap, Gap)}

        def infill(before: list[int], behind: list[int], gap: Gap) -> tuple[ResolvedOptions, StepMaker]:
            own = {"suffix": behind, "max_tokens": gap.max_tokens, "grammar": constraints[gap]}
            resolved = model.resolve(model.request_options(usual | own), len(before))
            return resolved, self.step_maker(resolved)

        tokenize = partial(model.tokenize, add_bos=False)
        return Filling(prompt, parts, tokenize, infill, model.mask_token_id)

    def _n_masks(self, masks: int | None, longest: int) -> int:
        most = min(MAX_CHOICE_TOKENS, self._model.n_batch)
        if masks is None:
            return min(longest, most) if self._model.mask_token_id >= 0 else 0
        n = int(checked("masks", "int", masks))
        if not 0 <= n <= most:
            raise ValueError(f"masks {n}: must be between 0 and {most}")
        if n and self._model.mask_token_id < 0:
            raise ValueError("masks: the model names no mask token, so there is no block pass; give 0")
        return n


def n_top_of(prompt_logprobs: int | None) -> int | None:
    """Return the argument. Raises TypeError and ValueError that name it."""
    if prompt_logprobs is None:
        return None
    n = int(checked("prompt_logprobs", "int", prompt_logprobs))
    if n < 0:
        raise ValueError(f"prompt_logprobs {n}: must be 0 or more")
    return n


def _prompt_top(prompt: Prompt, wanted: Wanted, echoed: int | None = None) -> int | None:
    asked = wanted.prompt_logprobs
    if asked is not None and prompt.pictures:
        raise ValueError("prompt_logprobs: a prompt with images has none, leave it out")
    return None if asked is None and echoed is None else max(asked or 0, echoed or 0)
