"""A lively series that stands still: the same value again and again, where equal neighbours are rare.

How often a value equals the one before it is learned for each series; a run of n equal values then has the
probability rate^n. What stands at the lowest or highest value
it ever had is idle, full or perfect rather than stuck, and is left to the other detectors.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F64, I64, Bools
from detectors.rows import Rows

ROW: Final = np.dtype(
    [
        ("last", "f8"),
        ("run", "u4"),  # equal neighbours in a row
        ("learned", "u4"),
        ("rate", "f4"),  # share of samples that equal the one before
        ("stuck", "u4"),  # samples of the run at hand that were flagged
        ("low", "f8"),  # ever seen
        ("high", "f8"),
        ("moves", "u8"),  # neighbours that differed
    ]
)
STANDS_STILL: Final = np.float32(1.5)
"""Score of a flagged sample: a warning, and the same for all, for nothing says how bad a frozen value is."""

LEAST_RUN: Final = 12
"""Of equal neighbours: fewer may be a cache, or a sender that repeats its newest value."""

_RATE = 0.005  # about 200 samples
_PRIOR = 0.05  # rate of a series that has just begun
_LIVELY = 100  # moves after which a series may be called lively
_P = 1e-9  # of a run that is flagged


class Stillness(Rows):
    """48 bytes a series and about 5 ns a sample."""

    def __init__(self, max_duration: int) -> None:
        """A run of more than ``max_duration`` flagged samples is learned: it is the new normal."""
        super().__init__(ROW)
        self._max_duration = max_duration

    def flags(self, slots: I64, values: F64, learn: Bools) -> Bools:
        """Which samples continue a run that is too long to be chance."""
        out = np.zeros(len(slots), np.bool_)
        _flags(self.array, self._max_duration, slots, values, learn, out)
        return out


@njit(cache=True, nogil=True, inline="always")
def _least_run(row: Any) -> Any:
    """Equal neighbours in a row that are too many; never for a series in which they are usual."""
    rate = max(float(row.rate), 0.5 / (row.learned + 1.0))
    return max(float(LEAST_RUN), np.log(_P) / np.log(min(rate, 0.999)))


@njit(cache=True, nogil=True)
def _flags(  # type: ignore[no-untyped-def]
    rows, max_duration, slots, values, learn, out: NDArray[np.bool_]
):
    for i in range(slots.shape[0]):
        row = rows[slots[i]]
        if not learn[i]:
            continue
        if row.learned == 0:
            row.last = row.low = row.high = values[i]
            row.rate, row.learned = np.float32(_PRIOR), np.uint32(1)
            continue
        equal = values[i] == row.last
        row.run = row.run + np.uint32(1) if equal else np.uint32(0)
        row.stuck = row.stuck if equal else np.uint32(0)
        row.moves += np.uint64(0 if equal else 1)
        row.low, row.high = min(row.low, values[i]), max(row.high, values[i])
        inside = row.low < values[i] < row.high and row.moves >= _LIVELY
        out[i] = equal and inside and row.run >= _least_run(row) and row.stuck < max_duration
        if out[i]:
            row.stuck += np.uint32(1)
        if row.run <= LEAST_RUN or row.stuck >= max_duration or not inside:
            row.rate += np.float32(_RATE * ((1.0 if equal else 0.0) - row.rate))
        row.last = values[i]
        if row.learned < 0xFFFFFFFF:
            row.learned += np.uint32(1)
