"""Evidence of large deviations: distance from a level, from the last value and from the hour of the day.

Each distance is taken in units of its own slowly learned, clipped mean absolute size; the evidence is the
weighted sum of log2(1 + z), which no single heavy tail dominates. What is far for long on one side is adopted
as the new level. Times are UTC. All helpers of the loop stand in this file because numba's cache notices a
change in this file only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np
from numba import njit

from detectors.protocol import F64, I64, Bools, Scores
from detectors.row_detector import RowDetector

ROW: Final = np.dtype(
    [
        ("first", "f8"),  # the profile is relative to it, so that float32 holds it
        ("level", "f8"),
        ("last", "f8"),
        ("newest_ms", "i8"),
        ("interval_ms", "f4"),
        ("learned", "u4"),
        ("run", "i4"),  # samples in a row far from the level, signed by side
        ("spread", "f4"),  # mean clipped distance from the level, of the last value, from the hour
        ("move", "f4"),
        ("hour_spread", "f4"),
        ("quantum", "f4"),  # smallest step seen, 0 before there is one
        ("beyond", "u4"),  # what values were seen: 1 negative, 2 above one
        ("hour", "f4", (24,)),
        ("hour_seen", "u1", (24,)),
    ]
)
_LIMIT = 1e37  # values beyond it are taken as this, so that float32 state and bands stay finite
_LEVEL = 0.1  # level: about 20 samples, steps clipped at 3 spreads
_SCALE = 0.002  # spreads adapt over about 1,000 samples, clipped at 4 of them
_RELATIVE = 0.01  # a change below 1 % of the level is never large
_WEIGHT = (1.0, 1.0, 0.4)  # of level, last value, hour
_ADOPT = 20  # far samples in a row on one side before the level jumps
_HOUR_KNOWN = 5  # samples of an hour before its residual counts
_BAND = 6.0  # spreads on either side of the expected value
_HOUR_MS = 3_600_000


class Large(RowDetector):
    """Large deviations, learned robustly; about 0.1 us a sample and 190 bytes a series.

    Parameters: ``warm_up`` (samples before it is ready, 24: a day of hourly data).
    """

    name: ClassVar[str] = "large"
    version: ClassVar[int] = 1
    tail: ClassVar[str] = "two_tails"
    record: ClassVar[np.dtype[Any]] = ROW
    default_warm_up: ClassVar[int | None] = 24

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        said = np.empty((4, len(slots)), np.float32)
        ready = np.empty(len(slots), np.bool_)
        _step(self._rows.array, self._warm_up, slots, ts_ms, values, learn, said, ready)
        return Scores(said[0], said[1], said[2], said[3], ready)


@njit(cache=True, nogil=True, inline="always")
def _clipped(value: float, limit: float) -> Any:
    return min(max(value, -limit), limit)


@njit(cache=True, nogil=True, inline="always")
def _learn_level(row: Any, x: float, residual: float, floor: float) -> None:
    """Move the level by a clipped step; what is far for long on one side becomes the level."""
    far = max(3.0 * row.spread, floor)
    if row.learned < 20:
        row.level += max(_LEVEL, 1.0 / (row.learned + 1.0)) * residual
    else:
        row.level += _LEVEL * _clipped(residual, far)
    side = 0
    if abs(residual) > max(3.0 * row.spread, 3.0 * floor):
        side = 1 if residual > 0.0 else -1
    row.run = np.int32(min(max(row.run + side, -100), 100) if side * row.run > 0 else side)
    if abs(row.run) >= _ADOPT:
        row.level += 0.3 * (x - row.level)


@njit(cache=True, nogil=True, inline="always")
def _learn_spreads(row: Any, residual: float, move: float, off_hour: float, floor: float) -> None:
    rate = max(_SCALE, 1.0 / (row.learned + 1.0))
    a, b, c = abs(residual), abs(move), abs(off_hour)
    if row.learned > 20:
        a = min(a, max(4.0 * row.spread, floor))
        b = min(b, max(4.0 * row.move, floor))
        c = min(c, max(4.0 * row.hour_spread, floor))
    row.spread += np.float32(rate * (a - row.spread))
    row.move += np.float32(rate * (b - row.move))
    row.hour_spread += np.float32(rate * (c - row.hour_spread))


@njit(cache=True, nogil=True, inline="always")
def _learn_hour(row: Any, hour: int, x: float) -> None:
    seen = row.hour_seen[hour]
    step = x - row.first - row.hour[hour]
    if seen > 20:
        step = _clipped(step, 5.0 * row.hour_spread)
    row.hour[hour] += np.float32(max(0.01, 1.0 / (seen + 1.0)) * step)
    if seen < 255:
        row.hour_seen[hour] += np.uint8(1)


@njit(cache=True, nogil=True, inline="always")
def _learn_values(row: Any, x: float, move: float) -> None:
    if move != 0.0 and (row.quantum == 0.0 or abs(move) < row.quantum):
        row.quantum = np.float32(max(abs(move), 1e-37))
    row.beyond = np.uint32(row.beyond | (1 if x < 0.0 else 0) | (2 if x > 1.0 else 0))
    row.last = x
    if row.learned < 0xFFFFFFFF:
        row.learned += np.uint32(1)


@njit(cache=True, nogil=True, inline="always")
def _gap_factor(row: Any, ts_ms: int) -> Any:
    """After a gap a series may have wandered: spreads grow with the root of it, to five times."""
    if row.interval_ms <= 0.0:
        return 1.0
    return np.sqrt(min(max((ts_ms - row.newest_ms) / row.interval_ms - 0.5, 1.0), 25.0))


@njit(cache=True, nogil=True, inline="always")
def _learn_interval(row: Any, ts_ms: int) -> None:
    """A slow mean of clipped steps, which a gap does not move far."""
    gap_ms = float(ts_ms - row.newest_ms)
    if row.newest_ms > 0 and gap_ms > 0.0:
        if row.interval_ms == 0.0:
            row.interval_ms = np.float32(gap_ms)
        limit = 0.5 * row.interval_ms
        row.interval_ms += np.float32(0.05 * _clipped(gap_ms - row.interval_ms, limit))
    row.newest_ms = ts_ms


@njit(cache=True, nogil=True, inline="always")
def _band(row: Any, expected: float, width: float) -> tuple[float, float, float]:
    """Expected value and band, not beyond 0 and 1 where the series was never seen there."""
    low, high = expected - width, expected + width
    if row.beyond & 1 == 0:
        expected, low = max(expected, 0.0), max(low, 0.0)
        if row.beyond & 2 == 0:
            expected, high = min(expected, 1.0), min(high, 1.0)
    return expected, low, high


@njit(cache=True, nogil=True)
def _step(rows, warm_up, slots, ts_ms, values, learn, said, ready):  # type: ignore[no-untyped-def]
    for i in range(slots.shape[0]):
        row = rows[slots[i]]
        x = _clipped(values[i], _LIMIT)
        ready[i] = row.learned >= warm_up
        said[:, i] = np.nan
        new = row.learned == 0
        if new:
            if not learn[i]:
                continue
            row.first = row.level = row.last = x
        hour = (ts_ms[i] // _HOUR_MS) % 24
        known = row.hour_seen[hour] > 0
        of_hour = row.first + row.hour[hour] if known else row.level
        move = x - row.last
        quantum = row.quantum
        if move != 0.0 and (quantum == 0.0 or abs(move) < quantum):
            quantum = abs(move)
        floor = max(_RELATIVE * abs(row.level) + 1e-9, quantum)
        residual, off_hour = x - row.level, x - of_hour
        wider = _gap_factor(row, ts_ms[i])
        seasonal = row.hour_seen[hour] > _HOUR_KNOWN
        if ready[i]:
            evidence = _WEIGHT[0] * np.log2(1.0 + abs(residual) / (wider * max(row.spread, floor)))
            evidence += _WEIGHT[1] * np.log2(1.0 + abs(move) / (wider * max(row.move, floor)))
            if seasonal:
                evidence += _WEIGHT[2] * np.log2(1.0 + abs(off_hour) / max(row.hour_spread, floor))
            by_hour = seasonal and row.hour_spread < row.spread
            expected = of_hour if by_hour else row.level
            width = _BAND * max(row.hour_spread if by_hour else row.spread, floor)
            said[0, i] = evidence
            said[1, i], said[2, i], said[3, i] = _band(row, expected, width)
        if learn[i]:
            _learn_level(row, x, residual, floor)
            _learn_spreads(row, residual, move, off_hour, floor)
            _learn_hour(row, hour, x)
            _learn_values(row, x, move)
            _learn_interval(row, ts_ms[i])
