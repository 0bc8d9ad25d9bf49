"""Hour-of-day and hour-of-week profile of a series, inlined into a detector's loop.

The profile is an offset from the slow level: 24 hours of the day, interpolated between their middles, and 84
pairs of hours of the week on top. Each bin is a clipped running mean, and counts for little until it has been
visited on several days. Times are UTC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

PROFILE_FIELDS = [
    ("day", "f4", (24,)),
    ("week", "f4", (84,)),
    ("day_seen", "u2", (24,)),  # samples learned, saturating
    ("week_seen", "u2", (84,)),
]
HOUR_MS = 3_600_000
_DAY_MEMORY = 7.0  # visits of a bin
_WEEK_MEMORY = 4.0
_WEEK_START = 3 * 24 * HOUR_MS  # 1970-01-01 was a Thursday: the week begins on Monday


@njit(cache=True, nogil=True, inline="always")
def offset(row: Any, ts_ms: int, interval_ms: float) -> Any:
    """What the profile adds to the level at a time; 0 where it knows nothing."""
    hours = (ts_ms % (24 * HOUR_MS)) / HOUR_MS - 0.5
    low = int(np.floor(hours))
    share = hours - low
    visit = HOUR_MS / max(interval_ms, 1.0)
    first, second = low % 24, (low + 1) % 24
    a = row.day[first] * row.day_seen[first] / (row.day_seen[first] + visit + 1.0)
    b = row.day[second] * row.day_seen[second] / (row.day_seen[second] + visit + 1.0)
    pair = ((ts_ms + _WEEK_START) // (2 * HOUR_MS)) % 84
    seen = float(row.week_seen[pair])
    return a + share * (b - a) + row.week[pair] * seen / (seen + 4.0 * visit + 1.0)


@njit(cache=True, nogil=True, inline="always")
def learn_profile(row: Any, ts_ms: int, interval_ms: float, deviation: float, clip: float) -> None:
    """Move the bins of a time towards a deviation from the level, by at most ``clip`` a visit's share."""
    hour = (ts_ms % (24 * HOUR_MS)) // HOUR_MS
    pair = ((ts_ms + _WEEK_START) // (2 * HOUR_MS)) % 84
    visit = max(HOUR_MS / max(interval_ms, 1.0), 1.0)
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
