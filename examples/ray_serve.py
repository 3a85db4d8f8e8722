"""Serve replicas of a model behind Ray Serve: more of them while requests wait, a conversation where its cache is.

pip install "ray[serve]>=2.44"
python examples/ray_serve.py [MODEL.gguf]            # http://127.0.0.1:8000/v1/chat/completions
MODEL=nld-8b.gguf serve run examples.ray_serve:app   # in a cluster; MODEL must be there on every node
"""

# No `from __future__ import annotations`: FastAPI reads them in another process, which has no names of this file.
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import ray
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

SLOTS = int(os.environ.get("SLOTS", "4"))
"""Answers that a replica makes side by side, in the same passes over the weights."""
CONTEXT = 2048 * SLOTS
PREFIX = 2
"""Messages that two requests of one conversation have in common: the system message and the first question."""


class PrefixRouter(RequestRouter):
    """Sends requests that begin alike to the same replica, whose cache has the beginning, and to the next one when that
    is full (rendezvous hashing: a replica that comes or goes moves only its own conversations)."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas, the one to ask first in front."""
        prefix = pending_request.args[0]["messages"][:PREFIX] if pending_request else []

        def rank(replica: RunningReplica) -> bytes:
            return hashlib.sha256(f"{replica.replica_id.unique_id} {json.dumps(prefix)}".encode()).digest()

        return [[replica] for replica in sorted(candidate_replicas, key=rank)]


@serve.deployment(
    max_ongoing_requests=2 * SLOTS,
    autoscaling_config=AutoscalingConfig(
        min_replicas=int(os.environ.get("MIN_REPLICAS", "1")),
        max_replicas=int(os.environ.get("MAX_REPLICAS", "4")),
        target_ongoing_requests=SLOTS,  # where more are asked than are answered side by side: another replica
        upscale_delay_s=float(os.environ.get("UPSCALE_DELAY", "10")),
    ),
    request_router_config=RequestRouterConfig(request_router_class=PrefixRouter),
    ray_actor_options={"num_cpus": 1},  # {"num_gpus": 1} with a GPU for each
)
class Model:
    """A replica."""

    def __init__(self, path: str | None) -> None:
        from pytrimode import AsyncTriMode, TriMode
        from pytrimode.files.shipped_model import shipped_gguf

        threads = int(os.environ.get("THREADS", "1"))  # as many as num_cpus
        self._model = AsyncTriMode(
            TriMode(path or shipped_gguf(), n_ctx=CONTEXT, n_parallel=SLOTS, n_threads=threads, n_gpu_layers="auto")
        )
        self._name = serve.get_replica_context().replica_id.unique_id

    async def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a conversation."""
        answer = await self._model.create_chat_completion(**body)
        return {**answer, "replica": self._name}

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Yield the events of an answer."""
        async for chunk in await self._model.create_chat_completion(**body, stream=True):
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"


api = FastAPI()


@serve.deployment(ray_actor_options={"num_cpus": 0})  # it only waits
@serve.ingress(api)
class Front:
    """Takes HTTP requests; the arguments of `create_chat_completion` are OpenAI's."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model

    @api.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        """Answer a conversation, in a stream if that is asked for."""
        body = await request.json()
        body.pop("model", None)
        if not isinstance(body.get("messages"), list):
            raise HTTPException(400, "messages must be a list")
        if body.pop("stream", False):
            events = self._model.options(stream=True).stream.remote(body)
            return StreamingResponse(events, media_type="text/event-stream")
        try:
            return JSONResponse(await self._model.answer.remote(body))
        except RayTaskError as error:
            if isinstance(error.cause, (TypeError, ValueError)):  # what the client got wrong
                raise HTTPException(400, str(error.cause)) from None
            raise


app = Front.bind(Model.bind(os.environ.get("MODEL")))

if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else None
    ray.init("local")  # on this machine alone
    serve.run(Front.bind(Model.bind(chosen)), blocking=True)
