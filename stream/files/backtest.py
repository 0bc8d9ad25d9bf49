"""Replay of stored telemetry through the worker's engine, and what it would have been like to live with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import evaluation as ev
from detectors.engine import Engine
from detectors.evaluation.episodes import (
    Delay,
    Episode,
    agreement,
    compare_episodes,
    episode_delays,
    onsets_only,
    rows_of,
)
from detectors.evaluation.segments import DAY_MS
from detectors.protocol import Samples, Scored
from schemas import config
from schemas.event import AnomalyEvent, Status
from stream.files.labelled import Labelled

CHUNK: Final = 20_000
"""Samples scored between two words on progress; the result does not depend on it."""


class Configuration(NamedTuple):
    """One of those that are compared."""

    name: str
    config: config.Config


class Replayed(NamedTuple):
    """What one configuration says of one series, row by row in the order of the input, and its events."""

    series: Labelled
    score: NDArray[np.float32]
    level: NDArray[np.float32]
    expected: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    state: NDArray[np.uint8]
    anomaly_started_ms: NDArray[np.int64]
    events: list[AnomalyEvent]

    @property
    def anomalies(self) -> list[AnomalyEvent]:
        """The newest revision of each anomaly, by start."""
        newest = {event.anomaly_id: event for event in self.events}
        return sorted(newest.values(), key=lambda event: event.started_ms)

    @property
    def episodes(self) -> list[Episode]:
        """The anomalies as rows: from start to end as told, detected where the first event came."""
        opened = {e.anomaly_id: e for e in self.events if e.status is Status.OPEN}
        clock = np.maximum.accumulate(self.series.ts_ms)  # a late sample does not turn time back
        last = len(clock) - 1
        found = []
        for each in self.anomalies:
            first = opened.get(each.anomaly_id, each)
            start, detected = np.searchsorted(clock, (each.started_ms, first.detected_ms)).tolist()
            end = len(clock)
            if each.ended_ms is not None:
                end = int(np.searchsorted(clock, each.ended_ms, side="right"))
            start, detected = min(start, last), min(detected, last)
            end = max(end, start + 1)
            found.append(Episode(start, end, detected, first.score, each.peak_score))
        return found


class Measures(NamedTuple):
    """The numbers of one configuration over all series; None where they need labels.

    ``flagged_share`` and ``false_per_day`` belong beside ``f1``: one alert over everything has an F1 near 1.
    """

    configuration: str
    series: int
    labelled_series: int
    samples: int
    series_days: float
    alerts: int
    alerts_per_day: float  # per series
    flagged_share: float
    segments: int | None = None
    found: int | None = None
    false_alerts: int | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    f1_onset: float | None = None  # only the row that told counts, not how long the anomaly stayed open
    false_per_day: float | None = None  # per series
    delay_samples: float | None = None
    delay_s: float | None = None
    vus_pr: float | None = None  # of the level, mean over series with labelled rows


COLUMNS: Final = (
    ("alerts", "alerts", ",d"),
    ("alerts per series and day", "alerts_per_day", ".3f"),
    ("flagged", "flagged_share", ".2%"),
    ("segments found", "found", ",d"),
    ("of", "segments", ",d"),
    ("precision", "precision", ".2f"),
    ("recall", "recall", ".2f"),
    ("F1", "f1", ".2f"),
    ("F1 of onsets", "f1_onset", ".2f"),
    ("false per series and day", "false_per_day", ".3f"),
    ("median delay, samples", "delay_samples", ".1f"),
    ("median delay, s", "delay_s", ",.0f"),
    ("VUS-PR of level", "vus_pr", ".2f"),
)
"""Heading, field of `Measures` and format, for tables of people."""


def told(value: float | None, form: str) -> str:
    """A number for people, a dash where there is none."""
    return "–" if value is None or np.isnan(value) else format(value, form)  # noqa: RUF001 (a dash)


def replay(
    cfg: config.Config, series: Sequence[Labelled], progress: Callable[[int], None] = lambda _: None
) -> list[Replayed]:
    """Put all series through one engine, in order of time, as one partition would see them.

    Within a series the order of the input stays: a late sample is late. Nothing is held back to be put in
    order, whatever ``admission`` says, as in `tocsin score`. 46 bytes a sample in memory.
    """
    engine = Engine(cfg.engine, msgspec.structs.replace(cfg.admission, allowed_lateness_ms=0))
    index, ts_ms, values = _merged(series)
    names = [each.name for each in series]
    parts: list[Scored] = []
    for start in range(0, len(index), CHUNK):
        rows = slice(start, start + CHUNK)
        parts.append(engine.process(Samples(names, index[rows], ts_ms[rows], values[rows])))
        progress(len(index[rows]))
    return _split(series, parts)


def _merged(series: Sequence[Labelled]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """All samples by time; those of a series keep their order."""
    index = np.repeat(np.arange(len(series)), [len(each.ts_ms) for each in series])
    clock = np.concatenate([np.maximum.accumulate(each.ts_ms) for each in series])
    order = np.argsort(clock, kind="stable")
    ts_ms = np.concatenate([each.ts_ms for each in series])
    values = np.concatenate([each.values for each in series])
    return index[order], ts_ms[order], values[order]


def _split(series: Sequence[Labelled], parts: Sequence[Scored]) -> list[Replayed]:
    names = ("score", "level", "expected", "lower", "upper", "state", "anomaly_started_ms")
    index = np.concatenate([part.series_index for part in parts])
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    order = np.argsort(index, kind="stable")
    stops = np.cumsum([len(each.ts_ms) for each in series])
    events: dict[str, list[AnomalyEvent]] = {each.name: [] for each in series}
    for part in parts:
        for event in part.events:
            events[event.series].append(event)
    found = []
    for each, stop in zip(series, stops.tolist(), strict=True):
        rows = order[stop - len(each.ts_ms) : stop]
        score, level, expected, lower, upper, state, started = (column[rows] for column in columns)
        told_of = events[each.name]
        found.append(Replayed(each, score, level, expected, lower, upper, state, started, told_of))
    return found


def measure(name: str, replayed: Sequence[Replayed]) -> Measures:
    """The numbers; those that need labels over the series that have them, the others over all."""
    rows = sum(len(each.score) for each in replayed)
    flagged = sum(int(rows_of(each.episodes, len(each.score)).sum()) for each in replayed)
    days = sum(float(np.ptp(each.series.ts_ms)) / DAY_MS for each in replayed)
    alerts = sum(len(each.anomalies) for each in replayed)
    labelled = [each for each in replayed if each.series.labels is not None]
    return Measures(
        configuration=name,
        series=len(replayed),
        labelled_series=len(labelled),
        samples=rows,
        series_days=days,
        alerts=alerts,
        alerts_per_day=_ratio(alerts, days),
        flagged_share=_ratio(flagged, rows),
        **(_against_labels(labelled) if labelled else {}),
    )


def _against_labels(replayed: Sequence[Replayed]) -> dict[str, Any]:
    counts, onsets, areas = [], [], []
    delays: list[Delay] = []
    for each in replayed:
        ts_ms, labels, episodes = each.series.ts_ms, each.series.labels, each.episodes
        if labels is None:
            continue
        counts.append(compare_episodes(ts_ms, episodes, labels))
        onsets.append(compare_episodes(ts_ms, onsets_only(episodes), labels))
        delays += episode_delays(ts_ms, each.series.values, episodes, labels)
        areas.append(ev.vus_pr(np.nan_to_num(each.level.astype(np.float64), nan=0.0), labels))
    total = ev.sum_counts(counts)
    found = [area for area in areas if not np.isnan(area)]
    return {
        "segments": total.found + total.missed,
        "found": total.found,
        "false_alerts": total.false_episodes,
        "precision": total.precision,
        "recall": total.recall,
        "f1": total.f1,
        "f1_onset": ev.sum_counts(onsets).f1,
        "false_per_day": total.false_per_day,
        "delay_samples": _median([delay.samples for delay in delays]),
        "delay_s": _median([delay.ms / 1000 for delay in delays]),
        "vus_pr": float(np.mean(found)) if found else None,
    }


def agreements(runs: Sequence[Sequence[Replayed]]) -> list[list[float]]:
    """How far configurations tell the same anomalies, each with each; see `agreement`."""
    episodes = [[each.episodes for each in run] for run in runs]
    return [[agreement(ours, theirs) for theirs in episodes] for ours in episodes]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
