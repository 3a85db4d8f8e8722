"""From a request in our words to the response, for the routes of all APIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from pytrimode.answers.answer import AnyAnswer, CompletionAnswer
from pytrimode.server import answers
from pytrimode.server.form import Form
from pytrimode.server.host import Host, Ready
from pytrimode.server.prompts import Prepared
from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest, GenerationFields

MakeForm = Callable[[Ready, Prepared], Form]
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
"""For the API's schema."""
_LIGHT_BYTES = 1024


async def send(
    request: Request,
    body: ChatCompletionRequest | CompletionRequest,
    form: MakeForm,
    *,
    answer: type[AnyAnswer] = CompletionAnswer,
    whole_calls: bool = False,
) -> Response:
    """Run a request and send its answers in a form. `answer`: what writes completions for it; `whole_calls`: in a
    stream, too, a call of a tool comes only when it is complete."""
    host: Host = request.app.state.host
    ready = host.ready

    def prepare() -> Prepared:
        if isinstance(body, ChatCompletionRequest):
            return ready.prompts.chat(body)
        return ready.prompts.completion(body, answer)

    prepared = await host.text_work(prepare, **weight(request, body))
    if whole_calls:
        for one in prepared.answers:
            one.hold_calls()
    return await answers.answer(request, host, prepared, form(ready, prepared), stream=bool(body.stream))


def weight(request: Request, body: GenerationFields) -> dict[str, bool]:
    """Whether there is a `grammar` to compile; `light`: neither that nor a template to render, which is a stranger's,
    nor more than a short text: less than half a millisecond."""
    size = int(request.headers.get("content-length", _LIGHT_BYTES + 1))
    grammar = bool(
        body.response_format or any(getattr(body, name, None) for name in ("grammar", "tools", "constraint"))
    )
    template = isinstance(body, ChatCompletionRequest)
    return {"light": size <= _LIGHT_BYTES and not grammar and not template, "grammar": grammar}
