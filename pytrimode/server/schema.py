"""The request bodies: OpenAI's fields and llama-server's, in the types of JSON.

The options of a generation come from the option table (`pytrimode.options.option`), which is made into fields when
this module is imported; their ranges are checked where `GenerationOptions` are made.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, create_model, model_validator
from typing_extensions import TypedDict

from pytrimode.answers.decision import MAX_CHOICE_TOKENS, MAX_CHOICES
from pytrimode.options.generation_options import option_table
from pytrimode.options.option import Row
from pytrimode.server.fields import MAPPED, translated

B = TypeVar("B", bound="type[BaseModel]")

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
"""Signed or unsigned."""
Factor = Annotated[float, Field(ge=-100, le=100)]
"""Temperatures, penalties and biases: far more than is useful, far less than a float overflows at."""
NTop = Annotated[int, Field(ge=0, le=100)]
"""The most likely tokens in one place."""
StopString = Annotated[str, Field(min_length=1, max_length=512)]


class Body(BaseModel):
    """Strict types."""

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


class LoraScale(TypedDict):
    """An adapter, by the number that `/lora-adapters` has, and its scale."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    id: Int32
    scale: Factor


_JSON_TYPES: dict[str, Any] = {
    "bool": bool,
    "str": str,
    "str | Constraint": str,
    "bool | str": bool | str,
    "str | Sequence[str]": StopString | Annotated[list[StopString], Field(max_length=16)],
    "Sequence[Mapping[str, float]]": Annotated[list[LoraScale], Field(max_length=32)],
    "Sequence[int]": Annotated[list[Int32], Field(max_length=256)],
    "Sequence[str]": Annotated[list[StopString], Field(max_length=32)],
    "Mapping[int | str, float]": dict[str, Factor],
}
"""By the type of an option; numbers are below."""


def _json_type(row: Row) -> Any:
    if row.kind == "int":
        return Int64 if row.about.bits == 64 else Int32
    if row.kind == "float":
        return Factor if row.about.high is None else float
    if row.about.values:  # those that are text, and what a switch is in JSON
        names = tuple(value for value in row.about.values.values() if isinstance(value, str))
        return bool | Literal[names]
    return _JSON_TYPES[row.kind]


def _field(row: Row) -> tuple[Any, Any]:
    names = (row.http, *row.about.aliases)
    how: dict[str, Any] = {"validation_alias": AliasChoices(*names)} if names != (row.name,) else {}
    if row.about.choices and not row.about.values:
        how["examples"] = list(row.about.choices)
    return _json_type(row) | None, Field(None, description=f"{row.help}.", **how)


def _with_options(body: B) -> B:
    """Return the body with a field for each option of the table, None where the client leaves it to the server."""
    fields: dict[str, Any] = {row.name: _field(row) for row in option_table().values() if not row.about.varies}
    about = {"__base__": body, "__module__": body.__module__, "__doc__": body.__doc__}
    return create_model(body.__name__, **about, **fields)  # type: ignore[no-any-return,call-overload]


@cache
def _names(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields that a client may send, by their names in JSON."""
    found = set[str]()
    for name, field in body.model_fields.items():
        alias = field.validation_alias
        found |= {str(choice) for choice in alias.choices} if isinstance(alias, AliasChoices) else {field.alias or name}
    return frozenset(found - {"constraint"})


@_with_options
class GenerationFields(Body):
    """What `/v1/completions` and `/v1/chat/completions` have in common; null: the server's default."""

    model: str | None = None
    """Ignored: the server has one."""
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    prompt_logprobs: NTop | None = None
    """vLLM's: the likeliest tokens at each position of the prompt, beside its own."""
    live: bool | None = None
    """With `stream`: what each forward pass did, as `live` in the chunks (`pytrimode.answers.live_pass`)."""
    constraint: dict[str, Any] | None = None
    """What a field of another API asks an answer to be: `json`, `regex`, `choice` or `grammar`; see `fields`."""

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, body: Any) -> Any:
        return translated(body, _names(cls)) if isinstance(body, dict) else body

    def given_options(self) -> dict[str, Any]:
        """Return the options that the client named, by their names in Python."""
        given: dict[str, Any] = {}
        for name, row in option_table().items():
            value = None if row.about.varies else getattr(self, name)
            if value is not None:
                given[name] = None if value == row.about.json_none else value
        return given


class CompletionRequest(GenerationFields):
    """`POST /v1/completions`."""

    prompt: str | list[int] | list[str | list[int]]
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

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\w.:-]+$")]
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

    logprobs: bool | None = None
    top_logprobs: NTop | None = None
    reasoning_format: str | None = None


class DecideRequest(Body):
    """`POST /v1/decide`: `messages` or a `prompt`, and what may follow."""

    model: str | None = None
    """Ignored: the server has one."""
    prompt: str | list[Int32] | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    choices: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=8192)]], Field(min_length=1, max_length=MAX_CHOICES)
    ]
    masks: Annotated[int, Field(ge=0, le=MAX_CHOICE_TOKENS)] | None = None
    """Of the block pass; null: as many as the longest choice has tokens; 0: no such pass."""
    chat_template_kwargs: dict[str, Any] | None = None


FIELDS = _names(ChatCompletionRequest) | _names(CompletionRequest) | _names(DecideRequest) | MAPPED.keys()
"""Names of fields, for errors about them."""


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
