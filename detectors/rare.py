"""Evidence of rarity: ten features of the newest window, each held against how often it was seen.

A feature is cut into bins of asinh((u - median) / MAD), laid out on the first samples and counted; its
p-value is the mass of the bins no heavier than the one at hand. The evidence is the sum over features of
-log10 p beyond 2. It assumes no distribution and no period: it finds first occurrences that are not large.
All helpers of the loop stand in this file because numba's cache notices a change in this file only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np
from numba import njit

from detectors.protocol import F64, I64, Bools, Hint, Scores
from detectors.row_detector import RowDetector

_RING = 160  # newest samples: the longest feature takes 100, the bins are laid out on the first 150
_WARM_UP = 150
_FEATURES = 10
_BINS = 64  # 8 in asinh units on either side: 1,490 MAD
_HALF = _BINS // 2

ROW: Final = np.dtype(
    [
        ("first", "f8"),  # ring and profile are relative to it, so that float32 holds them
        ("learned", "u4"),
        ("total", "f4"),  # samples in the counts
        ("hour_spread", "f4"),
        ("newest_ms", "i8"),
        ("interval_ms", "f4"),
        ("gap", "f4"),  # the newest gap, in intervals
        ("since_gap", "u4"),  # samples since then
        ("place", "u4"),  # where in the ring the next sample goes
        ("middle", "f4", (_FEATURES,)),
        ("mad", "f4", (_FEATURES,)),
        ("hour", "f4", (24,)),
        ("hour_seen", "u1", (24,)),
        ("ring", "f4", (_RING,)),
        ("count", "u1", (_FEATURES, _BINS)),
    ]
)
_REACH = (1, 5, 20, 100, 2, 10, 30, 100, 20, 1)  # samples that a feature looks back on
_GAP = 5.0  # intervals: a longer pause is a gap, and so is a quarter of what a feature looks back on
_LIMIT = 1e37
_VALUE, _SPREAD = np.uint8(Hint.VALUE), np.uint8(Hint.SPREAD)
_DRIFT, _PATTERN = np.uint8(Hint.DRIFT), np.uint8(Hint.PATTERN)
_WIDTH = 0.25  # of a bin
_SHARED = 0.5  # weight of the neighbouring bins: no luck of bin edges
_MEMORY = 8000.0  # counts halve here
_LEAST_P = 1.0 / 1500.0  # rarer than this is not believed
_COMMON = 0.01  # a bin with this share of all samples does not surprise
_LEFT = 12  # bins between the first median and the newest before the bins are laid out again
_SCALE = 0.002
_HOUR_MS = 3_600_000


class Rare(RowDetector):
    """Rare windows; about 0.7 us a sample and 1.5 KB a series, of which 640 bytes are a window.

    It has no parameters, and no band.
    """

    name: ClassVar[str] = "rare"
    version: ClassVar[int] = 2
    tail: ClassVar[str] = "clusters"
    record: ClassVar[np.dtype[Any]] = ROW

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        surprise = np.empty(len(slots), np.float32)
        ready = np.empty(len(slots), np.bool_)
        hint = np.zeros(len(slots), np.uint8)
        _step(self._rows.array, slots, ts_ms, values, learn, surprise, ready, hint)
        nothing = np.full(len(slots), np.nan, np.float32)
        return Scores(surprise, nothing, nothing.copy(), nothing.copy(), ready, hint)


@njit(cache=True, nogil=True, inline="always")
def _clipped(value: float, limit: float) -> Any:
    return min(max(value, -limit), limit)


@njit(cache=True, nogil=True, inline="always")
def _sum(ring: Any, place: int, start: int, stop: int) -> Any:
    """Sum of the samples from ``start`` to before ``stop`` steps back, in two runs without a wrap."""
    total = 0.0
    last = min(stop, place + 1)
    for j in range(start, last):
        total += ring[place - j]
    for j in range(max(start, last), stop):
        total += ring[place - j + _RING]
    return total


@njit(cache=True, nogil=True)
def _features(ring, place, many, profile, out):  # type: ignore[no-untyped-def]
    """Features of the window of ``many`` samples that ends in ``place``; no profile is NaN."""
    x = float(ring[place])
    length = min(many, 100)
    s5 = _sum(ring, place, 0, min(length, 5))
    s10 = s5 + _sum(ring, place, 5, min(length, 10))
    s20 = s10 + _sum(ring, place, 10, min(length, 20))
    s30 = s20 + _sum(ring, place, 20, min(length, 30))
    s = s30 + _sum(ring, place, 30, length)
    m10, m20, m100 = s10 / min(length, 10), s20 / min(length, 20), s / length
    squares = 0.0
    at = place
    for _ in range(min(length, 10)):
        d = ring[at] - m10
        squares += d * d
        at = at - 1 if at > 0 else _RING - 1
    if np.isnan(profile):
        profile = m100
    out[0], out[1], out[2], out[3] = x, s5 / min(length, 5), m20, m100
    out[4] = x - ring[place - 1 if place > 0 else _RING - 1] if many > 1 else 0.0
    out[5] = np.sqrt(squares / min(length, 10))
    out[6], out[7] = x - s30 / min(length, 30), x - m100
    out[8], out[9] = m20 - profile, x - profile


@njit(cache=True, nogil=True, inline="always")
def _bin(u: float, middle: float, mad: float) -> Any:
    """Bin of a feature; one that never moved has its first step at 5 MAD (see `_count`)."""
    u -= middle
    if u == 0.0:
        return _HALF
    scaled = u / mad if mad > 0.0 else (5.0 if u > 0.0 else -5.0)
    return min(_BINS - 1, max(0, int(np.floor(np.arcsinh(scaled) / _WIDTH)) + _HALF))


@njit(cache=True, nogil=True)
def _lay_out(row, out):  # type: ignore[no-untyped-def]
    """Median and MAD of every feature over the first samples, and their counts."""
    seen = np.empty((_WARM_UP, _FEATURES))
    for i in range(_WARM_UP):
        _features(row.ring, i, i + 1, np.nan, out)
        seen[i] = out
    for j in range(_FEATURES):
        row.middle[j] = np.median(seen[:, j])
        distance = np.abs(seen[:, j] - row.middle[j])
        mad = np.median(distance)
        row.mad[j] = mad if mad > 0.0 else np.mean(distance)
        for i in range(_WARM_UP):
            b = _bin(seen[i, j], row.middle[j], row.mad[j])
            row.count[j, b] += np.uint8(1)
    row.total = np.float32(_WARM_UP)


@njit(cache=True, nogil=True)
def _rarity(row, bins, each):  # type: ignore[no-untyped-def]
    """Surprise beyond 2 of ``each`` feature, and summed; a feature that spans a gap (bin -1) has none."""
    found = 0.0
    for j in range(_FEATURES):
        each[j] = 0.0
        if bins[j] < 0:
            continue
        count, b = row.count[j], bins[j]
        if count[b] >= _COMMON * row.total:
            continue
        own = float(count[b])
        if b > 0:
            own += _SHARED * count[b - 1]
        if b < _BINS - 1:
            own += _SHARED * count[b + 1]
        mass = before = 0.0
        here = float(count[0])
        for q in range(_BINS):
            after = float(count[q + 1]) if q < _BINS - 1 else 0.0
            if here + _SHARED * (before + after) <= own:
                mass += here
            before, here = here, after
        p = max((mass + 1.0) / (row.total + 1.0), _LEAST_P)
        each[j] = max(0.0, -np.log10(p) - 2.0)
        found += each[j]
    return found


@njit(cache=True, nogil=True, inline="always")
def _hint(each: Any) -> Any:
    """What speaks: values and means without a step are a drift; a usual value after a step, though not at
    this hour, is a broken pattern, and a step alone is a wider spread.
    """
    step = each[4] + each[5] + each[6]
    season = each[8] + each[9]
    if max(each[0], each[1]) + max(each[2], each[3]) + season > 2.0 * step:
        return _DRIFT
    if each[0] > 0.0:
        return _VALUE
    return _PATTERN if season > 0.0 else _SPREAD


@njit(cache=True, nogil=True, inline="always")
def _learn_gap(row: Any, ts_ms: int) -> None:
    """How long ago the newest gap is; the interval is a slow mean of clipped steps."""
    pause_ms = float(ts_ms - row.newest_ms)
    if row.learned > 0 and pause_ms > 0.0:
        if row.interval_ms == 0.0:
            row.interval_ms = np.float32(pause_ms)
        limit = 0.5 * row.interval_ms
        gap = pause_ms / row.interval_ms
        row.interval_ms += np.float32(0.05 * _clipped(pause_ms - row.interval_ms, limit))
        row.since_gap = min(row.since_gap + np.uint32(1), np.uint32(1000))
        if gap > _GAP:
            row.gap, row.since_gap = np.float32(gap), np.uint32(0)
    row.newest_ms = ts_ms


@njit(cache=True, nogil=True, inline="always")
def _value(row: Any, j: int, b: int) -> Any:
    """The middle of a bin, in units of the feature."""
    return row.middle[j] + row.mad[j] * np.sinh((b - _HALF + 0.5) * _WIDTH)


@njit(cache=True, nogil=True)
def _lay_again(row, j):  # type: ignore[no-untyped-def]
    """Move the bins of a feature to where its values are now, when most have left the first layout."""
    count = row.count[j].astype(np.float64)
    half = 0.5 * count.sum()
    mass, middle = count[0], 0
    while mass < half and middle < _BINS - 1:
        middle += 1
        mass += count[middle]
    if abs(middle - _HALF) < _LEFT or row.mad[j] == 0.0:
        return
    values = np.empty(_BINS)
    for q in range(_BINS):
        values[q] = _value(row, j, q)
    distance = np.abs(values - values[middle])
    order = np.argsort(distance)
    mass = 0.0
    mad = row.mad[j]
    for q in order:
        mass += count[q]
        mad = max(distance[q], mad)
        if mass >= half:
            break
    row.middle[j], row.mad[j] = _clipped(values[middle], _LIMIT), min(mad, _LIMIT)
    row.count[j, :] = np.uint8(0)
    for q in range(_BINS):
        b = _bin(values[q], row.middle[j], row.mad[j])
        row.count[j, b] = np.uint8(min(row.count[j, b] + count[q], 255.0))


@njit(cache=True, nogil=True)
def _count(row, bins, seen):  # type: ignore[no-untyped-def]
    for j in range(_FEATURES):
        if row.mad[j] == 0.0 and seen[j] != row.middle[j]:
            row.mad[j] = max(abs(seen[j] - row.middle[j]) / 5.0, 1e-37)
        if (
            bins[j] >= 0 and row.count[j, bins[j]] < 255
        ):  # a bin with so many is common however many there are
            row.count[j, bins[j]] += np.uint8(1)
    row.total += np.float32(1.0)
    if row.total >= _MEMORY:
        row.total *= np.float32(0.5)
        for j in range(_FEATURES):
            for q in range(_BINS):
                row.count[j, q] = row.count[j, q] >> 1
            _lay_again(row, j)


@njit(cache=True, nogil=True, inline="always")
def _learn_hour(row: Any, hour: int, x: float, off_hour: float) -> None:
    size = abs(off_hour)
    if row.learned > 20:
        size = min(size, max(4.0 * row.hour_spread, 1e-9))
    row.hour_spread += np.float32(max(_SCALE, 1.0 / (row.learned + 1.0)) * (size - row.hour_spread))
    seen = row.hour_seen[hour]
    step = x - row.hour[hour]
    if seen > 20:
        step = _clipped(step, 5.0 * row.hour_spread)
    row.hour[hour] += np.float32(max(0.01, 1.0 / (seen + 1.0)) * step)
    if seen < 255:
        row.hour_seen[hour] += np.uint8(1)


@njit(cache=True, nogil=True)
def _step(rows, slots, ts_ms, values, learn, surprise, ready, hint):  # type: ignore[no-untyped-def]
    seen = np.zeros(_FEATURES)
    each = np.zeros(_FEATURES)
    bins = np.zeros(_FEATURES, np.int64)
    for i in range(slots.shape[0]):
        row = rows[slots[i]]
        surprise[i] = np.nan
        ready[i] = row.learned >= _WARM_UP
        if not (ready[i] or learn[i]):
            continue
        value = _clipped(values[i], _LIMIT)
        if row.learned == 0:
            row.first = value
        x = value - row.first
        place = int(row.place)
        before = row.ring[place]
        row.ring[place] = x
        hour = (ts_ms[i] // _HOUR_MS) % 24
        known = row.hour_seen[hour] > 0
        profile = float(row.hour[hour]) if known else np.nan
        _features(row.ring, place, int(row.learned) + 1, profile, seen)
        pause = (ts_ms[i] - row.newest_ms) / max(float(row.interval_ms), 1.0)
        gap, since = (pause, 0) if pause > _GAP else (float(row.gap), int(row.since_gap) + 1)
        if ready[i]:
            for j in range(_FEATURES):
                spans = since + 1 < _REACH[j] and gap > max(_GAP, 0.25 * _REACH[j])
                bins[j] = -1 if spans else _bin(seen[j], row.middle[j], row.mad[j])
            surprise[i] = _rarity(row, bins, each)
            hint[i] = _hint(each)
        if not learn[i]:
            row.ring[place] = before
            continue
        _learn_hour(row, hour, x, x - profile if known else seen[7])
        _learn_gap(row, ts_ms[i])
        if ready[i]:
            _count(row, bins, seen)
        elif row.learned == _WARM_UP - 1:
            _lay_out(row, seen)
        row.place = np.uint32(place + 1 if place + 1 < _RING else 0)
        if row.learned < 0xFFFFFFFF:
            row.learned += np.uint32(1)
