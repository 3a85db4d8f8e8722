"""The request bodies: OpenAI's fields and llama-server's, in the types of JSON. Ranges that need the model are checked
where the options are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
Factor = Annotated[float, Field(ge=-100, le=100)]
"""Temperatures, penalties and biases: far more than is useful, far less than a float overflows at."""
NTop = Annotated[int, Field(ge=0, le=100)]
"""The most likely tokens in one place."""
StopString = Annotated[str, Field(min_length=1, max_length=512)]


class Body(BaseModel):
    """Strict types; fields that nobody knows are ignored, as llama-server does."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """`include_usage`: a last chunk with `usage` and no choices."""

    include_usage: bool | None = None


class JsonSchemaFormat(Body):
    """OpenAI's wrapping of a schema; `name` and `strict` change nothing, the grammar always holds."""

    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(Body):
    """See `pytrimode.formats.response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    json_schema: JsonSchemaFormat | None = None


class SamplingFields(Body):
    """See `pytrimode.options.sampling`; None: the server's default."""

    temperature: Factor | None = None
    top_k: Int32 | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: Factor | None = None
    repeat_last_n: Int32 | None = None
    frequency_penalty: Factor | None = None
    presence_penalty: Factor | None = None
    dry_multiplier: Factor | None = None
    dry_base: Factor | None = None
    dry_allowed_length: Int32 | None = None
    dry_penalty_last_n: Int32 | None = None
    dry_sequence_breakers: list[StopString] | None = Field(None, max_length=32)
    logit_bias: dict[str, Factor] | None = None
    sampler: str | None = None
    seed: Seed | None = None
    """-1: a new one, as in llama-server."""


class GenerationFields(SamplingFields):
    """What `/v1/completions` and `/v1/chat/completions` have in common; None: the server's default."""

    model: str | None = None
    """Ignored: the server has one."""
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    max_tokens: Int32 | None = None
    """-1: to the end of the context."""
    mode: str | None = None
    block_length: Int32 | None = None
    fused: bool | Literal["auto"] | None = None
    threshold: float | None = None
    steps: Int32 | None = None
    reveal: str | None = None
    ignore_eos: bool | None = None
    grammar: str | None = None
    response_format: ResponseFormat | None = None
    post_sampling_probs: bool | None = None
    max_thinking_tokens: Int32 | None = None
    use_lora: bool | None = None
    loop_window: Int32 | None = None
    loop_min_repeats: Int32 | None = None
    trim_loop: bool | None = None
    """Without `stream`: of a loop leave one copy."""
    live: bool | None = None
    """With `stream`: what each forward pass did, as `live` in the chunks (`pytrimode.conversation.live_pass`)."""
    best_of: Int32 | None = None
    mirostat: Int32 | None = None
    xtc_probability: float | None = None


class CompletionRequest(GenerationFields):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: NTop | None = None


class Message(Body):
    """A turn; what else it has (`tool_calls`, `name`, ...) goes to the chat template as it is."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[str, Field(min_length=1)]
    content: str | list[dict[str, Any]] | None = None


class ToolFunction(Body):
    """`parameters`: a JSON schema; what else there is goes to the chat template as it is."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.:-]+$")]
    parameters: dict[str, Any] | None = None


class Tool(Body):
    """A function that the model may call."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: ToolFunction


class TemplateFields(Body):
    """What the chat template is given."""

    messages: Annotated[list[Message], Field(min_length=1)]
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    """The answer goes on where the last message, the assistant's, ends; Mistral's `prefix` of that message too."""
    reasoning_effort: str | None = None


class ChatCompletionRequest(GenerationFields, TemplateFields):
    """`POST /v1/chat/completions`."""

    max_completion_tokens: Int32 | None = None
    logprobs: bool | None = None
    top_logprobs: NTop | None = None
    reasoning_format: str | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    modalities: list[str] | None = None


class ApplyTemplateRequest(TemplateFields):
    """`POST /apply-template`."""


class TokenizeRequest(Body):
    """`POST /tokenize`."""

    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeRequest(Body):
    """`POST /detokenize`."""

    tokens: list[int]
