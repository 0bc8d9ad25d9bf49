"""What a new series borrows: scale, profile of the day and tail of the series of the same metric.

Series of one metric may differ in level by orders of magnitude, yet vary alike: either by the same share of
their level or by the same amount. Both are learned of the series that have grown, as means of logarithms, and
the one on which they agree more is lent, wider by how much they differ; where they agree on neither, nothing
is. The level is always the series' own. What is unusual is calibrated as if the metric were one series
(`detectors.calibrate`), to which the young belong as well: what they do at their start is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.calibrate import Calibrator
from detectors.ensemble import Band
from detectors.protocol import F32, I64, Asked, Bools, State
from detectors.rows import Rows, grown
from detectors.series import SeriesTable

SLOT: Final = np.dtype(
    [
        ("level", "f8"),  # while it is young: of the value without the profile
        ("slow", "f8"),  # later: a mean of two days
        ("first_ms", "i8"),
        ("newest_ms", "i8"),
    ]
)
METRIC: Final = np.dtype(
    [
        ("siblings", "u4"),  # series that have grown, ever
        ("negative", "u4"),  # whether a band of theirs goes below 0
        ("weight", "f4"),  # how many samples the means stand for, bounded
        ("hours", "u4"),  # of which the profile is known
        ("scale", "f4", (2,)),  # mean logarithm of half a band, as a share of the level and as it is
        ("scale_var", "f4", (2,)),
        ("level", "f4", (2,)),  # mean logarithm of the level, and asinh of it
        ("level_var", "f4", (2,)),
        ("hour", "f4", (2, 24)),  # profile of the day, as a share of the level and as it is
        ("hour_seen", "u2", (24,)),
    ]
)
NAME: Final = "siblings"  # who speaks
MOST_METRICS: Final = 10_000
"""Metrics that lend, the first that came; 340 bytes each."""

GROWN: Final = 96
"""Samples after which a series borrows no more, and lends."""

_FIRST = 8  # samples of its own before a series is judged: they are its level
_LEAST_SIBLINGS = 2
_EVERY = 8  # samples of a grown series of which one is learned
_MEMORY = 1000.0  # samples
_APART = 1.0  # logarithms that scales may differ, as a standard deviation
_LEAST_APART = 0.15
_WIDER = 2.0  # standard deviations of the siblings' scales by which the lent one is wider
_BANDS = 6.0  # mean absolute sizes in half a band
_LEVEL = 0.1  # level of the young: about 20 samples
_HOUR_KNOWN = 8  # samples
_HOUR_RATE = 0.01
_DAY_MS = 86_400_000
_LEAST = 1e-30
_MOST = 1e30


class Lent(NamedTuple):
    """What is said of young series on the word of their siblings, NaN where nothing is."""

    score: F32
    expected: F32
    lower: F32
    upper: F32

    @property
    def band(self) -> Band:
        return self.expected, self.lower, self.upper


class Siblings:
    """32 bytes a series and 340 a metric; about 5 ns a sample, 60 of a young series."""

    def __init__(self, alert_budget: float) -> None:
        self._slots, self._metrics = Rows(SLOT), Rows(METRIC)
        self._tail = Calibrator(alert_budget)
        self._numbers: dict[str, int] = {}
        self._metric_of: NDArray[np.int32] = np.zeros(0, np.int32)

    def reserve(self, slots: int) -> None:
        self._slots.reserve(slots)
        self._metric_of = grown(self._metric_of, slots)

    def evict(self, slots: I64) -> None:
        self._slots.evict(slots)

    def assign(self, table: SeriesTable, new: I64) -> None:
        """Look at series that have come."""
        for slot in new.tolist():
            metric = table.text(slot).partition("{")[0]
            number = self._numbers.get(metric, -1)
            if number < 0 and len(self._numbers) < MOST_METRICS:
                number = self._numbers[metric] = len(self._numbers)
            self._metric_of[slot] = number
        self._metrics.reserve(len(self._numbers))
        self._tail.reserve(len(self._numbers))

    def judge(self, asked: Asked, ages: NDArray[np.uint32], band: Band, young: Bools) -> Lent:
        """Judge the young among *n* samples in order, and learn from the others.

        ``ages`` are the samples that a series has had, the one at hand included, ``band`` what its own
        detectors expected, ``young`` whether it may borrow at all.
        """
        n = len(asked.slots)
        lent = Lent(*np.full((4, n), np.nan, np.float32))
        surprise = np.full(n, np.nan, np.float32)
        _judge(
            self._slots.array, self._metrics.array, self._metric_of, asked.slots, asked.local_ms,
            asked.values, asked.learn, ages, young, *band, surprise, lent.expected, lent.lower, lent.upper,
        )  # fmt: skip
        rows = np.flatnonzero(~np.isnan(surprise))
        if len(rows):
            ready, learn = np.ones(len(rows), np.bool_), asked.learn[rows]
            numbers = self._metric_of[asked.slots[rows]].astype(np.int64)
            score = self._tail.scores(numbers, surprise[rows], ready, learn, asked.exposure_ms[rows])
            lent.score[rows] = np.where(np.isnan(lent.expected[rows]), np.nan, score)
        return lent

    def snapshot(self) -> State:
        names = np.frombuffer(msgspec.msgpack.encode(list(self._numbers)), np.uint8)
        return {
            "slots": self._slots.snapshot(),
            "metrics": self._metrics.snapshot(),
            "tail": self._tail.snapshot(),
            "names": names,
        }

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot, to be followed by `assign` of all its series.

        Raises ``ValueError`` when its layout is another one.
        """
        self._slots.load(state["slots"])
        self._metrics.load(state["metrics"])
        self._tail.load(state["tail"])
        names = msgspec.msgpack.decode(state["names"].tobytes(), type=list[str])
        self._numbers = dict(zip(names, range(len(names)), strict=True))
        self.reserve(self._slots.slots)


@njit(cache=True, nogil=True, inline="always")
def _lending(metric: Any) -> Any:
    """Whether a share of the level (0) or an amount (1) is lent; -1 where siblings are few or disagree."""
    if metric.siblings < _LEAST_SIBLINGS:
        return -1
    how = 0 if metric.scale_var[0] <= metric.scale_var[1] else 1
    return how if metric.scale_var[how] <= _APART * _APART else -1


@njit(cache=True, nogil=True, inline="always")
def _profile(metric: Any, how: int, ts_ms: int) -> Any:
    """What the hour adds, between the middles of the hours; 0 until all are known."""
    if metric.hours < 24:
        return 0.0
    hours = (ts_ms % _DAY_MS) / 3_600_000.0 - 0.5
    low = int(np.floor(hours))
    a, b = float(metric.hour[how, low % 24]), float(metric.hour[how, (low + 1) % 24])
    found = a + (hours - low) * (b - a)
    return max(found, -0.9) if how == 0 else found


@njit(cache=True, nogil=True, inline="always")
def _size(value: float) -> Any:
    return min(max(abs(value), _LEAST), _MOST)


@njit(cache=True, nogil=True, inline="always")
def _where(level: float, how: int) -> Any:
    """A level on the scale on which siblings' levels are compared."""
    return np.log(_size(level)) if how == 0 else np.arcsinh(level)


@njit(cache=True, nogil=True, inline="always")
def _comes_to(metric: Any, how: int, level: float, x: float) -> Any:
    """Whether a series whose level is unlike that of its siblings moves to where they are."""
    middle, sd = metric.level[how], np.sqrt(metric.level_var[how])
    away = abs(_where(level, how) - middle)
    return away > 2.0 * max(sd, _LEAST_APART) and abs(_where(x, how) - middle) < away


@njit(cache=True, nogil=True, inline="always")
def _surprise(sizes: float) -> Any:
    """About -log10 of the tail probability of a deviation in mean absolute sizes, for Gaussian noise."""
    return 1.2 * np.log2(1.0 + sizes) if sizes < 2.9 else 2.36 + 3.0 * (np.log2(1.0 + sizes) - 1.963)


@njit(cache=True, nogil=True)
def _learn_scale(metric, x, expected, half):  # type: ignore[no-untyped-def]
    """Take in one band of a grown series."""
    metric.weight = np.float32(min(metric.weight + 1.0, _MEMORY))
    rate = 1.0 / metric.weight
    for how in range(2):
        log = np.log(_size(half / _size(expected)) if how == 0 else _size(half))
        off = log - metric.scale[how]
        metric.scale[how] += np.float32(rate * off)
        metric.scale_var[how] += np.float32(rate * ((1.0 - rate) * off * off - metric.scale_var[how]))
        off = _where(expected, how) - metric.level[how]
        metric.level[how] += np.float32(rate * off)
        metric.level_var[how] += np.float32(rate * ((1.0 - rate) * off * off - metric.level_var[how]))
    if x < 0.0:
        metric.negative = np.uint32(1)


@njit(cache=True, nogil=True)
def _learn_profile(row, metric, ts_ms, x, half, steps):  # type: ignore[no-untyped-def]
    """Move the slow level, and after a day the hour towards the distance from it."""
    since_ms = float(max(ts_ms - row.newest_ms, 0))
    row.newest_ms = ts_ms
    if row.first_ms == 0:
        row.first_ms, row.slow = ts_ms, x
        return
    row.slow += min(max(1.0 / steps, since_ms / (2.0 * _DAY_MS)), 1.0) * (x - row.slow)
    if ts_ms - row.first_ms < _DAY_MS:
        return
    hour = (ts_ms % _DAY_MS) // 3_600_000
    seen = metric.hour_seen[hour]
    rate = max(1.0 / (seen + 1.0), _HOUR_RATE)
    far = 20.0 * half
    off = min(max(x - row.slow, -far), far)
    metric.hour[0, hour] += np.float32(
        rate * (min(max(off / _size(row.slow), -3.0), 3.0) - metric.hour[0, hour])
    )
    metric.hour[1, hour] += np.float32(rate * (off - metric.hour[1, hour]))
    if seen < 65_535:
        metric.hour_seen[hour] += np.uint16(1)
        metric.hours += np.uint32(seen + 1 == _HOUR_KNOWN)


@njit(cache=True, nogil=True)
def _learn(row, metric, ts_ms, x, age, expected, half):  # type: ignore[no-untyped-def]
    """Take in a sample of a grown series; returns its surprise."""
    if row.first_ms == 0:
        metric.siblings += np.uint32(1)
    _learn_scale(metric, x, expected, half)
    _learn_profile(row, metric, ts_ms, x, half, (age - GROWN) // _EVERY + 1.0)
    return _surprise(_BANDS * abs(x - expected) / half)


@njit(cache=True, nogil=True)
def _lend(row, metric, ts_ms, x, age, learn):  # type: ignore[no-untyped-def]
    """Expected value, half of a band and surprise of a sample of a young series; then learn its level."""
    how = _lending(metric)
    profile = _profile(metric, how, ts_ms) if how >= 0 else 0.0
    bare = x / (1.0 + profile) if how == 0 else x - profile
    if age <= 1:
        row.level = bare
    expected = row.level * (1.0 + profile) if how == 0 else row.level + profile
    half = surprise = np.nan
    limit = _MOST
    if how >= 0:
        apart = max(np.sqrt(metric.scale_var[how]), _LEAST_APART)
        half = np.exp(metric.scale[how] + _WIDER * apart) * (1.0 + 1.0 / max(age - 1.0, 1.0))
        half *= _size(row.level) if how == 0 else 1.0
        comes = _comes_to(metric, how, row.level, bare)
        surprise = 0.0 if comes else _surprise(_BANDS * abs(x - expected) / half)
        limit = 0.5 * half if age > _FIRST else _MOST
    if learn:
        step = min(max(bare - row.level, -limit), limit)
        row.level += max(_LEVEL, 1.0 / max(age, 1)) * step
    return expected, half, surprise


@njit(cache=True, nogil=True)
def _judge(  # type: ignore[no-untyped-def]
    rows, metrics, metric_of, slots, ts_ms, values, learn, ages, young, expected, lower, upper,
    surprise, lent_expected, lent_lower, lent_upper,
):  # fmt: skip
    for i in range(slots.shape[0]):
        age = int(ages[i])
        if age > GROWN and age % _EVERY != 0:
            continue
        number = metric_of[slots[i]]
        if number < 0:
            continue
        row, metric, x = rows[slots[i]], metrics[number], values[i]
        if age > GROWN:
            half = max(upper[i] - expected[i], expected[i] - lower[i])
            if learn[i] and half > 0.0:
                surprise[i] = _learn(row, metric, ts_ms[i], x, age, expected[i], half)
            continue
        middle, half, found = _lend(row, metric, ts_ms[i], x, age, learn[i])
        if age > _FIRST and young[i] and not np.isnan(half):
            surprise[i], lent_expected[i] = found, middle
            low = middle - half
            lent_lower[i] = max(low, 0.0) if metric.negative == 0 else low
            lent_upper[i] = middle + half
