"""Answers of models as JSON, as CSV text, or as a ZIP of CSV files."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from fastapi import Response

from console.find import Job, Part
from schemas.find import Found, IntervalsFound, PointsFound
from stream.formats.timestamps import ms_to_iso

POINT_COLUMNS: Final = ("timestamp", "value", "score", "expected", "lower", "upper", "anomaly", "level")
INTERVAL_COLUMNS: Final = ("start", "end", "severity")


def response(job: Job, form: str, accept: str) -> Response:
    """What a job that has ended has found, model by model."""
    if form in {"json", "columns"}:
        written = _json if form == "json" else _columns
        body = {name: written(part) for name, part in job.parts.items()}
        return Response(msgspec.json.encode(body), media_type="application/json")
    tables = {name: _csv(part) for name, part in job.parts.items()}
    if "application/zip" in accept:
        return Response(
            _zip(tables),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="anomalies.zip"'},
        )
    return Response(msgspec.json.encode(tables), media_type="application/json")


def rows(found: Found) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """Names of the columns and rows of one answer; times ISO 8601, None where there is no number."""
    if isinstance(found, IntervalsFound):
        spans = [
            (ms_to_iso(each.start_ms), ms_to_iso(each.end_ms), each.severity) for each in found.intervals
        ]
        return INTERVAL_COLUMNS, spans
    times = np.frombuffer(found.ts_ms, "<i8").astype("M8[ms]")
    texts = [f"{text}Z" for text in np.datetime_as_string(times).tolist()]
    columns = [
        _numbers(each) for each in (found.value, found.score, found.expected, found.lower, found.upper)
    ]
    level = _numbers(found.level)
    anomaly = np.frombuffer(found.anomaly, np.uint8).astype(bool).tolist()
    shares = {f"contribution.{name}": _numbers(each) for name, each in found.contributions.items()}
    return (*POINT_COLUMNS, *shares), zip(texts, *columns, anomaly, level, *shares.values(), strict=True)


def _json(part: Part) -> dict[str, Any]:
    if part.found is None:
        return {"kind": "error", "error": part.error or "cancelled"}
    names, found = rows(part.found)
    kind = "intervals" if isinstance(part.found, IntervalsFound) else "points"
    used = part.found.artifact or None
    return {"kind": kind, "artifact": used, kind: [dict(zip(names, row, strict=True)) for row in found]}


def _columns(part: Part) -> dict[str, Any]:
    """As `_json`, of a model of points a list for each column: a fifth of the time at both ends."""
    found = part.found
    if not isinstance(found, PointsFound):
        return _json(part)
    numbers = {
        name: getattr(found, name) for name in ("value", "score", "level", "expected", "lower", "upper")
    }
    numbers |= {f"contribution.{name}": share for name, share in found.contributions.items()}
    columns = {name: np.frombuffer(packed, "<f8").tolist() for name, packed in numbers.items()}
    columns["ts_ms"] = np.frombuffer(found.ts_ms, "<i8").tolist()
    columns["anomaly"] = np.frombuffer(found.anomaly, np.bool_).tolist()
    return {"kind": "columns", "artifact": found.artifact or None, "columns": columns}  # NaN becomes null


def _csv(part: Part) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if part.found is None:
        writer.writerows([["error"], [part.error or "cancelled"]])
        return text.getvalue()
    names, found = rows(part.found)
    writer.writerow(names)
    writer.writerows(["" if cell is None else _cell(cell) for cell in row] for row in found)
    return text.getvalue()


def _cell(cell: Any) -> Any:
    return int(cell) if isinstance(cell, bool) else cell


def _zip(tables: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in tables.items():
            file.writestr(f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}.csv", text)
    return packed.getvalue()


def _numbers(packed: bytes) -> list[float | None]:
    """Rounded to what a float32 holds, which is what the detectors compute in."""
    values = np.frombuffer(packed, "<f8")
    return [None if number != number else float(f"{number:.9g}") for number in values.tolist()]  # noqa: PLR0124  # NaN
