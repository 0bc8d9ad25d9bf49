"""Precision, recall and delay over labelled segments, with what guards against their abuse.

A labelled segment is found when an alert run overlaps it; an alert run is false when it
overlaps none (overlapping segments, Tatbul et al. 2018 at their loosest; as in Orion). One
alert over a whole series would score F1 near 1, so every result carries the share of rows
flagged and the false episodes per series-day.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY_MS: Final = 86_400_000
ONSET_HISTORY: Final = 30  # rows before a segment that say what was normal


@dataclass(frozen=True)
class SegmentCounts:
    """Counts of one series, or the sum over many (`sum_counts`)."""

    found: int
    missed: int
    false_episodes: int
    flagged_rows: int
    rows: int
    series_days: float

    @property
    def precision(self) -> float:
        """Share of alert episodes and found segments that are found segments; NaN when silent."""
        alerts = self.found + self.false_episodes
        return self.found / alerts if alerts else np.nan

    @property
    def recall(self) -> float:
        """Share of labelled segments that were found; NaN without labels."""
        segments = self.found + self.missed
        return self.found / segments if segments else np.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without labels and alerts."""
        total = 2 * self.found + self.missed + self.false_episodes
        return 2 * self.found / total if total else np.nan

    @property
    def false_per_day(self) -> float:
        """False episodes per series and day."""
        return self.false_episodes / self.series_days if self.series_days else np.nan

    @property
    def flagged_share(self) -> float:
        """Share of rows inside an alert run."""
        return self.flagged_rows / self.rows if self.rows else np.nan


def runs(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the half-open [start, end) ranges of True, shape (k, 2)."""
    edges = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    pairs = np.stack((np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)), axis=1)
    return pairs.astype(np.int64)


def compare_segments(
    ts_ms: NDArray[np.int64], flags: NDArray[np.bool_], labels: NDArray[np.bool_]
) -> SegmentCounts:
    """Compare the alert rows of one series with its labelled rows, both of length n."""
    segments, alerts = runs(labels), runs(flags)
    found = int(sum(flags[start:end].any() for start, end in segments))
    false = int(sum(not labels[start:end].any() for start, end in alerts))
    days = float(ts_ms[-1] - ts_ms[0]) / DAY_MS if len(ts_ms) > 1 else 0.0
    return SegmentCounts(found, len(segments) - found, false, int(flags.sum()), len(flags), days)


def sum_counts(counts: Iterable[SegmentCounts]) -> SegmentCounts:
    """Add the counts of many series, so that every segment weighs the same."""
    some = list(counts)
    return SegmentCounts(
        sum(c.found for c in some),
        sum(c.missed for c in some),
        sum(c.false_episodes for c in some),
        sum(c.flagged_rows for c in some),
        sum(c.rows for c in some),
        sum(c.series_days for c in some),
    )


def onset(values: NDArray[np.float64], start: int, end: int) -> int:
    """Return the row of a labelled segment where its anomaly becomes visible.

    People label generously: a window of ten rows around a spike of two. The onset is the
    first row that departs from the median of the 30 rows before the segment by at least half
    of the segment's largest departure. Without rows before it, it is the segment's start.
    """
    before = values[max(0, start - ONSET_HISTORY) : start]
    if len(before) == 0:
        return start
    departure = np.abs(values[start:end] - np.median(before))
    return start + int(np.argmax(departure >= 0.5 * departure.max()))


def detection_delays(
    values: NDArray[np.float64],
    flags: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    from_onset: bool = True,
) -> list[int]:
    """Samples from the onset (or the label's start) to the first flag, per found segment.

    A flag between the label's start and the onset counts as delay 0.
    """
    delays = []
    for start, end in runs(labels):
        if flags[start:end].any():
            first = int(start) + int(np.argmax(flags[start:end]))
            origin = onset(values, int(start), int(end)) if from_onset else int(start)
            delays.append(max(first - origin, 0))
    return delays
