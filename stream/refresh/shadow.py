"""The shadow report: how a new model would have done on the newest history, beside the one in use."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.batch import Artifact, History
from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.event import AnomalyEvent
from schemas.request import Refit
from stream.refresh.training import Spans

_ONE_FIRST: Final = (slice(0, 1), slice(1, None))
"""A series is there with its first sample, and can adopt then."""


class Judged(NamedTuple):
    """What one artifact says of the newest history."""

    alerts: NDArray[np.bool_]  # for each sample, or moment of a group
    spans: list[tuple[int, int]]  # of anomalies


def shadow(
    engine: config.Engine,
    shadow_ms: int,
    asked: Refit,
    history: History,
    labelled: Spans,
    made: Artifact,
    serving: Artifact | None,
) -> dict[str, Any]:
    """The report as it stands in the manifest; ``engine`` has the one detector.

    ``agreement``: the share of samples on which both are above the threshold or both below.
    ``false_alarms``: anomalies outside labelled incidents. ``caught``: labelled incidents with an anomaly.
    """
    begin = np.searchsorted(history.ts_ms, asked.until_ms - shadow_ms)
    recent = History(history.ts_ms[begin:], history.values[begin:], history.channels)
    inside = [span for span in labelled if span[1] >= asked.until_ms - shadow_ms]
    found = _judge(engine, asked, recent, made)
    report = {"samples": len(recent.ts_ms), "labelled": len(inside), **_told("", found, inside)}
    if serving is not None:
        before = _judge(engine, asked, recent, serving)
        agreement = float(np.mean(found.alerts == before.alerts)) if len(recent.ts_ms) else 1.0
        report |= {"agreement": round(agreement, 4), "serving": asked.serving}
        report |= _told("serving_", before, inside)
    return report


def _told(prefix: str, judged: Judged, labelled: Spans) -> dict[str, Any]:
    caught = [any(_overlap(s, each) for s in judged.spans) for each in labelled]
    false = [not any(_overlap(s, each) for each in labelled) for s in judged.spans]
    return {f"{prefix}false_alarms": sum(false), f"{prefix}caught": sum(caught)}


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _judge(engine: config.Engine, asked: Refit, recent: History, artifact: Artifact) -> Judged:
    """By the worker's engine with this detector alone."""
    one = Engine(engine, config.Admission())
    names, count = recent.channels or (asked.series,), len(recent.ts_ms)
    events: list[AnomalyEvent] = []
    scores: list[NDArray[np.float32]] = []
    for part in _ONE_FIRST:
        ts_ms = recent.ts_ms[part]
        index = np.tile(np.arange(len(names)), len(ts_ms))
        values = recent.values[part].reshape(-1)
        said = one.process(Samples(names, index, np.repeat(ts_ms, len(names)), values))
        if count:
            one.adopt(asked.series, asked.detector, artifact)
        scores.append(said.score)
        events += [event for event in said.events if event.series == asked.series]
    spans = {event.anomaly_id: (event.started_ms, event.ended_ms or event.detected_ms) for event in events}
    if not recent.channels:
        return Judged(np.concatenate(scores) >= 1.0, list(spans.values()))
    alerts = np.zeros(count, np.bool_)  # a group has no scores of its own on the way
    for first, last in spans.values():
        alerts |= (recent.ts_ms >= first) & (recent.ts_ms <= last)
    return Judged(alerts, list(spans.values()))
