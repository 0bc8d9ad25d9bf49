"""Anomaly events: one episode on one series, told in revisions from open to close."""

from __future__ import annotations

import enum

import msgspec


class Status(enum.StrEnum):
    OPEN = "open"
    UPDATE = "update"
    CLOSE = "close"


class Kind(enum.StrEnum):
    SPIKE = "spike"  # a short excursion above the band
    DIP = "dip"  # a short excursion below the band
    SHIFT = "shift"  # the level moved and stays
    DRIFT = "drift"  # the level creeps away
    SPREAD = "spread"  # the noise grew or shrank
    PATTERN = "pattern"  # unusual for this series, though not outside its band
    SILENCE = "silence"  # samples stopped coming
    FLAT = "flat"  # a lively series stands still


class Severity(enum.StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Direction(enum.StrEnum):
    ABOVE = "above"
    BELOW = "below"
    BOTH = "both"


class Spoke(msgspec.Struct, frozen=True):
    """A detector that found the sample anomalous."""

    name: str
    version: int
    score: float
    artifact: str | None = None


class AnomalyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of one anomaly, on `tocsin.anomalies` keyed by ``series``, as JSON.

    ``anomaly_id`` is the same from open through updates to close; ``event_id`` is a hash of series, start
    and revision, so that the same input gives the same id after any crash. Times are Unix milliseconds.
    ``score`` is that of the sample that caused this revision, 1.0 at the alert threshold. ``severity`` is
    derived from ``peak_score``. ``expected``, ``lower`` and ``upper`` are null while no detector has them.
    Where ``series`` is a group of series there are no values; ``contributions`` then has the share of each
    channel, by its series, in the worst moment so far.
    """

    event_id: str
    anomaly_id: str
    revision: int
    status: Status
    series: str
    series_id: str
    metric: str
    labels: dict[str, str]
    kind: Kind
    severity: Severity
    direction: Direction
    score: float
    peak_score: float
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    started_ms: int
    detected_ms: int
    ended_ms: int | None
    samples: int
    detectors: list[Spoke]
    reason: str
    muted_by: str | None = None
    contributions: dict[str, float] = {}
