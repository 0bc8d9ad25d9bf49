"""`POST /query`: the rows of a query as the models would see them, to look at before asking any."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import msgspec
from fastapi import APIRouter, Response

from console import sources
from console.models import DataSource, Queried
from console.problems import ProblemError
from console.state import Shared
from stream.refresh.frames import Frame, from_arrow

router = APIRouter(tags=["find"])


@router.post("/query", response_model=Queried)
async def query(source: DataSource, state: Shared) -> Response:
    """The time column and the columns of numbers that a SELECT gives, in order of time, each time once."""
    if source.query is None:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "query is missing: say what to read.")
    table = await sources.query(state.cfg, source.host, source.port, source.query)
    body = await asyncio.to_thread(lambda: _body(from_arrow(table)))
    return Response(body, media_type="application/json")


def _body(frame: Frame) -> bytes:
    columns = {name: values.tolist() for name, values in frame.columns.items()}
    return msgspec.json.encode({"ts_ms": frame.ts_ms.tolist(), "columns": columns})  # NaN becomes null
