"""A loaded model without its cache: sizes, tokens, chat template; all that needs no forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytrimode import _native
from pytrimode.formats.constraint_check import check_grammar
from pytrimode.formats.deep_stack import call_deep
from pytrimode.formats.reasoning import THINK_BEGIN, THINK_END, ReasoningCount, ReasoningSplit
from pytrimode.formats.special_text import MARK, SpecialText
from pytrimode.formats.tool_calls import TAGS
from pytrimode.formats.tool_choice import Tools
from pytrimode.gguf import keys
from pytrimode.options.option import checked

if TYPE_CHECKING:
    from pytrimode.formats.chat_template import ChatTemplate, Message


class LoadedModel:
    """What a model file says of itself, and its text as tokens. Objects may be shared between threads."""

    def __init__(self, model: _native.Model, model_path: str) -> None:
        self._model = model
        self.model_path = model_path
        self._metadata = model.metadata
        self._template_name = "the chat template"
        self.parse_special = False
        """Whether special tokens spelled out in the text of a chat message become their ids, as in transformers."""
        self._think_begin, self._think_end = self.special_token(THINK_BEGIN), self.special_token(THINK_END)

    @property
    def description(self) -> str:
        """Architecture, size and type, as libllama says it."""
        return self._model.description

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return self._model.n_params

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return self._model.size_bytes

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary."""
        return self._model.n_vocab

    @property
    def n_embd(self) -> int:
        """Width of the model: numbers per row between its layers."""
        return self._model.n_embd

    @property
    def n_ctx_train(self) -> int:
        """The context that the model was made for."""
        return self._model.n_ctx_train

    @property
    def bos_token_id(self) -> int:
        """-1 when the file names none."""
        return self._model.bos_token_id

    @property
    def eos_token_id(self) -> int:
        """-1 when the file names none."""
        return self._model.eos_token_id

    @property
    def mask_token_id(self) -> int:
        """-1 when the file names none: then only mode ar works."""
        return self._model.mask_token_id

    @property
    def has_lora(self) -> bool:
        """Whether a drafter LoRA is loaded."""
        return self._model.lora_rank > 0

    @property
    def lora_rank(self) -> int:
        """0 without a drafter LoRA."""
        return self._model.lora_rank

    @property
    def metadata(self) -> dict[str, str]:
        """The GGUF metadata, values as text."""
        return dict(self._metadata)

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation."""
        return self._model.is_eog(token)

    # --- Text and tokens -------------------------------------------------------------------------------------------

    def tokenize(self, text: str | bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of a text. `special`: special tokens spelled out in the text become their ids.

        Raises ValueError for a text with what UTF-8 cannot hold, as Python reads bytes of another encoding.
        """
        try:
            data = text if isinstance(text, bytes) else checked("text", "str", text).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text is not UTF-8: it has {text[error.start]!r} at character {error.start}"
            ) from None
        return call_deep(len(data), lambda: self._model.tokenize(data, add_bos, special))

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> bytes:
        """Return the bytes of tokens; special tokens give nothing unless asked for.

        Raises ValueError for an id outside the vocabulary.
        """
        tokens = checked("tokens", "Sequence[int]", tokens)
        for token in tokens:
            if not 0 <= token < self.n_vocab:
                raise ValueError(f"token id {token} is not in the vocabulary of {self.n_vocab}")
        return b"".join(self._model.token_to_piece(token, special) for token in tokens)

    def use_chat_template(self, file: str | Path) -> None:
        """Take the chat template of a file in place of the model's own; before the first conversation.

        Raises OSError for a file that cannot be read, ValueError for one that is no text and no template.
        """
        try:
            self._metadata[keys.CHAT_TEMPLATE] = Path(file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: the chat template is not UTF-8: {error.reason}") from error
        self._template_name = str(file)
        _ = self.chat_template

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The file's chat template. Raises ValueError if it has none."""
        from pytrimode.formats.chat_template import ChatTemplate

        source = self._metadata.get(keys.CHAT_TEMPLATE)
        if not source:
            raise ValueError(f"{self.model_path} has no chat template: use plain completion (pytrimode generate)")
        return ChatTemplate(
            source,
            bos_token=self._special_text(self.bos_token_id),
            eos_token=self._special_text(self.eos_token_id),
            name=self._template_name,
        )

    def chat_tokens(
        self, messages: Sequence[Message], *, enable_thinking: bool = False, **template_variables: Any
    ) -> list[int]:
        """Return the prompt of a conversation, up to where the assistant begins to answer.

        Raises ValueError for messages that the template refuses.
        """
        messages = checked("messages", "Sequence[Mapping[str, Any]]", messages)
        return self.rendered_tokens(self.render_chat(messages, enable_thinking=enable_thinking, **template_variables))

    def tools(
        self,
        offered: Sequence[Mapping[str, Any]] | None,
        choice: str | Mapping[str, Any] | None = None,
        *,
        parallel: bool = True,
    ) -> Tools:
        """OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`, for this model's template.

        Raises ValueError for what cannot be kept.
        """
        if not offered and choice is None:
            return Tools()
        return Tools.of(offered, choice, self.chat_template, parallel=parallel)

    def render_chat(self, messages: Sequence[Message], *, tools: Tools | None = None, **template_variables: Any) -> str:
        """Return the prompt of a conversation for `rendered_tokens`: what looks like special tokens in the texts of
        users, tools and system messages is marked, and stays text, unless `parse_special` is set.

        Raises ValueError for messages that the template refuses.
        """
        tools = tools or Tools()
        messages = tools.messages(messages, self.chat_template)
        if not self.parse_special:
            messages = [self._special_texts.guarded(message) for message in messages]
        return self.chat_template.render(messages, **template_variables, **tools.variables)

    def guarded(self, text: str) -> str:
        """Return a text as `render_chat` takes it from users: part of what it gives."""
        return text if self.parse_special else self._special_texts.guarded_text(text)

    def rendered_tokens(self, text: str) -> list[int]:
        """Token ids of what `render_chat` gives."""
        if MARK not in text:
            return self.prompt_tokens(text)
        bos = self._special_text(self.bos_token_id)
        tokens = [] if bos and text.startswith(bos) else self.tokenize("", add_bos=True)
        for part in self._special_texts.split(text):
            tokens += [part] if isinstance(part, int) else self.tokenize(part, add_bos=False)
        return tokens

    @cached_property
    def _special_texts(self) -> SpecialText:
        pieces = ((self._model.token_to_piece(token, True), token) for token in range(self.n_vocab))
        found = {piece: token for piece, token in pieces if piece and not self._model.token_to_piece(token, False)}
        return SpecialText({piece.decode("utf-8", "replace"): token for piece, token in found.items()})

    @cached_property
    def _visible_specials(self) -> frozenset[int]:
        """Special tokens that a reader needs to tell reasoning and tool calls from the answer: part of the text."""
        template = self._metadata.get(keys.CHAT_TEMPLATE, "")
        tags = (self.special_token(tag) for tag in TAGS if tag in template)
        return frozenset((self._think_begin, self._think_end, *tags))

    def special_token(self, name: str) -> int:
        """Id of a special token, -1 if there is none of this name."""
        ids = self.tokenize(name, add_bos=False, special=True)
        return ids[0] if len(ids) == 1 and ids != self.tokenize(name, add_bos=False) else -1

    def prepare_grammars(self) -> None:
        """Do now what the first request with a grammar or a JSON schema would do: about a second for a vocabulary of
        131,072."""
        check_grammar('start: "a"', "grammar")
        self._model.prepare_grammars()

    def reasoning_split(self, prompt: Sequence[int]) -> ReasoningSplit:
        """Return what tells reasoning from the answer in the text that follows a prompt."""
        ends = (self._think_begin, self._think_end)
        tags = [t for t in prompt if t in ends]
        return ReasoningSplit(open=bool(tags) and tags[-1] == self._think_begin)

    def reasoning_count(self, split: ReasoningSplit) -> ReasoningCount:
        """Return what counts the tokens of reasoning behind the prompt of a split that has not begun."""
        return ReasoningCount(self._think_begin, self._think_end, open=split.open)

    def _special_text(self, token: int) -> str:
        return self._model.token_to_piece(token, True).decode("utf-8", "replace") if token >= 0 else ""

    def prompt_tokens(self, prompt: str | bytes | Sequence[int]) -> list[int]:
        """Return what `create_completion` makes of a prompt: special tokens spelled out in a text become their ids."""
        prompt = checked("prompt", "str | Sequence[int]", prompt)
        if not isinstance(prompt, str):
            return list(prompt)
        bos = self._special_text(self.bos_token_id)
        tokens = self.tokenize(prompt, add_bos=not (bos and prompt.startswith(bos)), special=True)
        return tokens or ([self.bos_token_id] if self.bos_token_id >= 0 else [])
