"""Lists of series, samples and anomalies, a page at a time, filtered by label matchers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from console import catalog, windows
from console.models import Anomaly, Page, SeriesItem, Utc, Window
from console.problems import ProblemError
from console.state import Shared

router = APIRouter(tags=["lists"])
Limit = Annotated[int, Query(ge=1, le=1000, description="Items of a page.")]
Cursor = Annotated[str | None, Query(max_length=8192, description="`next` of the page before.")]
Match = Annotated[
    str | None,
    Query(max_length=4096, description='Label matcher as in Prometheus: metric{service="shop",pod=~"a.*"}'),
]
When = Annotated[Utc | None, Query(description="ISO 8601; UTC where it names no zone.")]


@router.get("/healthz", tags=["health"])
async def health() -> dict[str, bool]:
    """Whether this process answers; needs no token."""
    return {"ok": True}


@router.get("/series")
async def series(
    state: Shared, match: Match = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[SeriesItem]:
    """The series that were seen."""
    found = await state.store.run(catalog.series, _matching(match), limit, cursor)
    return Page[SeriesItem](items=[SeriesItem(**each) for each in found.items], next=found.next)


@router.get("/series/{series_id}/window", response_model=Window)
async def window(
    series_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    state: Shared,
    start: When = None,
    end: When = None,
    fields: Annotated[
        list[windows.Field] | None,
        Query(description="Columns to send; all but ts_ms without it. May be repeated."),
    ] = None,
    max_samples: Annotated[int, Query(ge=10, le=windows.MAX_SAMPLES)] = 5_000,
) -> Response:
    """Samples with score and band as columns of equal length; without a range, the last day that has some.

    More than ``max_samples`` are thinned out for display: of each stretch its extremes are kept, and every
    sample that belongs to an anomaly.
    """
    number = int(series_id, 16)
    text = await state.store.run(catalog.one_series, number)
    if end is None:
        newest = await state.store.run(catalog.newest, number) or datetime.now(UTC)
        end = newest + timedelta(milliseconds=1)
    start = start if start is not None else end - timedelta(days=1)
    if start >= end:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "start must be before end.")
    wanted = fields or windows.USUAL
    found = await state.store.run(catalog.window, number, start, end, windows.stored(wanted))
    body = await asyncio.to_thread(windows.body, text, start, end, found, wanted, max_samples)
    return Response(body, media_type="application/json")


@router.get("/anomalies")
async def anomalies(
    state: Shared,
    match: Match = None,
    status: Literal["open", "closed"] | None = None,
    severity: Annotated[list[Literal["info", "warning", "critical"]] | None, Query()] = None,
    start: When = None,
    end: When = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Anomaly]:
    """The newest revision of each anomaly, the newest first; ``start`` and ``end`` bound its start."""
    where = _matching(match)
    if status is not None:
        where.append(catalog.Condition("status = 'close'" if status == "closed" else "status != 'close'", {}))
    if severity:
        where.append(catalog.one_of("severity", "severities", severity))
    where += catalog.started(start, end)
    found = await state.store.run(catalog.anomalies, where, limit, cursor)
    return Page[Anomaly](items=[Anomaly(**each) for each in found.items], next=found.next)


def _matching(match: str | None) -> list[catalog.Condition]:
    return [] if match is None else catalog.matching(match)
