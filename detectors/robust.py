"""The default detector: distance from robust levels, last value and seasonal profile, in one fused loop.

Three distances of a sample are taken, each in units of its own slowly learned, clipped mean absolute size:
from the expected value (a fast level, with the seasonal profile where that has earned it), from the last
value, and from the slow level. The evidence is the sum of log2(1 + z), which no single heavy tail dominates;
it is mapped to about -log10 of the tail probability for Gaussian noise, and `detectors.calibrate` corrects it
per series.

The profile is an offset from the slow level: 24 hours of the day, interpolated between their middles, and 84
pairs of hours of the week on top. A bin is a clipped running mean, and counts for little until it has been
visited on several days. Times are UTC. All helpers of the loop stand in this file because numba's cache
notices a change in this file only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np
from numba import njit

from detectors.protocol import F64, I64, Bools, Scores
from detectors.row_detector import RowDetector

ROW: Final = np.dtype(
    [
        ("learned", "u4"),
        ("run", "i4"),  # samples in a row far from the slow level, signed by side
        ("newest_ms", "i8"),
        ("last", "f8"),
        ("level", "f8"),  # fast level of the value
        ("rest", "f8"),  # fast level of the value without its profile
        ("slow", "f8"),  # slow level of the value without its profile
        ("run_mean", "f8"),
        ("interval_ms", "f4"),
        ("spread", "f4"),  # mean clipped distance from the expected value
        ("move", "f4"),  # from the last value
        ("slow_spread", "f4"),  # from the slow level
        ("jump", "f4"),  # mean size of moves that are not zero
        ("jumps", "f4"),  # how many of them, bounded
        ("plain_error", "f4"),  # of the level alone, and of level and profile: the better one is used
        ("season_error", "f4"),
        ("broken", "f4"),  # share of values that are not whole numbers
        ("day", "f4", (24,)),  # profile by hour of the day, and by pairs of hours of the week on top
        ("week", "f4", (84,)),
        ("day_seen", "u2", (24,)),  # samples learned, saturating
        ("week_seen", "u2", (84,)),
    ]
)
_LIMIT = 1e38  # values beyond it are taken as this, so that float32 state and bands stay finite
_FAST = 0.05  # rate of the fast levels per sample
_SCALE = 0.002  # rate of the spreads
_CLIP = 4.0  # what one sample may teach, in spreads
_FAR = 4.0  # spreads from the slow level that count towards a new normal
_ADOPT = 48  # samples in a row that make a new normal
_RELATIVE = 5e-4  # no spread is smaller than this share of the level
_AHEAD = 32  # samples whose rows are fetched together
_BAND = 6.0  # spreads on either side of the expected value
_SLOW_MS = 3 * 86_400_000.0
_HOUR_MS = 3_600_000
_DAY_MEMORY = 7.0  # visits of a bin
_WEEK_MEMORY = 4.0
_WEEK_START = 3 * 24 * _HOUR_MS  # 1970-01-01 was a Thursday: the week begins on Monday


class Robust(RowDetector):
    """Robust distances with clipped learning; about 0.1 us a sample and 740 bytes a series.

    Parameters: ``warm_up`` (samples before it is ready, 32).
    """

    name: ClassVar[str] = "robust"
    version: ClassVar[int] = 2
    record: ClassVar[np.dtype[Any]] = ROW
    default_warm_up: ClassVar[int | None] = 32

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        said = np.empty((4, len(slots)), np.float32)
        ready = np.empty(len(slots), np.bool_)
        rows = self._rows.array
        lines = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
        _step(rows, lines, self._warm_up, slots, ts_ms, values, learn, said, ready)
        return Scores(said[0], said[1], said[2], said[3], ready)


@njit(cache=True, nogil=True, inline="always")
def _clipped(value: float, limit: float) -> Any:
    return min(max(value, -limit), limit)


@njit(cache=True, nogil=True, inline="always")
def _offset(row: Any, ts_ms: int, interval_ms: float) -> Any:
    """What the profile adds to the level at a time; 0 where it knows nothing."""
    hours = (ts_ms % (24 * _HOUR_MS)) / _HOUR_MS - 0.5
    low = int(np.floor(hours))
    share = hours - low
    visit = _HOUR_MS / max(interval_ms, 1.0)
    first, second = low % 24, (low + 1) % 24
    a = row.day[first] * row.day_seen[first] / (row.day_seen[first] + visit + 1.0)
    b = row.day[second] * row.day_seen[second] / (row.day_seen[second] + visit + 1.0)
    pair = ((ts_ms + _WEEK_START) // (2 * _HOUR_MS)) % 84
    seen = float(row.week_seen[pair])
    return a + share * (b - a) + row.week[pair] * seen / (seen + 4.0 * visit + 1.0)


@njit(cache=True, nogil=True, inline="always")
def _learn_profile(row: Any, ts_ms: int, interval_ms: float, deviation: float, clip: float) -> None:
    """Move the bins of a time towards a deviation from the level, by at most ``clip`` a visit's share."""
    hour = (ts_ms % (24 * _HOUR_MS)) // _HOUR_MS
    pair = ((ts_ms + _WEEK_START) // (2 * _HOUR_MS)) % 84
    visit = max(_HOUR_MS / max(interval_ms, 1.0), 1.0)
    seen = row.day_seen[hour]
    rate = max(1.0 / (seen + 1.0), 1.0 / (visit * _DAY_MEMORY))
    row.day[hour] += np.float32(rate * min(max(deviation - row.day[hour], -clip), clip))
    if seen < 65_535:
        row.day_seen[hour] += np.uint16(1)
    rest = deviation - row.day[hour]
    seen = row.week_seen[pair]
    rate = max(1.0 / (seen + 1.0), 1.0 / (2.0 * visit * _WEEK_MEMORY))
    row.week[pair] += np.float32(rate * min(max(rest - row.week[pair], -clip), clip))
    if seen < 65_535:
        row.week_seen[pair] += np.uint16(1)


@njit(cache=True, nogil=True, inline="always")
def _floor(row: Any) -> Any:
    """The least spread: a share of the level, of a usual jump, and half a unit for whole numbers."""
    floor = max(_RELATIVE * abs(row.slow), 1e-30)
    floor = max(floor, 0.25 * row.jump * min(row.jumps / 8.0, 1.0))
    return max(floor, 0.5) if row.broken < 0.01 else floor


@njit(cache=True, nogil=True, inline="always")
def _season_weight(row: Any) -> Any:
    """0 to 1: how much the profile has earned by lowering the error of the level."""
    if row.season_error >= row.plain_error:
        return 0.0
    return min(4.0 * (1.0 - row.season_error / row.plain_error), 1.0)


@njit(cache=True, nogil=True, inline="always")
def _surprise(evidence: float) -> Any:
    """About -log10 of the tail probability of the summed evidence when the noise is Gaussian."""
    return 0.28 * evidence if evidence < 6.0 else 1.68 + 1.1 * (evidence - 6.0)


@njit(cache=True, nogil=True, inline="always")
def _first(row: Any, x: float, ts_ms: int) -> None:
    row.level = row.rest = row.slow = row.last = x
    row.newest_ms = ts_ms
    row.broken = np.float32(1.0 if x != np.rint(x) else 0.0)
    row.learned = np.uint32(1)


@njit(cache=True, nogil=True, inline="always")
def _learn_interval(row: Any, gap_ms: int) -> None:
    """Move the running median of the distances, exactly onto the new one when that is near."""
    if gap_ms <= 0:
        return
    if row.interval_ms == 0.0 or abs(gap_ms - row.interval_ms) <= 0.02 * row.interval_ms:
        row.interval_ms = np.float32(gap_ms)
    else:
        factor = 1.0 + max(0.02, 1.0 / (1.0 + row.learned))
        row.interval_ms = np.float32(row.interval_ms * (factor if gap_ms > row.interval_ms else 1.0 / factor))


@njit(cache=True, nogil=True, inline="always")
def _learn_jump(row: Any, move: float) -> None:
    """The mean size of moves, robust against a single huge one once there are a few."""
    if move == 0.0:
        return
    count = min(row.jumps + 1.0, 200.0)
    size = min(move, 10.0 * row.jump) if row.jumps >= 8.0 else move
    row.jump += np.float32((size - row.jump) / count)
    row.jumps = np.float32(count)


@njit(cache=True, nogil=True, inline="always")
def _adopt(row: Any, x: float, distance: float, far: float) -> None:
    """Take a level that lasts as the new normal."""
    side = 1 if distance > far else -1 if distance < -far else 0
    if side == 0 or side * row.run < 0:
        row.run = np.int32(side)
        row.run_mean = x
        return
    row.run += np.int32(side)
    row.run_mean += 0.1 * (x - row.run_mean)
    if abs(row.run) >= _ADOPT:
        row.slow = row.run_mean
        row.rest += row.run_mean - row.level
        row.level = row.run_mean
        row.run = np.int32(0)


@njit(cache=True, nogil=True, inline="always")
def _learn(  # type: ignore[no-untyped-def]
    row, x, ts_ms, steps, interval_ms, season, residual, distance, spread, move_spread, slow_spread
):
    """Learn a sample, by at most a few spreads of each quantity."""
    n = float(row.learned)
    clip = _CLIP + 30.0 / n
    scale = max(_SCALE, 1.0 / (n + 1.0))
    rate = max(_FAST * steps / (1.0 + _FAST * steps), 1.0 / (n + 1.0))
    slow_rate = max(min(max(interval_ms / _SLOW_MS, 0.0002), 0.005), 1.0 / (n + 1.0))
    limit, slow_limit = clip * spread, clip * slow_spread
    plain = x - row.level
    seasoned = x - row.rest - season
    row.plain_error += np.float32(scale * (min(abs(plain), limit) - row.plain_error))
    row.season_error += np.float32(scale * (min(abs(seasoned), limit) - row.season_error))
    row.level += rate * _clipped(plain, limit)
    row.rest += rate * _clipped(seasoned, limit)
    row.spread += np.float32(scale * (min(abs(residual), limit) - row.spread))
    row.move += np.float32(scale * (min(abs(x - row.last), clip * move_spread) - row.move))
    row.slow_spread += np.float32(scale * (min(abs(distance), slow_limit) - row.slow_spread))
    _learn_profile(row, ts_ms, interval_ms, x - row.slow, slow_limit)
    row.slow += slow_rate * _clipped(x - row.slow - season, slow_limit)
    _adopt(row, x, distance, _FAR * slow_spread)
    _learn_jump(row, abs(x - row.last))
    _learn_interval(row, ts_ms - row.newest_ms)
    row.broken += np.float32(scale * ((1.0 if x != np.rint(x) else 0.0) - row.broken))
    row.last = x
    row.newest_ms = ts_ms
    if row.learned < 0xFFFFFFFF:
        row.learned += np.uint32(1)


@njit(cache=True, nogil=True)
def _touch(lines, slots):  # type: ignore[no-untyped-def]
    """Read a byte of each cache line of the rows, so that their misses overlap; the sum keeps it honest."""
    total = np.uint64(0)
    for i in range(slots.shape[0]):
        for j in range(0, lines.shape[1], 64):
            total += lines[slots[i], j]
    return total


@njit(cache=True, nogil=True)
def _step(rows, lines, warm_up, slots, ts_ms, values, learn, said, ready):  # type: ignore[no-untyped-def]
    touched = np.uint64(0)
    for i in range(slots.shape[0]):
        if i % _AHEAD == 0:
            touched += _touch(lines, slots[i : i + _AHEAD])
        row = rows[slots[i]]
        x = _clipped(values[i], _LIMIT)
        ready[i] = row.learned >= warm_up
        said[:, i] = np.nan
        if row.learned == 0:
            if learn[i]:
                _first(row, x, ts_ms[i])
            continue
        gap_ms = ts_ms[i] - row.newest_ms
        interval_ms = row.interval_ms if row.interval_ms > 0.0 else max(float(gap_ms), 1.0)
        steps = min(max(gap_ms / interval_ms, 0.1), 100.0)
        season = _offset(row, ts_ms[i], interval_ms)
        weight = _season_weight(row)
        expected = row.level + weight * (row.rest + season - row.level)
        floor = _floor(row)
        spread = max(row.spread, floor)
        move_spread = max(row.move, floor) * np.sqrt(min(max(steps, 1.0), 25.0))
        slow_spread = max(row.slow_spread, floor)
        residual = x - expected
        distance = x - row.slow - weight * season
        if ready[i]:
            evidence = (
                np.log2(1.0 + abs(residual) / spread)
                + np.log2(1.0 + abs(x - row.last) / move_spread)
                + np.log2(1.0 + abs(distance) / slow_spread)
            )
            said[0, i] = _surprise(evidence)
            said[1, i] = expected
            said[2, i] = _clipped(expected - _BAND * spread, 3.0 * _LIMIT)
            said[3, i] = _clipped(expected + _BAND * spread, 3.0 * _LIMIT)
        if learn[i]:
            _learn(
                row, x, ts_ms[i], steps, interval_ms, season, residual, distance,
                spread, move_spread, slow_spread,
            )  # fmt: skip
    return touched
