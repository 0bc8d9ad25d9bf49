"""The profile of the week: parts of it that are not what they are in other weeks, such as a working day off.

The mean of each part of three hours is held against what this part of the week was before, where an hour of
shift either way is no difference (summer time, a late start). How far means usually are from that is learned,
and so is the tail of it, as in `detectors.calibrate`; there is one judgement a part, with the first sample
after it, and its score stands until the next one. A part that differs teaches at most a few usual distances,
and what differs for a day is taken as a new level. All helpers of the loop stand in this file because numba's
cache notices a change in this file only.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from detectors.ensemble import Band
from detectors.protocol import F32, F64, Asked, Bools
from detectors.rows import Rows

PARTS: Final = 56
_PART_MS: Final = 10_800_000
ROW: Final = np.dtype(
    [
        ("first", "f8"),  # means are relative to it, so that float32 holds them
        ("sum", "f8"),  # of the part at hand, relative to `first`
        ("part", "i8"),  # its number since 1970, counted from 1; 0 before there is one
        ("count", "u4"),  # its samples
        ("above", "u4"),  # and how many of them are above what is usual
        ("usual", "f4"),  # samples in a part
        ("offset", "f4"),  # how far the level is from that of the means
        ("scale", "f4"),  # mean distance of parts from what they were before
        ("learned", "u4"),  # distances
        ("quantile", "f4"),  # where the tail of the surprise begins, and its mean excess
        ("excess", "f4"),
        ("excesses", "f4"),
        ("held", "f4"),  # score of the part before, where it is not quiet
        ("held_mean", "f4"),  # and what it was: mean, expected, how far a usual one may be from that
        ("held_expected", "f4"),
        ("held_width", "f4"),
        ("run", "i4"),  # parts in a row that are far, signed by side
        ("mean", "f4", (PARTS,)),
        ("seen", "u1", (PARTS,)),
    ]
)
SHARE: Final = 0.2
"""Of the alert budget, beside that of the detectors."""

QUIET: Final = 0.85
"""A lower score is."""

NAME: Final = "week"  # who speaks

_DAY_MS = 86_400_000.0
_LIMIT = 1e37
_KNOWN = 2  # weeks
_LEAST_LEARNED = 28  # distances before one is judged
_MOST = 0.75  # of its samples are on the side of its mean; what is odd for less time is not the part
_RELATIVE = 0.01  # a difference below 1 % of the level is none
_CLIP = 4.0  # usual distances that a part teaches at most
_SAMPLE_CLIP = 8.0  # and a sample, of a part of one sample; with more it grows as their noise does
_SHIFT = 1.0 / 3.0  # of a part: an hour
_RATE = 0.25  # of the means
_SCALE_RATE = 0.02
_OFFSET_RATE = 0.05
_FAR, _ADOPT = 4.0, 8  # distances that are far, and how many of them in a row are a new level
_WIDTH = 6.0  # usual distances on either side of the expected mean
_TAIL_SHARE = 0.02
_QUANTILE, _EXCESS, _LEAST_EXCESS, _PRIOR_WEIGHT = 2.1, 0.5, 0.3, 8.0
_LEAST_P, _MOST_P = 1e-7, 0.02


class Broken(NamedTuple):
    """Of *n* samples, the score of the part before, NaN where it was quiet; and its mean beside the usual."""

    score: F32
    mean: F64
    expected: F32
    lower: F32
    upper: F32

    @property
    def band(self) -> Band:
        return self.expected, self.lower, self.upper


class Weeks(Rows):
    """360 bytes a series and about 10 ns a sample. It says nothing in the first two weeks."""

    def __init__(self, alert_budget: float) -> None:
        super().__init__(ROW)
        self._budget = SHARE * alert_budget

    def judge(self, asked: Asked) -> Broken:
        """Judge the parts that end with *n* samples in order, then learn from them."""
        out = np.full((5, len(asked.slots)), np.nan, np.float32)
        _judge(
            self.array, self._budget, asked.slots, asked.local_ms, asked.values, _working(asked),
            asked.exposure_ms, out,
        )  # fmt: skip
        score, mean, *band = out
        return Broken(score, mean.astype(np.float64), *band)


def _working(asked: Asked) -> Bools:
    """What is learned: days off that are known have detectors of their own."""
    return asked.learn if asked.off is None else asked.learn & ~asked.off


@njit(cache=True, nogil=True, inline="always")
def _clipped(value: float, limit: float) -> Any:
    return min(max(value, -limit), limit)


@njit(cache=True, nogil=True, inline="always")
def _beyond(row: Any, at: int, mean: float) -> Any:
    """How far a mean is from that of its part of the week, an hour earlier or later included."""
    here = float(row.mean[at])
    before, after = row.mean[(at + PARTS - 1) % PARTS], row.mean[(at + 1) % PARTS]
    earlier, later = here + _SHIFT * (after - here), here + _SHIFT * (before - here)
    low, high = min(here, earlier, later), max(here, earlier, later)
    mean -= row.offset
    return mean - high if mean > high else min(mean - low, 0.0)


@njit(cache=True, nogil=True, inline="always")
def _is_most(row: Any, beyond: float) -> Any:
    side = row.above if beyond > 0.0 else row.count - row.above
    return side >= _MOST * row.count


@njit(cache=True, nogil=True, inline="always")
def _is_known(row: Any, at: int) -> Any:
    seen = row.seen
    return min(seen[at], seen[(at + 1) % PARTS], seen[(at + PARTS - 1) % PARTS]) >= _KNOWN


@njit(cache=True, nogil=True, inline="always")
def _learn_tail(row: Any, surprise: float) -> None:
    mean = (row.excesses * row.excess + _PRIOR_WEIGHT * _EXCESS) / (row.excesses + _PRIOR_WEIGHT)
    above = surprise > row.quantile
    if above:
        row.excesses = np.float32(min(row.excesses + 1.0, 400.0))
        row.excess += np.float32((min(surprise - row.quantile, 2.0 * mean) - row.excess) / row.excesses)
    gain = mean / (_TAIL_SHARE * min(row.learned + 200.0, 5000.0))
    row.quantile = np.float32(row.quantile + gain * ((1.0 if above else 0.0) - _TAIL_SHARE))


@njit(cache=True, nogil=True, inline="always")
def _score(row: Any, surprise: float, budget: float, exposure_ms: float) -> Any:
    weight = row.excesses + _PRIOR_WEIGHT
    mean = max((row.excesses * row.excess + _PRIOR_WEIGHT * _EXCESS) / weight, _LEAST_EXCESS)
    excess = surprise - row.quantile
    if excess <= 0.0:
        return 0.0
    p_alert = min(max(budget * exposure_ms / _DAY_MS, _LEAST_P), _MOST_P)
    return (-np.log(_TAIL_SHARE) + weight * np.log1p(excess / (mean * weight))) / -np.log(p_alert)


@njit(cache=True, nogil=True, inline="always")
def _learn(row: Any, at: int, mean: float, scale: float) -> None:
    """Move the mean of a part, the level and the usual distance by at most a few of those."""
    seen = int(row.seen[at])
    distance = mean - row.offset - row.mean[at]
    if seen > 0:
        limit = _CLIP * scale if row.learned >= _LEAST_LEARNED else abs(distance)
        size = min(abs(distance), limit)
        row.scale += np.float32(max(_SCALE_RATE, 1.0 / (row.learned + 1.0)) * (size - row.scale))
        row.learned += np.uint32(1)
        side = (1 if distance > 0.0 else -1) if abs(distance) > _FAR * scale else 0
        row.run = np.int32(row.run + side if side * row.run > 0 else side)
        rate = 0.5 if abs(row.run) >= _ADOPT else _OFFSET_RATE
        row.offset += np.float32(rate * (distance if abs(row.run) >= _ADOPT else _clipped(distance, limit)))
        distance = _clipped(distance, limit)
    row.mean[at] += np.float32(max(_RATE, 1.0 / (seen + 1.0)) * distance)
    if seen < 255:
        row.seen[at] += np.uint8(1)


@njit(cache=True, nogil=True)
def _end(row, budget, interval_ms):  # type: ignore[no-untyped-def]
    """The part at hand is over: judge it, then learn it."""
    row.held = np.float32(0.0)
    whole = row.count >= 0.5 * row.usual
    row.usual += np.float32(max(0.05, 1.0 / (row.learned + 1.0)) * (row.count - row.usual))
    if not whole:
        return
    at = row.part % PARTS
    mean = row.sum / row.count
    scale = max(float(row.scale), _RELATIVE * abs(mean + row.first), 1e-30)
    if row.learned == 0:
        row.quantile = np.float32(_QUANTILE)
    elif row.learned >= _LEAST_LEARNED and _is_known(row, at):
        beyond = _beyond(row, at, mean)
        surprise = np.log2(1.0 + abs(beyond) / scale)
        score = _score(row, surprise, budget, row.count * interval_ms) if _is_most(row, beyond) else 0.0
        _learn_tail(row, surprise)
        if score >= QUIET:
            row.held, row.held_mean = np.float32(score), np.float32(row.first + mean)
            row.held_expected = np.float32(row.first + row.offset + row.mean[at])
            row.held_width = np.float32(_WIDTH * scale)
    _learn(row, at, mean, scale)


@njit(cache=True, nogil=True)
def _judge(rows, budget, slots, local_ms, values, learn, exposure_ms, out):  # type: ignore[no-untyped-def]
    for i in range(slots.shape[0]):
        row = rows[slots[i]]
        x = _clipped(values[i], _LIMIT)
        if learn[i]:
            part = local_ms[i] // _PART_MS + 1
            if row.part == 0:
                row.first = x
            elif part != row.part:
                _end(row, budget, exposure_ms[i])
                row.sum, row.count, row.above = 0.0, np.uint32(0), np.uint32(0)
                if part != row.part + 1:
                    row.held = np.float32(0.0)
            row.part = part
            x -= row.first
            at = part % PARTS
            if row.learned >= _LEAST_LEARNED and row.seen[at] >= _KNOWN:
                expected = row.mean[at] + row.offset
                limit = _SAMPLE_CLIP * np.sqrt(max(float(row.usual), 1.0)) * max(float(row.scale), 1e-30)
                row.above += np.uint32(x > expected)
                x = expected + _clipped(x - expected, limit)
            row.sum += x
            row.count += np.uint32(1)
        if row.held > 0.0:
            out[0, i], out[1, i], out[2, i] = row.held, row.held_mean, row.held_expected
            out[3, i] = row.held_expected - row.held_width
            out[4, i] = row.held_expected + row.held_width
