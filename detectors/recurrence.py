"""What comes back at the same time of day: a batch job's spike alarms on its first days, then no more.

Each half hour of the day (UTC) keeps a mean over days of its largest near-alert.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

_PARTS: Final = 48  # of the day
FIELDS: Final = [
    ("part", "i4"),  # the half hour at hand, counted from 1; 0 before there is one
    ("part_most", "f4"),  # its largest near-alert today
    ("recur", "u1", (_PARTS,)),  # mean over days, in hundredths
]
_PART_MS = 1_800_000
_RATE = 0.4  # of the mean over days
_SUBTRACT = 0.8  # of what recurs
_NEAR = 1.0  # a lower score does not recur
_MOST = 2.0


@njit(cache=True, nogil=True, inline="always")
def recurring(row: Any, ts_ms: int) -> Any:
    """What to take off the score: the most that this half hour and its neighbours brought on earlier days."""
    part = (ts_ms // _PART_MS) % _PARTS
    most = max(row.recur[part], row.recur[(part + 1) % _PARTS], row.recur[(part + _PARTS - 1) % _PARTS])
    return _SUBTRACT * most / 100.0


@njit(cache=True, nogil=True, inline="always")
def learn_recurrence(row: Any, ts_ms: int, score: float) -> None:
    """Take a score in; when a half hour is over, its largest one joins the mean."""
    part = (ts_ms // _PART_MS) % _PARTS + 1
    if part != row.part:
        if row.part > 0:
            old = row.recur[row.part - 1] / 100.0
            row.recur[row.part - 1] = np.uint8(
                100.0 * (old + _RATE * (min(row.part_most, _MOST) - old)) + 0.5
            )
        row.part = np.int32(part)
        row.part_most = np.float32(0.0)
    if score >= _NEAR:
        row.part_most = max(row.part_most, np.float32(score))
