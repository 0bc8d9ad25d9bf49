"""The HTTP API: `create_app(cfg)` makes it; its pages are /docs and /openapi.json."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from console import control, lists, pipeline, problems, querying
from console.find import Cache, Executor, Jobs
from console.finding import router as finding
from console.guard import Guard
from console.models import ProblemDetails
from console.serving import Serving
from console.state import State
from schemas import config
from stream.store.clickhouse import ClickHouse

TITLE: Final = "Tocsin"
_ABOUT: Final = (
    "Anomalies in telemetry. `POST /find` asks models about a range of samples; the lists read what the "
    "streaming detectors have found. Errors are problem details (RFC 9457)."
)
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "model": ProblemDetails,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    for status in (400, 401, 403, 404, 413, 422, 429, 503)
}


def create_app(cfg: config.Config, execute: Executor) -> FastAPI:
    """The application; ``execute`` answers the questions of `/find` (see `console.find.Executor`)."""
    app = FastAPI(title=TITLE, description=_ABOUT, version="1", lifespan=_lifespan, responses=_ERRORS)
    app.state.tocsin = State(
        cfg=cfg,
        store=ClickHouse(cfg.clickhouse),
        serving=Serving(cfg),
        jobs=Jobs(execute, Cache(cfg.console.cache_bytes), cfg.console.find_deadline_ms / 1000),
    )
    problems.install(app)
    app.include_router(finding)
    app.include_router(querying.router)
    app.include_router(lists.router)
    app.include_router(control.router)
    app.include_router(pipeline.router)
    app.add_middleware(Guard, cfg=cfg.console)
    if cfg.console.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cfg.console.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: State = app.state.tocsin
    following = asyncio.create_task(state.serving.run())
    yield
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await state.jobs.close()
    await asyncio.shield(state.store.close())
