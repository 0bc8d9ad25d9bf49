"""Records of episodes as anomaly events, with a reason in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from detectors.episode import CLOSE, DIP, OPEN, PATTERN, SHIFT, SPIKE, UPDATE
from detectors.protocol import F32, Detector
from detectors.series import SeriesTable
from schemas.event import AnomalyEvent, Direction, Kind, Severity, Spoke, Status

_STATUS: Final = {OPEN: Status.OPEN, UPDATE: Status.UPDATE, CLOSE: Status.CLOSE}
_KIND: Final = {SPIKE: Kind.SPIKE, DIP: Kind.DIP, SHIFT: Kind.SHIFT, PATTERN: Kind.PATTERN}
_WARNING, _CRITICAL = 1.3, 2.0  # peak scores; 2.0 is the square of the tail probability at the threshold


def events(
    told: NDArray[Any], spoke: F32, table: SeriesTable, detectors: Sequence[Detector]
) -> list[AnomalyEvent]:
    """Events of the records (`detectors.episode.TOLD`) in order; ``spoke`` is records x detectors."""
    return [
        _event(record, peaks, table, detectors) for record, peaks in zip(told, spoke.tolist(), strict=True)
    ]


def severity(peak_score: float) -> Severity:
    if peak_score >= _CRITICAL:
        return Severity.CRITICAL
    return Severity.WARNING if peak_score >= _WARNING else Severity.INFO


def _event(
    record: np.void, peaks: list[float], table: SeriesTable, detectors: Sequence[Detector]
) -> AnomalyEvent:
    slot, text = int(record["slot"]), table.text(int(record["slot"]))
    series = table.series(slot)
    started_ms, revision = int(record["started_ms"]), int(record["revision"])
    closed = int(record["status"]) == CLOSE
    return AnomalyEvent(
        event_id=_hash(f"{text}\n{started_ms}\n{revision}"),
        anomaly_id=_hash(f"{text}\n{started_ms}"),
        revision=revision,
        status=_STATUS[int(record["status"])],
        series=text,
        series_id=table.series_id(slot),
        metric=series.metric,
        labels=series.labels,
        kind=_KIND[int(record["kind"])],
        severity=severity(float(record["peak"])),
        direction=_direction(int(record["above"]), int(record["below"])),
        score=float(record["score"]),
        peak_score=float(record["peak"]),
        actual=_finite(record["actual"]),
        expected=_finite(record["expected"]),
        lower=_finite(record["lower"]),
        upper=_finite(record["upper"]),
        started_ms=started_ms,
        detected_ms=int(record["detected_ms"]),
        ended_ms=int(record["ended_ms"]) if closed else None,
        samples=int(record["samples"]),
        detectors=[
            Spoke(detector.name, detector.version, peak)
            for detector, peak in zip(detectors, peaks, strict=True)
            if peak >= 1.0
        ],
        reason=_reason(record, series.metric),
    )


def _hash(text: str) -> str:
    return xxhash.xxh128_hexdigest(text.encode())


def _direction(above: int, below: int) -> Direction:
    if 4 * min(above, below) >= max(above, below):
        return Direction.BOTH
    return Direction.ABOVE if above > below else Direction.BELOW


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None


def _reason(record: np.void, metric: str) -> str:
    actual, lower, upper = float(record["actual"]), float(record["lower"]), float(record["upper"])
    was = f"{metric} is {actual:.4g}"
    if math.isnan(lower):
        said = f"{was}, unusual for this series"
    else:
        where = "above" if actual > upper else "below" if actual < lower else "within"
        band = f"its band {lower:.4g} to {upper:.4g} (expected {float(record['expected']):.4g})"
        said = f"{was}, {where} {band}"
    minutes = (int(record["detected_ms"]) - int(record["started_ms"])) / 60_000
    if int(record["status"]) == OPEN:
        return f"{said}; score {float(record['score']):.2f}"
    if int(record["status"]) == UPDATE:
        return f"{said}; for {minutes:.0f} minutes, peak score {float(record['peak']):.2f}"
    if record["adopted"]:
        return f"{said}; after {minutes:.0f} minutes this is taken as the new normal"
    new = "a new normal" if int(record["kind"]) == SHIFT else "quiet again"
    return f"{said}; {new}, peak score {float(record['peak']):.2f}"
