"""From surprise to score: what a detector finds unusual, held against the alert budget.

The tail of the surprise of each series is learned online: a running 98 % quantile, and beyond it an
exponential excess whose mean starts from a prior (peaks over threshold; Pickands 1975). The tail probability
is the posterior predictive one, a Lomax distribution, so that a young series needs more to alert than one
whose tail is known. The score is ``log p / log p_alert``: 1.0 at the threshold, for every detector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F32, I64, Bools
from detectors.rows import Rows

TAIL: Final = np.dtype(
    [
        ("learned", "u4"),
        ("quantile", "f4"),  # running quantile of the surprise
        ("excesses", "f4"),  # how many excesses the mean stands for, bounded
        ("excess", "f4"),  # their mean
    ]
)
DAY_MS: Final = 86_400_000.0

_TAIL_SHARE = 0.02  # share of samples in the tail
_PRIOR_QUANTILE = 1.7  # -log10 of the above: surprise as a true tail probability
_PRIOR_EXCESS = 0.6  # heavier than the 0.43 of true tail probabilities
_LEAST_EXCESS = 0.3  # a steeper tail is one of few distinct values: rare counts
_PRIOR_WEIGHT = 8.0  # excesses
_QUANTILE_MEMORY = 20_000.0  # samples
_EXCESS_MEMORY = 400.0  # excesses


class Tail(Rows):
    """What is learned of one detector's evidence, a record a series, by a numba kernel.

    ``budget`` is the detector's share of the alert budget, in false alarms per series and day. A subclass
    names its record and its ``kernel(rows, budget, slots, surprise, ready, learn, interval_ms, out)``.
    """

    record: ClassVar[np.dtype[Any]]
    kernel: ClassVar[Callable[..., None]]

    def __init__(self, budget: float) -> None:
        super().__init__(self.record)
        self._budget = budget

    def scores(
        self, slots: I64, surprise: F32, ready: Bools, learn: Bools, interval_ms: NDArray[np.float32]
    ) -> F32:
        """Scores of *n* samples in order, NaN where not ready; then learn from them."""
        out = np.empty(len(slots), np.float32)
        type(self).kernel(self.array, self._budget, slots, surprise, ready, learn, interval_ms, out)
        return out


@njit(cache=True, nogil=True, inline="always")
def _minus_log_p(tail: Any, surprise: float) -> Any:
    """-ln of the probability of a surprise this large."""
    base = -np.log(_TAIL_SHARE)
    excess = surprise - tail.quantile
    if excess <= 0.0:
        return base * surprise / max(tail.quantile, 1e-3)
    weight = tail.excesses + _PRIOR_WEIGHT
    mean = max((tail.excesses * tail.excess + _PRIOR_WEIGHT * _PRIOR_EXCESS) / weight, _LEAST_EXCESS)
    return base + weight * np.log1p(excess / (mean * weight))


@njit(cache=True, nogil=True, inline="always")
def _learn(tail: Any, surprise: float, score: float) -> None:
    """Move quantile and mean excess; what alerts counts as if it stood at the threshold."""
    weight = tail.excesses + _PRIOR_WEIGHT
    mean = (tail.excesses * tail.excess + _PRIOR_WEIGHT * _PRIOR_EXCESS) / weight
    above = surprise > tail.quantile
    if above:
        excess = surprise - tail.quantile
        if score > 1.0:
            excess = min(excess / score, excess)
        count = min(tail.excesses + 1.0, _EXCESS_MEMORY)
        tail.excess += np.float32((excess - tail.excess) / count)
        tail.excesses = np.float32(count)
    gain = mean / (_TAIL_SHARE * min(tail.learned + 200.0, _QUANTILE_MEMORY))
    tail.quantile = np.float32(max(tail.quantile + gain * ((1.0 if above else 0.0) - _TAIL_SHARE), 0.1))
    if tail.learned < 0xFFFFFFFF:
        tail.learned += np.uint32(1)


@njit(cache=True, nogil=True)
def _scores(  # type: ignore[no-untyped-def]
    tails, budget, slots, surprise, ready, learn, interval_ms, out
):
    for i in range(slots.shape[0]):
        if not ready[i]:
            out[i] = np.nan
            continue
        tail = tails[slots[i]]
        if tail.learned == 0:
            tail.quantile = np.float32(_PRIOR_QUANTILE)
        p_alert = min(max(budget * interval_ms[i] / DAY_MS, 1e-12), 0.02)
        score = _minus_log_p(tail, surprise[i]) / -np.log(p_alert)
        out[i] = score
        if learn[i]:
            _learn(tail, surprise[i], score)


class Calibrator(Tail):
    """The tail of a surprise in units of -log10 p: 16 bytes a series, about 20 ns a sample."""

    record = TAIL
    kernel = staticmethod(_scores)
