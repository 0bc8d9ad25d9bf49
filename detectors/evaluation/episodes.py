"""Episodes as what is measured: each counts once, wherever it lies, and is known from its detection on.

`detectors.evaluation.segments` compares rows of flags, where two episodes that touch are one run. Here the
spans are those that the events tell, so that a number means what a person was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.segments import DAY_MS, SegmentCounts, onset, runs


class Episode(NamedTuple):
    """Rows ``start`` to ``end`` (half-open), told at row ``detected`` with ``score``."""

    start: int
    end: int
    detected: int
    score: float
    peak: float = np.nan


class Delay(NamedTuple):
    """From the onset of a labelled segment to the first alert in it."""

    samples: int
    ms: int


def rows_of(episodes: Sequence[Episode], n: int) -> NDArray[np.bool_]:
    """True inside any of the episodes, for *n* rows."""
    flags = np.zeros(n, np.bool_)
    for episode in episodes:
        flags[episode.start : episode.end] = True
    return flags


def onset_scores(episodes: Sequence[Episode], n: int) -> NDArray[np.float64]:
    """The score of each episode at the row that told of it, 0 elsewhere: an alert is one row, not a run."""
    scores = np.zeros(n)
    for episode in episodes:
        scores[episode.detected] = max(scores[episode.detected], episode.score)
    return scores


def onsets_only(episodes: Sequence[Episode]) -> list[Episode]:
    """The same episodes cut down to the row that told of them: no credit for staying open."""
    return [each._replace(start=each.detected, end=each.detected + 1) for each in episodes]


def compare_episodes(
    ts_ms: NDArray[np.int64], episodes: Sequence[Episode], labels: NDArray[np.bool_]
) -> SegmentCounts:
    """Compare the episodes of one series with its labelled rows.

    A segment is found when an episode overlaps it; an episode is false when it overlaps none.
    """
    flags = rows_of(episodes, len(labels))
    segments = runs(labels)
    found = int(sum(flags[start:end].any() for start, end in segments))
    false = sum(not labels[each.start : each.end].any() for each in episodes)
    days = float(ts_ms[-1] - ts_ms[0]) / DAY_MS if len(ts_ms) > 1 else 0.0
    return SegmentCounts(found, len(segments) - found, false, int(flags.sum()), len(labels), days)


def episode_delays(
    ts_ms: NDArray[np.int64],
    values: NDArray[np.float64],
    episodes: Sequence[Episode],
    labels: NDArray[np.bool_],
) -> list[Delay]:
    """For each labelled segment that is found, how long after its visible onset that was told.

    An episode told before the onset has delay 0. Gaps (NaN) in the values are passed over.
    """
    found = []
    for start, end in runs(labels).tolist():
        told = [each.detected for each in episodes if each.start < end and each.end > start]
        if told:
            visible = onset(_filled(values[:end]), start, end)
            late = max(min(told), visible)
            found.append(Delay(late - visible, int(ts_ms[late] - ts_ms[visible])))
    return found


def agreement(ours: Sequence[Sequence[Episode]], theirs: Sequence[Sequence[Episode]]) -> float:
    """Share of the episodes of two configurations, series by series, that the other one has too.

    1 when each episode overlaps one of the other, NaN when there are none.
    """
    shared = total = 0
    for a, b in zip(ours, theirs, strict=True):
        shared += sum(any(x.start < y.end and y.start < x.end for y in b) for x in a)
        shared += sum(any(x.start < y.end and y.start < x.end for x in a) for y in b)
        total += len(a) + len(b)
    return shared / total if total else np.nan


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaps take the value before them (the first ones that of the first value)."""
    present = np.isfinite(values)
    if present.all() or not present.any():
        return values
    newest = np.maximum.accumulate(np.where(present, np.arange(len(values)), int(np.argmax(present))))
    filled: NDArray[np.float64] = values[newest]
    return filled
