"""llama-server's own completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pytrimode.server.apis.llama.answer import NativeAnswer
from pytrimode.server.apis.llama.form import NativeForm
from pytrimode.server.apis.llama.schema import InfillRequest, NativeCompletionRequest
from pytrimode.server.host import Host, Ready
from pytrimode.server.prompts import Prepared
from pytrimode.server.routes.sending import STREAMED, MakeForm, send

router = APIRouter()


@router.post("/completion", responses=STREAMED)
async def completion(request: Request, body: NativeCompletionRequest) -> Response:
    """Continue a prompt, or several."""
    return await send(request, body.request(), _form(body), answer=NativeAnswer)


@router.post("/infill", responses=STREAMED)
async def infill(request: Request, body: InfillRequest) -> Response:
    """Write what stands between two texts: both are seen."""
    host: Host = request.app.state.host
    prompts = host.ready.prompts
    extras = [extra.shown() for extra in body.input_extra or []]
    around = await host.text_work(lambda: prompts.around(body.around, body.n_predict, extras))
    return await send(request, body.request(around), _form(body), answer=NativeAnswer)


def _form(body: NativeCompletionRequest | InfillRequest) -> MakeForm:
    def form(ready: Ready, prepared: Prepared) -> NativeForm:
        return NativeForm(
            ready.name,
            ready.model,
            prepared,
            return_tokens=bool(body.return_tokens),
            response_fields=body.response_fields or (),
        )

    return form
