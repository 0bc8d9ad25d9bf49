"""`/find`: models on a range of samples, at once or as a job."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sse_starlette.sse import EventSourceResponse

from console import results, sources
from console.find import Job
from console.models import Answer, FindRequest, ModelProgress, Models
from console.models import Job as JobView
from console.problems import ProblemError
from console.state import Shared, State
from schemas.find import Fitted
from stream.refresh import finding
from stream.refresh.frames import Frame, from_arrow, from_csv

router = APIRouter(tags=["find"])
Format = Annotated[
    Literal["json", "columns", "csv"],
    Query(description="columns gives points as lists by column, csv each model's table as text."),
]
Accept = Annotated[str, Header(description="application/zip gives the tables of format=csv as one file.")]

Wait = Annotated[
    int | None,
    Query(ge=0, le=60_000, description="202 with a job after so long; else console.find_wait_ms."),
]

_BODY: dict[str, Any] = {
    "responses": {202: {"model": JobView, "description": "It takes longer: ask at the address in Location."}}
}


@router.post("/find", response_model=dict[str, Answer], **_BODY)
async def find(
    request: FindRequest,
    state: Shared,
    format: Format = "json",  # noqa: A002  # as clients name it
    accept: Accept = "*/*",
    wait_ms: Wait = None,
) -> Response:
    """What these models find, in the telemetry table or in the rows of a query."""
    return await _find(request, state, format, accept, wait_ms)


@router.get("/find", response_model=dict[str, Answer], **_BODY)
async def find_by_query(
    http: Request,
    state: Shared,
    models: Annotated[list[str] | None, Query()] = None,
    column_name: Annotated[str | None, Query(max_length=1024)] = None,
    host: Annotated[str | None, Query(max_length=253)] = None,
    port: Annotated[int | None, Query()] = None,
    query: Annotated[str | None, Query(max_length=100_000)] = None,
    start: Annotated[str | None, Query(max_length=64)] = None,
    end: Annotated[str | None, Query(max_length=64)] = None,
    parameters: Annotated[str, Query(max_length=100_000, description="JSON, as in the body of POST.")] = "{}",
    refit: bool = False,
    format: Format = "json",  # noqa: A002
    accept: Accept = "*/*",
    wait_ms: Wait = None,
) -> Response:
    """The same with query parameters, or with the JSON body of POST."""
    body = await http.body()
    if body:
        return await _find(_parsed(body), state, format, accept, wait_ms)
    source = {k: v for k, v in {"host": host, "port": port, "query": query}.items() if v is not None}
    try:
        given = json.loads(parameters)
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"parameters is not JSON: {error}") from None
    asked = {
        "models": models or [],
        "column_name": column_name,
        "start": start,
        "end": end,
        "data_source": source or None,
        "parameters": given,
        "refit": refit,
    }
    return await _find(_parsed(json.dumps(asked)), state, format, accept, wait_ms)


@router.post("/find/file", response_model=dict[str, Answer], **_BODY)
async def find_in_file(
    state: Shared,
    file: Annotated[UploadFile, File(description="CSV with a header: a time column and columns of numbers.")],
    request: Annotated[str, Form(description="The JSON of POST /find, without data_source.")],
    timestamp_column: Annotated[
        str | None, Form(max_length=1024, description="Else timestamp, time, ts, ...")
    ] = None,
    format: Format = "json",  # noqa: A002
    accept: Accept = "*/*",
    wait_ms: Wait = None,
) -> Response:
    """What these models find in a file of yours."""
    asked = _parsed(request)
    if asked.data_source is not None:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "data_source and a file cannot go together.")
    with tempfile.NamedTemporaryFile(suffix=".csv") as copy:
        copy.write(await file.read())
        copy.flush()
        frame = await asyncio.to_thread(
            from_csv, copy.name, file.filename or "file.csv", state.cfg.console.max_rows, timestamp_column
        )
    return await _ask(asked, sources.Source(frame), state, format, accept, wait_ms)


@router.get("/find/{job_id}", response_model=dict[str, Answer], **_BODY)
async def job(
    job_id: str,
    state: Shared,
    format: Format = "json",  # noqa: A002
    accept: Accept = "*/*",
    wait_ms: Annotated[int, Query(ge=0, le=60_000, description="Answer sooner only with the result.")] = 0,
) -> Response:
    """The result of a job, or 202 while it is being worked on."""
    found = _job(state, job_id)
    await found.wait(wait_ms / 1000)
    return _answer(found, format, accept)


@router.get("/find/{job_id}/events")
async def events(job_id: str, state: Shared) -> EventSourceResponse:
    """The progress of a job as server-sent events ``progress``, the last one ``end``."""
    found = _job(state, job_id)

    async def told() -> AsyncIterator[dict[str, str]]:
        while not found.ended:
            changed = found.changed
            yield {"event": "progress", "data": _view(found).model_dump_json()}
            await changed.wait()
        yield {"event": "end", "data": _view(found).model_dump_json()}

    return EventSourceResponse(told())


@router.delete("/find/{job_id}", response_model=JobView)
async def cancel(job_id: str, state: Shared) -> JobView:
    """Give a job up."""
    found = _job(state, job_id)
    state.jobs.cancel(found)
    await found.wait(1.0)
    return _view(found)


@router.get("/models")
def models() -> Models:
    """The names that `/find` takes."""
    # In a thread: the first time it imports every detector, and nobody else may wait for scikit-learn.
    names = finding.models()
    return Models(models=names, takes_many=[name for name in names if finding.takes_many(name)])


def _parsed(text: str | bytes) -> FindRequest:
    try:
        return FindRequest.model_validate_json(text)
    except ValidationError as error:
        raise RequestValidationError(
            [each | {"loc": ("body", *each["loc"])} for each in error.errors(include_context=False)]
        ) from None


async def _find(request: FindRequest, state: State, form: str, accept: str, wait_ms: int | None) -> Response:
    return await _ask(request, await _read(request, state), state, form, accept, wait_ms)


async def _read(request: FindRequest, state: State) -> sources.Source:
    source = request.data_source
    if source is None or source.query is None:
        if source is not None and source.host is not None:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "data_source.query is missing: say what to read there."
            )
        return await state.store.run(sources.telemetry, request, state.cfg.console)
    table = await sources.query(state.cfg, source.host, source.port, source.query)
    frame = await asyncio.to_thread(from_arrow, table)
    return sources.Source(frame, dict.fromkeys(frame.columns, source.series) if source.series else {})


async def _ask(
    request: FindRequest, source: sources.Source, state: State, form: str, accept: str, wait_ms: int | None
) -> Response:
    start, end = (
        None if each is None else round(each.timestamp() * 1000) for each in (request.start, request.end)
    )
    frame = source.frame.between(start, end)
    if not len(frame):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "There are no samples in this range.")
    tasks = {}
    for name in request.models:
        model = finding.canonical(name)
        await asyncio.to_thread(finding.takes_many, model)  # its library may take seconds to load
        params = request.parameters.get(name, request.parameters.get(model, {}))
        columns = _columns(request, frame, model)
        plain = not request.refit and set(params) <= {"alert_budget"}
        fitted = await _fitted(state, model, frame, source.series.get(columns[0])) if plain else None
        tasks[name] = finding.task(model, frame, columns, params, state.cfg.engine, fitted)
    found = state.jobs.start(tasks)
    await found.wait((state.cfg.console.find_wait_ms if wait_ms is None else wait_ms) / 1000)
    return _answer(found, form, accept)


async def _fitted(state: State, model: str, frame: Frame, series: str | None) -> Fitted | None:
    """The model in use for a series, if it can judge these samples."""
    if series is None or model == finding.DEFAULT or finding.takes_many(model):
        return None
    return await state.serving.of(model, series, int(frame.ts_ms[0]), int(frame.ts_ms[-1]))


def _columns(request: FindRequest, frame: Frame, model: str) -> list[str]:
    """All for a model of many channels, else the one that is named or the only one."""
    names = list(frame.columns)
    if finding.takes_many(model):
        return names
    if request.column_name in names:
        return [str(request.column_name)]
    if request.column_name is None and len(names) == 1:
        return names
    wanted = (
        f"There is no column {request.column_name!r}" if request.column_name else "column_name is missing"
    )
    raise ProblemError(HTTPStatus.BAD_REQUEST, f"{wanted}: give one of {', '.join(names)}.")


def _job(state: State, job_id: str) -> Job:
    found = state.jobs.get(job_id)
    if found is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "There is no such job: it is forgotten, or was never begun.")
    return found


def _view(found: Job) -> JobView:
    parts = {name: ModelProgress(status=p.status, done=p.done) for name, p in found.parts.items()}
    return JobView(job_id=found.job_id, status=found.status, models=parts)


def _answer(found: Job, form: str, accept: str) -> Response:
    if not found.ended:
        where = f"/find/{found.job_id}"
        headers = {"Location": where, "Retry-After": "1"}
        return JSONResponse(_view(found).model_dump(), HTTPStatus.ACCEPTED, headers)
    return results.response(found, form, accept)
