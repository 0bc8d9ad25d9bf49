"""What people say and decide: incidents to look at, verdicts, mutes, models to adopt."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query

from console import catalog
from console.lists import Cursor, Limit, Match, When
from console.models import (
    Artifact,
    Incident,
    Label,
    LabelPreview,
    LabelRequest,
    Mute,
    MuteRequest,
    MuteState,
    Page,
    Rollback,
)
from console.problems import ProblemError
from console.state import Shared
from schemas import control
from schemas.artifact import Manifest
from schemas.series import Series
from stream.control import commanding, verdicts
from stream.control.commanding import Standing
from stream.refresh import artifacts
from stream.store.clickhouse import Client

router = APIRouter(tags=["control"])
Id = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("/incidents")
async def incidents(
    state: Shared,
    match: Match = None,
    status: Literal["open", "closed"] | None = None,
    start: When = None,
    end: When = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Incident]:
    """The newest revision of each incident, the newest first; those that others took over are left out.
    One with a member whose series matches is found.
    """
    where = [catalog.Condition("merged_into IS NULL", {})]
    if match is not None:
        where.append(catalog.of_series(match, "arrayMap(m -> m.2, members)"))
    if status is not None:
        where.append(catalog.Condition("status = 'close'" if status == "closed" else "status != 'close'", {}))
    where += catalog.started(start, end)
    found = await state.store.run(catalog.incidents, where, limit, cursor)
    return Page[Incident](items=[Incident(**each) for each in found.items], next=found.next)


@router.get("/labels")
async def labels(
    state: Shared, match: Match = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[Label]:
    """The newest verdict on each anomaly, the newest first."""
    where = [] if match is None else [catalog.of_series(match, "[series]")]
    found = await state.store.run(catalog.labels, where, limit, cursor)
    return Page[Label](items=[Label(**each) for each in found.items], next=found.next)


@router.post("/labels/preview")
async def preview(request: LabelRequest, state: Shared) -> LabelPreview:
    """What a verdict would propose, and would have done to the past month; nothing is changed."""
    _, told = await state.store.run(_previewed, state.cfg, request)
    return LabelPreview(lines=told.lines(), past=len(told.past), kept_back=len(told.kept_back))


@router.post("/labels", status_code=HTTPStatus.ACCEPTED)
async def label(request: LabelRequest, state: Shared) -> dict[str, str]:
    """Say what an anomaly was; it holds once the workers have read it."""
    found = await state.store.run(_anomaly, request.anomaly_id)
    command = verdicts.label(
        state.cfg.engine, found, request.verdict, at_ms=commanding.now_ms(), by=request.by, why=request.why
    )
    await commanding.send(state.cfg, [command])
    return {"command_id": command.command_id}


@router.get("/mutes")
async def mutes(
    state: Shared,
    is_now: Annotated[
        list[MuteState] | None, Query(alias="state", description="Only these. May be repeated.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Mute]:
    """Every mute on the topic, with its state now; by their ids."""
    now_ms = commanding.now_ms()
    shown = [_shown(each, now_ms) for each in await commanding.standing(state.cfg)]
    wanted = ((each.mute_id, each) for each in shown if is_now is None or each.state in is_now)
    items, more = catalog.sliced(wanted, limit, cursor)
    return Page[Mute](items=items, next=more)


@router.post("/mutes", status_code=HTTPStatus.ACCEPTED)
async def mute(request: MuteRequest, state: Shared) -> Mute:
    """Keep anomalies of some series from people for a time: they are written with the mute, and not sent."""
    at_ms = commanding.now_ms()
    mute_id = request.mute_id or secrets.token_hex(4)
    command = control.Mute(
        command_id=f"{mute_id}-{at_ms}",
        at_ms=at_ms,
        by=request.by,
        why=request.why,
        mute_id=mute_id,
        matcher=request.matcher,
        start_ms=at_ms if request.start is None else _ms(request.start),
        end_ms=None if request.end is None else _ms(request.end),
        repeat=request.repeat,
        timezone=request.timezone,
        learn=request.learn,
    )
    await _send(state, command)
    return _shown(Standing(command, None), at_ms)


@router.delete("/mutes/{mute_id}", status_code=HTTPStatus.ACCEPTED)
async def unmute(mute_id: Id, state: Shared) -> dict[str, str]:
    """Lift a mute now, with all its repetitions."""
    set_now = {each.mute.mute_id for each in await commanding.standing(state.cfg) if each.lifted_ms is None}
    if mute_id not in set_now:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, "There is no such mute: GET /mutes lists those that are set."
        )
    at_ms = commanding.now_ms()
    command = control.Unmute(command_id=f"{mute_id}-{at_ms}", at_ms=at_ms, mute_id=mute_id)
    await _send(state, command)
    return {"command_id": command.command_id}


@router.get("/artifacts")
async def list_artifacts(
    state: Shared,
    detector: Annotated[str | None, Query(max_length=200)] = None,
    series: Annotated[str | None, Query(max_length=1024)] = None,
    match: Match = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Artifact]:
    """The fitted models on the topic, in use or waiting to be adopted; by detector, series and id. One of a
    group of series has its name in place of a series, and no labels to match.
    """
    matches = (lambda _: True) if match is None else catalog.matcher(match).matches
    found = (
        (f"{at.detector} {at.series} {at.artifact_id}", each)
        for each in await artifacts.on_topic(state.cfg)
        if (at := each.manifest)
        and detector in {None, at.detector}
        and series in {None, at.series}
        and matches(Series.of(at.series))
    )
    page, more = catalog.sliced(found, limit, cursor)
    return Page[Artifact](items=[_artifact(each.manifest, serving=each.serving) for each in page], next=more)


@router.post("/artifacts/{artifact_id}/adopt", status_code=HTTPStatus.ACCEPTED)
async def adopt(artifact_id: Id, state: Shared) -> Artifact:
    """Put a model into use: workers take it over with their next batch."""
    return _artifact(await artifacts.adopt(state.cfg, artifact_id), serving=True)


@router.post("/artifacts/rollback", status_code=HTTPStatus.ACCEPTED)
async def rollback(request: Rollback, state: Shared) -> Artifact:
    """Put the model into use that was fitted before the serving one."""
    return _artifact(await artifacts.rollback(state.cfg, request.detector, request.series), serving=True)


def _anomaly(client: Client, anomaly_id: str) -> verdicts.Found:
    return verdicts.anomaly(client, anomaly_id)


def _previewed(client: Client, cfg: Any, request: LabelRequest) -> tuple[verdicts.Found, verdicts.Preview]:
    found = verdicts.anomaly(client, request.anomaly_id)
    return found, verdicts.preview(client, cfg.engine, found, request.verdict)


async def _send(state: Any, command: control.Command) -> None:
    try:
        await commanding.send(state.cfg, [command])
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None


def _shown(standing: Standing, now_ms: int) -> Mute:
    mute = standing.mute
    return Mute(
        mute_id=mute.mute_id,
        matcher=mute.matcher,
        state=standing.state(now_ms),
        start=_moment(mute.start_ms),
        end=None if mute.end_ms is None else _moment(mute.end_ms),
        repeat=mute.repeat,
        timezone=mute.timezone,
        learn=mute.learn,
        origin=mute.origin,
        by=mute.by,
        why=mute.why,
    )


def _artifact(manifest: Manifest, *, serving: bool) -> Artifact:
    return Artifact(
        artifact_id=manifest.artifact_id,
        detector=manifest.detector,
        series=manifest.series,
        serving=serving,
        trained_from=_moment(manifest.trained_from_ms),
        trained_to=_moment(manifest.trained_to_ms),
        size=manifest.size,
        params=msgspec.to_builtins(manifest.params),
        report=msgspec.to_builtins(manifest.report),
    )


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
