"""From request bodies to jobs. All of it runs on a thread of `threads.deep_pool`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pytrimode.answers.answer import AnyAnswer, CompletionAnswer
from pytrimode.answers.decision import Question, checked_choices
from pytrimode.answers.job import AnyJob
from pytrimode.answers.results import ResultWriter
from pytrimode.formats.reasoning import check_reasoning_format
from pytrimode.formats.special_text import MARK
from pytrimode.formats.tool_choice import Tools
from pytrimode.jobs import Wanted
from pytrimode.options.defaults import DEFAULT_MAX_TOKENS
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.modes import DIFFUSION
from pytrimode.server.errors import ApiError
from pytrimode.server.infill import Around, fitted
from pytrimode.server.options import generation_options, of_choice
from pytrimode.server.schema import (
    ChatCompletionRequest,
    CompletionRequest,
    DecideRequest,
    DetokenizeRequest,
    GenerationFields,
    TemplateFields,
    TokenizeRequest,
)
from pytrimode.server.settings import ServerSettings
from pytrimode.server.threads import CHARS_HELD
from pytrimode.trimode import TriMode
from pytrimode.vision.picture import Picture
from pytrimode.vision.prompt import Pictures, Prompt, too_long

_SET_BY_SERVER = {
    "messages", "tools", "tool_choice", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token",
    "self",
}  # fmt: skip
"""Template variables that `chat_template_kwargs` must not name."""


Object = dict[str, Any]
"""A JSON object on its way out."""


@dataclass(frozen=True)
class Asked:
    """An answer that a request asks for, not begun yet."""

    job: AnyJob
    options: GenerationOptions


@dataclass(frozen=True)
class Prepared:
    """The answers that a request asks for."""

    asked: list[Asked]
    """Those of one prompt together."""
    choices_per_prompt: int

    @property
    def answers(self) -> list[AnyAnswer]:
        """What writes each of them."""
        return [asked.job.answer for asked in self.asked]


class Prompts:
    """Everything between JSON and jobs. Raises ApiError or ValueError for what the client got wrong."""

    def __init__(self, model: TriMode, settings: ServerSettings, name: str) -> None:
        """`name`: the model's, in answers."""
        self._model = model
        self._settings = settings
        self._name = name
        self._max_tokens = min(settings.max_prompt_tokens or model.n_ctx, model.n_ctx)
        self._longest_token = max(len(model.detokenize([token], special=True)) for token in range(model.n_vocab))

    def chat(self, body: ChatCompletionRequest) -> Prepared:
        """Prepare a chat's answers; they go to the end of the context unless told otherwise."""
        reasoning_format = body.reasoning_format or self._settings.reasoning_format
        check_reasoning_format(reasoning_format)
        tools = self._tools(body)
        prompt = self._chat_prompt(body, tools)
        reasoning_open = self._model.reasoning_split(prompt.tokens).open
        options = generation_options(body, self._settings.defaults, max_tokens=None, reasoning_open=reasoning_open)
        wanted = Wanted(self._writer(), tools=tools, reasoning_format=reasoning_format, **_reported(body))
        return self._prepare(body, options, self._model.jobs.chat, [(prompt, wanted)])

    def completion(self, body: CompletionRequest, answer: type[AnyAnswer] = CompletionAnswer) -> Prepared:
        """One prompt or several, each as text or as token ids. `answer`: what writes the answers."""
        prompts = _prompts_of(body)
        self._check_count(len(prompts) * (body.n or 1))
        options = generation_options(body, self._settings.defaults, max_tokens=DEFAULT_MAX_TOKENS)
        if body.suffix:
            self._check_size(len(body.suffix.encode()), "suffix")
            suffix = self._model.tokenize(body.suffix, add_bos=False, special=True)
            mode = options.mode if "mode" in body.given_options() else DIFFUSION
            options = replace(options, suffix=suffix, mode=mode)
        writer = self._writer()
        asked = []
        for prompt in prompts:
            tokens = self._prompt_tokens(prompt)
            echo = (prompt if isinstance(prompt, str) else self._text(tokens)) if body.echo else ""
            wanted = Wanted(writer, echo, completion=answer, **_reported(body))
            asked.append((self._model.vision_prompt(tokens), wanted))
        return self._prepare(body, options, self._model.jobs.completion, asked)

    def decision(self, body: DecideRequest) -> Question:
        """Prepare a decision."""
        if (body.prompt is None) == (body.messages is None):
            raise ApiError(400, "give messages or prompt, one of them", param="messages")
        choices = checked_choices(body.choices)
        decide = partial(self._model.jobs.decision, masks=body.masks, model_name=self._name)
        if body.messages is not None:
            kwargs = {"enable_thinking": False} | (body.chat_template_kwargs or {})
            fields = TemplateFields(messages=body.messages, chat_template_kwargs=kwargs)
            text, pictures = self._rendered(fields, Tools())
            self._check_text(text)
            return decide(text, choices, pictures=pictures, rendered=True)
        if body.chat_template_kwargs:
            raise ApiError(
                400, "chat_template_kwargs: a prompt without messages has no template", param="chat_template_kwargs"
            )
        if isinstance(body.prompt, str):
            self._check_text(body.prompt)
        return decide(body.prompt if isinstance(body.prompt, str) else self._prompt_tokens(body.prompt or []), choices)

    def around(self, around: Around, n_middle: int, extras: Sequence[str] = ()) -> Around:
        """Return the texts around a gap as far as there is room for them; see `infill.fitted`."""
        return fitted(
            self._model, around, n_middle, n_most=self._max_tokens, longest=self._longest_token, extras=extras
        )

    def count_tokens(self, body: TemplateFields) -> int:
        """Return the length of a conversation's prompt."""
        return len(self._chat_prompt(body, self._tools(body)).tokens)

    def _chat_prompt(self, body: TemplateFields, tools: Tools) -> Prompt:
        text, pictures = self._rendered(body, tools)
        return self._model.vision_prompt(self._tokens_of(text, self._model.rendered_tokens), pictures)

    def apply_template(self, body: TemplateFields) -> str:
        """Return the prompt of a conversation, an image in it as the token that begins it."""
        return self._rendered(body, self._tools(body))[0].replace(MARK, "")

    def _tools(self, body: TemplateFields) -> Tools:
        offered = [tool.model_dump(exclude_unset=True) for tool in body.tools or []]
        if body.tool_choice not in (None, "auto", "none") and (n := len(json.dumps(offered))) > CHARS_HELD:
            raise ApiError(400, f"tools has {n} characters: at most {CHARS_HELD} where a call is required")
        return self._model.tools(offered, body.tool_choice, parallel=body.parallel_tool_calls is not False)

    def _rendered(self, body: TemplateFields, tools: Tools) -> tuple[str, list[Picture]]:
        messages = [message.model_dump(exclude_unset=True) for message in body.messages]
        goes_on = body.continue_final_message or messages[-1].get("prefix") is True
        if goes_on and body.add_generation_prompt:
            raise ApiError(
                400,
                "continue_final_message does not go with add_generation_prompt: true",
                param="add_generation_prompt",
            )
        return self._model.rendered(
            messages,
            local=False,
            tools=tools,
            add_generation_prompt=body.add_generation_prompt is not False,
            continue_final_message=goes_on,
            **self._template_variables(body),
        )

    def tokenize(self, body: TokenizeRequest) -> list[int] | list[dict[str, Any]]:
        """Token ids of a text, or with `with_pieces` objects of id and piece."""
        text = body.content
        self._check_size(len(text.encode()), "content")
        tokens = self._model.tokenize(text, body.add_special, body.parse_special)
        return self._pieces(tokens) if body.with_pieces else tokens

    def detokenize(self, body: DetokenizeRequest) -> str:
        """Return the text of token ids, special tokens spelled out."""
        return self._text(body.tokens)

    def _pieces(self, tokens: Sequence[int]) -> list[dict[str, Any]]:
        """As llama-server has them: a piece that is no text by itself is a list of bytes."""
        result: list[dict[str, Any]] = []
        for token in tokens:
            data = self._model.detokenize([token], special=True)
            try:
                result.append({"id": token, "piece": data.decode()})
            except UnicodeDecodeError:
                result.append({"id": token, "piece": list(data)})
        return result

    def _prepare(
        self,
        body: GenerationFields,
        options: GenerationOptions,
        make: Callable[[Prompt, GenerationOptions, Wanted], AnyJob],
        asked: Sequence[tuple[Prompt, Wanted]],
    ) -> Prepared:
        n = body.n or 1
        self._check_count(len(asked) * n)
        made: list[Asked] = []
        for prompt, wanted in asked:
            self._check_tokens(len(prompt.tokens), pictures=prompt.pictures)
            for choice in range(n):
                chosen = of_choice(options, choice)
                writer = replace(wanted.writer, index=len(made))
                made.append(Asked(make(prompt, chosen, replace(wanted, writer=writer)), chosen))
        return Prepared(made, n)

    def _writer(self) -> ResultWriter:
        return ResultWriter(self._name)

    def _template_variables(self, body: TemplateFields) -> dict[str, Any]:
        variables = dict(body.chat_template_kwargs or {})
        if taken := sorted(_SET_BY_SERVER & variables.keys()):
            raise ApiError(400, f"chat_template_kwargs: {taken[0]} cannot be set", param="chat_template_kwargs")
        thinking = self._settings.enable_thinking
        if body.reasoning_effort is not None:
            thinking = body.reasoning_effort != "none"
            variables.setdefault("reasoning_effort", body.reasoning_effort)
        variables.setdefault("enable_thinking", thinking)
        return variables

    def _prompt_tokens(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            return self._tokens_of(prompt)
        for token in prompt:
            if not 0 <= token < self._model.n_vocab:
                raise ApiError(
                    400, f"token id {token} is not in the vocabulary of {self._model.n_vocab}", param="prompt"
                )
        return prompt

    def _tokens_of(self, text: str, tokenize: Callable[[str], list[int]] | None = None) -> list[int]:
        self._check_text(text)
        return (tokenize or self._model.prompt_tokens)(text)

    def _check_text(self, text: str) -> None:
        """Refuse a text of so many bytes that it has too many tokens, before they are counted."""
        n_bytes = len(text.encode())
        self._check_tokens(n_bytes // self._longest_token, at_least=True)
        self._check_size(n_bytes, "the prompt")

    def _check_tokens(self, n: int, *, at_least: bool = False, pictures: Pictures | None = None) -> None:
        """Refuse a prompt that leaves no room for an answer."""
        if n < self._max_tokens or (n == self._max_tokens < self._model.n_ctx):
            return
        count = f"{'at least ' if at_least else ''}{n}"
        images = f" ({too_long(n, self._max_tokens, pictures)})" if pictures else ""
        raise ApiError(
            400,
            f"the prompt has {count} tokens: at most {self._max_tokens} are allowed, and the context of "
            f"{self._model.n_ctx} must hold the answer too{images}",
            type="exceed_context_size_error",
            n_prompt_tokens=n,
            n_ctx=self._model.n_ctx,
        )

    def _check_size(self, n_bytes: int, name: str) -> None:
        most = max(CHARS_HELD, self._model.n_ctx * self._longest_token)
        if n_bytes > most:
            raise ApiError(400, f"{name} has {n_bytes} bytes: at most {most}")

    def _check_count(self, n: int) -> None:
        if n > self._settings.max_choices:
            raise ApiError(400, f"n: {n} answers in one request: at most {self._settings.max_choices}", param="n")

    def _text(self, tokens: Sequence[int]) -> str:
        return self._model.detokenize(tokens, special=True).decode("utf-8", "replace")


def _reported(body: GenerationFields) -> dict[str, Any]:
    return {"live": bool(body.live and body.stream), "prompt_logprobs": body.prompt_logprobs}


def _prompts_of(body: CompletionRequest) -> list[str | list[int]]:
    """OpenAI's four ways to write prompts, as one."""
    if isinstance(body.prompt, str):
        return [body.prompt]
    one = [item for item in body.prompt if isinstance(item, int)]
    if one:
        return [one]
    if not body.prompt:
        raise ApiError(400, "prompt: there is none", param="prompt")
    return [item for item in body.prompt if not isinstance(item, int)]
