"""What the pages compute from samples and answers: episodes, statistics, agreement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Values = NDArray[np.float64]

JOIN_SAMPLES: Final = 5
"""Flagged samples that are no farther apart belong to one episode."""


class Episode(NamedTuple):
    """Samples ``first`` to ``last``, both of them in it."""

    first: int
    last: int


class Statistics(NamedTuple):
    """Of the values that are there; NaN where there are too few. ``variation`` is deviation / |mean|."""

    samples: int
    gaps: int
    minimum: float
    maximum: float
    mean: float
    median: float
    deviation: float
    variation: float


def episodes(flags: Flags, join: int = JOIN_SAMPLES) -> list[Episode]:
    """Runs of flagged samples, in order."""
    at = np.flatnonzero(flags)
    if not len(at):
        return []
    cuts = np.flatnonzero(np.diff(at) > join)
    firsts, lasts = at[np.r_[0, cuts + 1]], at[np.r_[cuts, len(at) - 1]]
    return [Episode(int(a), int(b)) for a, b in zip(firsts, lasts, strict=True)]


def statistics(values: Values) -> Statistics:
    there = values[np.isfinite(values)]
    if not len(there):
        return Statistics(0, len(values), *[float("nan")] * 6)
    mean, deviation = float(there.mean()), float(there.std(ddof=1)) if len(there) > 1 else float("nan")
    return Statistics(
        len(there),
        len(values) - len(there),
        float(there.min()),
        float(there.max()),
        mean,
        float(np.median(there)),
        deviation,
        deviation / abs(mean) if mean else float("nan"),
    )


def agreement(one: Flags, other: Flags, slack: int = JOIN_SAMPLES) -> float:
    """Share of the episodes of both that the other has, too, within ``slack`` samples; NaN without any."""
    mine, theirs = episodes(one), episodes(other)
    if not mine and not theirs:
        return float("nan")
    shared = _met(mine, other, slack) + _met(theirs, one, slack)
    return shared / (len(mine) + len(theirs))


def _met(spans: list[Episode], flags: Flags, slack: int) -> int:
    return sum(bool(flags[max(0, each.first - slack) : each.last + slack + 1].any()) for each in spans)


def together(flags: Mapping[str, Flags]) -> list[tuple[Episode, list[str]]]:
    """Episodes of any of them, each with the names of those that take part; all have the same length."""
    if not flags:
        return []
    anyone = np.logical_or.reduce(list(flags.values()))
    return [
        (each, [name for name, own in flags.items() if own[each.first : each.last + 1].any()])
        for each in episodes(anyone)
    ]


def inside(ts_ms: NDArray[np.int64], spans: list[tuple[int, int]]) -> Flags:
    """Which times lie in one of the spans, ends included."""
    flags = np.zeros(len(ts_ms), np.bool_)
    for start, end in spans:
        flags[np.searchsorted(ts_ms, start) : np.searchsorted(ts_ms, end, "right")] = True
    return flags
