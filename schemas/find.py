"""A question to the trainers, "what does this model find in these samples", and its answer (msgpack)."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.config import Engine


class Fitted(msgspec.Struct, frozen=True):
    """The artifact that serves a series: judged with instead of one fitted on the samples."""

    series: str
    artifact_id: str


class FindTask(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one range. Arrays are little-endian bytes: ``ts_ms`` int64 in order, each once;
    ``columns`` float64 of the same length, NaN where there is no value.
    """

    model: str
    ts_ms: bytes
    columns: dict[str, bytes]
    params: dict[str, Any] = {}
    engine: Engine
    fitted: Fitted | None = None


class PointsFound(msgspec.Struct, frozen=True, kw_only=True, tag="points"):
    """A word on each sample: float64 arrays, NaN where there is none; ``anomaly`` is a byte each.

    Of a model of several columns ``value`` is NaN, and ``contributions`` has for each column its share in the
    score, where that is unusual. ``artifact`` is the id of the one in `FindTask.fitted`, empty where another
    was fitted for the answer, or none is needed.
    """

    ts_ms: bytes
    value: bytes
    score: bytes
    level: bytes
    expected: bytes
    lower: bytes
    upper: bytes
    anomaly: bytes
    contributions: dict[str, bytes] = {}
    artifact: str = ""


class Interval(msgspec.Struct, frozen=True):
    """``start_ms`` and ``end_ms`` are the first and last sample of it; ``severity`` its mean score."""

    start_ms: int
    end_ms: int
    severity: float


class IntervalsFound(msgspec.Struct, frozen=True, kw_only=True, tag="intervals"):
    """Stretches of anomalous samples, in order; ``score`` is float64 for each sample."""

    ts_ms: bytes
    value: bytes
    score: bytes
    intervals: list[Interval]
    artifact: str = ""


Found = PointsFound | IntervalsFound
