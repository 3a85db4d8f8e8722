"""The ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from pytrimode.server import errors
from pytrimode.server.host import Host
from pytrimode.server.middleware import REQUEST_ID, BodyCheck, HeadAsGet, HostCheck, KeyCheck, RequestLog
from pytrimode.server.routes import anthropic, decide, llama, lora, ollama, openai, page, responses, slots, status, text
from pytrimode.server.settings import ServerSettings, is_loopback
from pytrimode.trimode import TriMode


def create_app(settings: ServerSettings, load: Callable[[], TriMode]) -> FastAPI:
    """Yield the application; its start begins to `load` the model, its end closes it. `app.state.host` is the Host."""
    host = Host(settings, load)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        host.start()
        yield
        host.cancel_all()
        await run_in_threadpool(host.close)

    # The pages of FastAPI's documentation load scripts from the network: only the schema is served.
    app = FastAPI(
        title="pytrimode",
        version=version("pytrimode"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=_middleware(settings),
        responses={"4XX": {"model": errors.ErrorBody}, "5XX": {"model": errors.ErrorBody}},
    )
    app.state.host = host
    errors.install(app)
    for routes in (openai, anthropic, responses, decide, llama, ollama, text, slots, status, lora, page):
        app.include_router(routes.router)
    return app


def _middleware(settings: ServerSettings) -> list[Middleware]:
    """Return the layers around the routes, the outermost first."""
    stack = [Middleware(HeadAsGet), Middleware(RequestLog)]
    if settings.cors_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=[REQUEST_ID, "Retry-After"],
            )
        )
    if settings.api_keys:
        stack.append(Middleware(KeyCheck, settings.api_keys, settings.cache_scope))
    elif is_loopback(settings.host):
        stack.append(Middleware(HostCheck, settings.allowed_hosts))
    stack.append(Middleware(BodyCheck, settings.max_body_bytes))
    return stack
