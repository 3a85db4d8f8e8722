"""The bodies of `/completion` and `/infill`; what else there is are the fields of `/v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from pytrimode.server.apis.chat import asked
from pytrimode.server.apis.parts import Part, refused
from pytrimode.server.fields import unsupported
from pytrimode.server.infill import Around
from pytrimode.server.schema import Body, CompletionRequest

INFILL_MAX_TOKENS = 128
"""Of a request that names no number."""
_HINTS = ("t_max_prompt_ms", "t_max_predict_ms", "n_indent")
"""Of editors: limits in time, which `n_predict` sets, and an indent, which the text on both sides tells."""
_UNTOLD = ("echo", "prompt_logprobs", "return_token_ids", "stream_options")
"""Fields of `/v1/completions` about what a response tells, which this one has no place for."""


class _NativeRequest(Body):
    model_config = ConfigDict(extra="allow")

    response_fields: Annotated[list[str], Field(max_length=100)] | None = None
    """Paths of the fields that are wanted, as `timings/prompt_n`; none: all."""
    return_tokens: bool | None = None

    def completion(self, prompt: Any, n_predict: int, **fields: Any) -> CompletionRequest:
        """Return a request in our words. `n_predict`: where the client names none. Raises as `asked`."""
        given = {name: value for name, value in (self.model_extra or {}).items() if value is not None}
        for name in _UNTOLD:
            if given.get(name) not in (None, False):
                raise unsupported(name, name)
        if not given.keys() & {"n_predict", "max_tokens", "max_completion_tokens"}:
            given["n_predict"] = n_predict
        return asked(CompletionRequest, {**given, "prompt": prompt, **fields})


class NativeCompletionRequest(_NativeRequest):
    """`POST /completion`."""

    prompt: str | list[Any] | dict[str, Any]
    """Text, token ids, {"prompt_string": text}, or a list of these."""

    def request(self) -> CompletionRequest:
        """Return it in our words; to the end of the context unless it says otherwise."""
        if isinstance(self.prompt, list):
            return self.completion([_plain(one) for one in self.prompt], -1)
        return self.completion(_plain(self.prompt), -1)


class Extra(Body):
    """A piece of another file, in front of the prefix."""

    model_config = ConfigDict(extra="ignore")

    text: str
    filename: str | None = None

    def shown(self) -> str:
        """Return it as it stands in the prompt."""
        return f"{self.filename or 'tmp'}\n{self.text}\n"


class InfillRequest(_NativeRequest):
    """`POST /infill`: the middle between a prefix (with `prompt`, what stands before the cursor) and a suffix."""

    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[Extra], Field(max_length=1000)] | None = None
    prompt: str | None = None

    @property
    def n_predict(self) -> int:
        """Tokens of the middle."""
        found = (self.model_extra or {}).get("n_predict")
        return found if isinstance(found, int) and found >= 0 else INFILL_MAX_TOKENS

    @property
    def around(self) -> Around:
        """The text on both sides."""
        return Around(self.input_prefix + (self.prompt or ""), self.input_suffix)

    def request(self, around: Around) -> CompletionRequest:
        """Return it in our words, with as much of the text as fits."""
        extra = self.model_extra or {}
        if extra.get("suffix") is not None:
            raise refused("suffix", "does not go with input_suffix")
        for name in _HINTS:
            extra.pop(name, None)
        if extra.get("n_predict") == -1:  # a gap has a length
            extra["n_predict"] = INFILL_MAX_TOKENS
        samplers = extra.get("samplers")
        fields: dict[str, Any] = {"suffix": around.after}
        if isinstance(samplers, list):
            fields["samplers"] = [name for name in samplers if name != "infill"]
        return self.completion(around.before, INFILL_MAX_TOKENS, **fields)


def _plain(prompt: Any) -> Any:
    if not isinstance(prompt, dict):
        return prompt
    part = Part(prompt, "prompt")
    text = part.of("prompt_string", str)
    part.end(*(["multimodal_data"] if prompt.get("multimodal_data") == [] else []))
    return text
