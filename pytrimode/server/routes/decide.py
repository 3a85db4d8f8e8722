"""Decisions: how likely given answers are."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from pydantic import BaseModel

from pytrimode import QueueFullError
from pytrimode.server.errors import ApiError, from_exception
from pytrimode.server.host import Host
from pytrimode.server.middleware import cache_scope_of
from pytrimode.server.schema import DecideRequest
from pytrimode.server.time_limit import within

router = APIRouter()


class Estimate(BaseModel):
    """See `pytrimode.answers.decision`, as all of these."""

    logprob: float
    probability: float


class ScoredChoice(Estimate):
    """A choice."""

    index: int
    text: str
    tokens: list[int]
    token_logprobs: list[float]
    block: Estimate | None = None


class DecisionUsage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    choice_tokens: int
    masks: int


class Decision(BaseModel):
    """The answer."""

    id: str
    object: str
    created: int
    model: str
    best: str
    choices: list[ScoredChoice]
    usage: DecisionUsage


@router.post("/v1/decide", response_model_exclude_unset=True)
@router.post("/decide", include_in_schema=False, response_model_exclude_unset=True)
async def decide(request: Request, body: DecideRequest) -> Decision:
    """Tell how likely each of some answers is, from one reading of the prompt."""
    host: Host = request.app.state.host
    ready = host.ready
    host.desk.check_open()
    # As long as the prompt for each choice: where nobody else waits.
    question = await host.text_work(lambda: ready.prompts.decision(body), grammar=True)
    work = partial(ready.model.run_decision, question, cache_scope_of(request.scope))
    try:
        return Decision.model_validate(await within(host.settings.timeout, asyncio.to_thread(work)))
    except TimeoutError:
        raise ApiError(504, f"the answer was not finished within {host.settings.timeout:g} s") from None
    except QueueFullError:
        raise host.desk.busy() from None
    except Exception as error:
        raise from_exception(error) from error
