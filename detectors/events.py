"""Records of episodes as anomaly events, with a reason in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from detectors.episode import CLOSE, DIP, DRIFT, FLAT, OPEN, PATTERN, SHIFT, SPIKE, SPREAD, UPDATE
from detectors.owners import Owner
from detectors.policy import Limits
from detectors.protocol import F32, F64, Detector
from detectors.series import Names, series_id
from detectors.siblings import NAME as SIBLINGS
from detectors.silence import FORGOTTEN, GONE, LEFT, SILENCE, SPEAKING
from detectors.week import NAME as WEEK
from schemas.event import AnomalyEvent, Direction, Kind, Severity, Spoke, Status
from schemas.series import Series

_STATUS: Final = {OPEN: Status.OPEN, UPDATE: Status.UPDATE, CLOSE: Status.CLOSE}
_KIND: Final = {
    SPIKE: Kind.SPIKE,
    DIP: Kind.DIP,
    SHIFT: Kind.SHIFT,
    PATTERN: Kind.PATTERN,
    DRIFT: Kind.DRIFT,
    SPREAD: Kind.SPREAD,
    FLAT: Kind.FLAT,
}
_HOW: Final = {SPREAD: "; it varies unlike before", DRIFT: "; its mean creeps away"}
_LEFT: Final = {GONE: "is taken as gone", LEFT: "is taken as gone", FORGOTTEN: "was forgotten"}
LIMITS: Final = "limits"  # who speaks where a value is outside its allowed range
STANDS: Final = "flat"  # and where a lively series stands still
_A_PART = 0.1  # of a group's anomaly: a channel with a lower share is not named
_MOST_PARTS: Final = 3
_NEVER_MS: Final = 3652 * 86_400_000
_TOGETHER = 0.8  # where none alerted alone, two above this alerted together (`detectors.ensemble`)
_WARNING, _CRITICAL = 1.3, 2.0  # peak scores; 2.0 is the square of the tail probability at the threshold


class Named(Protocol):
    """Whose slots records are of: `detectors.owners.Owners`, or groups."""

    def of(self, slot: int, position: int, forgotten: bool = False) -> Owner: ...


def events(
    told: NDArray[Any],
    spoke: F32,
    owners: Named,
    detectors: Sequence[Detector],
    between_ms: F64 | None = None,
) -> list[AnomalyEvent]:
    """Events of the records (`detectors.episode.TOLD`) in order; ``spoke`` is records x detectors.

    ``between_ms`` is how seldom a score like the peak comes, 0 where that is not known.
    """
    seldom = [0.0] * len(told) if between_ms is None else between_ms.tolist()
    return [
        _event(record, peaks, _owner(record, owners, int(record["left"])), detectors, each)
        for record, peaks, each in zip(told, spoke.tolist(), seldom, strict=True)
    ]


def silences(records: NDArray[Any], owners: Named) -> list[AnomalyEvent]:
    """Events of records of `detectors.silence.TOLD`."""
    return [_silence(record, _owner(record, owners, int(record["state"])).text) for record in records]


def _owner(record: np.void, owners: Named, state: int) -> Owner:
    return owners.of(int(record["slot"]), int(record["position"]), state == FORGOTTEN)


def silence_id(series: str, started_ms: int) -> str:
    """As `anomaly_id`: a series may fall silent at the time at which another anomaly began."""
    return _hash(f"{series}\n{started_ms}\nsilence")


def _silence(record: np.void, text: str) -> AnomalyEvent:
    series = Series.of(text)
    started_ms, ended_ms = int(record["started_ms"]), int(record["ended_ms"])
    revision = 1 if ended_ms else 0
    return AnomalyEvent(
        event_id=_hash(f"{text}\n{started_ms}\nsilence\n{revision}"),
        anomaly_id=silence_id(text, started_ms),
        revision=revision,
        status=Status.CLOSE if ended_ms else Status.OPEN,
        series=text,
        series_id=series_id(text),
        metric=series.metric,
        labels=series.labels,
        kind=Kind.SILENCE,
        severity=severity(SILENCE),
        direction=Direction.BOTH,
        score=SILENCE,
        peak_score=SILENCE,
        actual=None,
        expected=None,
        lower=None,
        upper=None,
        started_ms=started_ms,
        detected_ms=int(record["detected_ms"]),
        ended_ms=ended_ms or None,
        samples=0,
        detectors=[Spoke("silence", 1, SILENCE)],
        reason=_why_silent(record, series.metric),
    )


def _why_silent(record: np.void, metric: str) -> str:
    missing_ms = int(record["ended_ms"] or record["detected_ms"]) - int(record["started_ms"])
    told = f"{metric} has sent nothing for {_span(missing_ms + int(record['interval_ms']))}"
    told = f"{told}, which it does every {_span(int(record['interval_ms'])).removeprefix('1 ')}"
    ends = {SPEAKING: "; it speaks again", GONE: "; it is taken as gone", FORGOTTEN: "; it was forgotten"}
    return told + ends.get(int(record["state"]), "")


class Ongoing(NamedTuple):
    """An anomaly that is open now."""

    anomaly_id: str
    series: str
    metric: str
    labels: dict[str, str]
    severity: Severity
    direction: Direction
    started_ms: int
    peak_score: float


def ongoing(slot: int, episode: np.void, table: Names) -> Ongoing:
    """What an open episode (`detectors.episode.EPISODE`) is, in the words of its events."""
    series, text = table.series(slot), table.text(slot)
    started_ms, peak = int(episode["started_ms"]), float(episode["peak"])
    return Ongoing(
        anomaly_id(text, started_ms),
        text,
        series.metric,
        series.labels,
        severity(peak),
        _side(episode),
        started_ms,
        peak,
    )


def silent(slot: int, started_ms: int, table: Names) -> Ongoing:
    """A series that is silent now."""
    series, text = table.series(slot), table.text(slot)
    return Ongoing(
        silence_id(text, started_ms),
        text,
        series.metric,
        series.labels,
        severity(SILENCE),
        Direction.BOTH,
        started_ms,
        SILENCE,
    )


def anomaly_id(series: str, started_ms: int) -> str:
    """The same for all revisions, and for the same input after any crash."""
    return _hash(f"{series}\n{started_ms}")


def excusable(series: str, newest: np.void, anomaly: str) -> bool:
    """Whether this is the newest anomaly (`detectors.episode.EPISODE`) of the series, and not excused yet."""
    return not newest["excused"] and anomaly_id(series, int(newest["started_ms"])) == anomaly


def severity(peak_score: float) -> Severity:
    if peak_score >= _CRITICAL:
        return Severity.CRITICAL
    return Severity.WARNING if peak_score >= _WARNING else Severity.INFO


def _event(
    record: np.void, peaks: list[float], owner: Owner, detectors: Sequence[Detector], between_ms: float
) -> AnomalyEvent:
    text, series = owner.text, owner.series
    started_ms, revision = int(record["started_ms"]), int(record["revision"])
    closed = int(record["status"]) == CLOSE
    spoke_from = 1.0 if max(peaks) >= 1.0 else _TOGETHER
    return AnomalyEvent(
        event_id=_hash(f"{text}\n{started_ms}\n{revision}"),
        anomaly_id=anomaly_id(text, started_ms),
        revision=revision,
        status=_STATUS[int(record["status"])],
        series=text,
        series_id=series_id(text),
        metric=series.metric,
        labels=series.labels,
        kind=_KIND[int(record["kind"])],
        severity=severity(float(record["peak"])),
        direction=_direction(record),
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
            Spoke(detector.name, detector.version, peak, owner.artifacts.get(detector.name) or None)
            for detector, peak in zip(detectors, peaks, strict=True)
            if peak >= spoke_from
        ]
        + _rules(record, owner.limits),
        reason=_reason(record, series.metric, owner.limits, between_ms),
    )


def together(
    record: np.void, event: AnomalyEvent, channels: Sequence[tuple[str, float, float]]
) -> AnomalyEvent:
    """The event of a group with its channels in the worst moment: series, value and share (NaN is none)."""
    shares = {series: share for series, _, share in channels if share >= 0.0}
    return msgspec.structs.replace(
        event, contributions=shares, reason=_reason_together(record, event.metric, channels)
    )


def _reason_together(record: np.void, metric: str, channels: Sequence[tuple[str, float, float]]) -> str:
    """As `_reason`, with the channels that make up most of it."""
    metrics = [Series.of(series).metric for series, _, _ in channels]
    names = [m if metrics.count(m) == 1 else c[0] for m, c in zip(metrics, channels, strict=True)]
    loud = sorted(zip(names, channels, strict=True), key=lambda each: -each[1][2] if each[1][2] > 0 else 0.0)
    parts = [f"{name} {value:.4g} ({share:.0%})" for name, (_, value, share) in loud if share >= _A_PART]
    verb = "is" if int(record["status"]) == OPEN else "was"
    told = f"{metric} {verb} unusual as a whole" + (f": {', '.join(parts[:_MOST_PARTS])}" if parts else "")
    lasted = _span(int(record["ended_ms"] or record["detected_ms"]) - int(record["started_ms"]))
    if int(record["status"]) == OPEN:
        return told
    if int(record["status"]) == UPDATE:
        return f"{told}; for {lasted} so far"
    if record["left"]:
        return f"{told}; its last member is gone"
    normal = "this is taken as the new normal" if record["adopted"] else ""
    return f"{told}; after {lasted} {normal}" if normal else f"{told}; back to normal after {lasted}"


def _rules(record: np.void, limits: Limits) -> list[Spoke]:
    """What speaks beside the detectors."""
    spoke = {
        LIMITS: bool(limits.broken(float(record["worst"]))),
        STANDS: int(record["kind"]) == FLAT,
        SIBLINGS: bool(record["borrowed"]),
        WEEK: bool(record["week"]),
    }
    return [Spoke(name, 1, float(record["peak"])) for name, speaks in spoke.items() if speaks]


def _hash(text: str) -> str:
    return xxhash.xxh128_hexdigest(text.encode())


def _direction(record: np.void) -> Direction:
    """Where the worst sample stood; both where there is nothing to compare it with, or it was inside."""
    if int(record["kind"]) in {PATTERN, SPREAD, FLAT}:
        return Direction.BOTH
    return _side(record)


def _side(record: np.void) -> Direction:
    """Of the worst sample; both where nothing says what was expected."""
    if record["worst"] > record["worst_upper"]:
        return Direction.ABOVE
    if record["worst"] < record["worst_lower"]:
        return Direction.BELOW
    if np.isnan(record["worst_expected"]):
        return Direction.BOTH
    return Direction.ABOVE if record["worst"] >= record["worst_expected"] else Direction.BELOW


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None


def _reason(record: np.void, metric: str, limits: Limits, between_ms: float) -> str:
    """What happened in a sentence with numbers: at worst, against what was expected, how rare that is by what
    the series has taught, and how it goes on.
    """
    status = int(record["status"])
    worst = f"{float(record['worst']):.4g}"
    told = f"{metric} is {worst}" if status == OPEN else f"{metric} was {worst} at worst"
    rarity = ""
    if int(record["kind"]) == FLAT:
        told = f"{metric} stands still at {worst}, though it seldom keeps a value"
    elif record["week"]:
        told = f"{told}, and the hours before unlike these hours of earlier weeks"
    else:
        broken = limits.broken(float(record["worst"]))
        told = f"{told}, {broken or _against_band(record)}"
        rarity = "" if broken or record["borrowed"] else _rarity(between_ms)
    told += _HOW.get(int(record["kind"]), "")
    told += f"; score {float(record['peak']):.1f} where 1 alerts{rarity}"
    if record["borrowed"]:
        told += "; it is new and judged by its siblings' scale"
    lasted = _span(int(record["ended_ms"] or record["detected_ms"]) - int(record["started_ms"]))
    if status == OPEN:
        return told
    if status == UPDATE:
        return f"{told}; for {lasted} so far, now {float(record['actual']):.4g}"
    return f"{told}; {_ending(record, lasted)}"


def _rarity(between_ms: float) -> str:
    """By the tail that was learned, so in words that promise no more than an order of magnitude."""
    if not between_ms:
        return ""
    if between_ms > _NEVER_MS:
        return " (less than once in ten years)"
    number, unit = _span(round(between_ms)).split()
    if number == "1":
        number = "an" if unit == "hour" else "a"
    return f" (about once in {number} {unit})"


def _ending(record: np.void, lasted: str) -> str:
    now = f"{float(record['actual']):.4g}"
    if int(record["left"]):
        return f"its series {_LEFT[int(record['left'])]}, last {now}"
    if record["adopted"]:
        return f"after {lasted} {now} is taken as the new normal"
    if int(record["kind"]) == FLAT:
        return f"it moves again, now {now}"
    if int(record["kind"]) == SHIFT:
        return f"it settled at a new level, now {now}"
    return f"back to normal after {lasted}"


def _span(milliseconds: int) -> str:
    """A length of time as people say it, in its largest unit; one sample alone lasts a moment."""
    for unit, size in (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000)):
        if milliseconds >= size:
            count = round(milliseconds / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a moment"


def _against_band(record: np.void) -> str:
    worst, lower, upper = (float(record[name]) for name in ("worst", "worst_lower", "worst_upper"))
    if math.isnan(lower):
        return "unusual for this series"
    beyond = max(worst - upper, lower - worst)
    where = "unusual though within" if beyond <= 0 else "above" if worst > upper else "below"
    widths = beyond / (upper - lower) if upper > lower else 0.0
    far = f"{widths:.{0 if widths >= 10 else 1}f} band widths " if beyond > 0 and upper > lower else ""
    return (
        f"{far}{where} its band {lower:.4g} to {upper:.4g} (expected {float(record['worst_expected']):.4g})"
    )
