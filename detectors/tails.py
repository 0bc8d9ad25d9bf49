"""Calibration of the two families of evidence: two learned tails for large, one that only raises for rare.

As in `detectors.calibrate` the score is 1.0 at the alert threshold. Anomalies cannot teach a tail: an excess
counts as at most a few means. The families are tuned with the whole budget each.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.calibrate import Calibrator
from detectors.protocol import F32, I64, Bools, Detector
from detectors.rows import Rows

TWO: Final = np.dtype(
    [
        ("learned", "u4"),
        ("start", "f4", (2,)),  # running quantiles of the evidence: where the tails begin
        ("excess", "f4", (2,)),  # mean excess above them
        ("excesses", "f4", (2,)),  # how many excesses that stands for, bounded
    ]
)
ONE: Final = np.dtype([("started", "u4"), ("rate", "f4"), ("excess", "f4"), ("excesses", "f4")])

_SHARE = (0.1, 0.02)  # of samples in each tail
_CLIP = (1.5, 2.0)  # means that an excess counts at most
_START = (3.2, 4.8)
_PRIOR = 0.8  # mean excess
_PRIOR_EXCESSES = (20.0, 10.0)
_LEAST_EXCESS = 0.3  # a steeper tail is one of few distinct values: rare counts
_LEAST_P, _MOST_P = 1e-7, 0.02

_RARE_AT = 2.3  # rarity at the threshold for -ln p = 8: 5-minute samples at 0.1 a day
_RARE_POWER = 3.0  # needs more where there are more samples a day: a window of one value repeats by chance
_RARE_LEAST = 1.8  # of hourly samples: less is one feature alone
_RARE_TAIL = 1.4  # where the learned tail begins
_RARE_EXCESS = 0.25  # prior mean excess
_RARE_RATE = 0.0005  # of learning how often it is beyond


class TwoTails(Rows):
    """Scores of large evidence, 28 bytes a series: exponential tails, of which the heavier decides."""

    def __init__(self, budget: float) -> None:
        super().__init__(TWO)
        self._budget = budget

    def scores(
        self, slots: I64, surprise: F32, ready: Bools, learn: Bools, interval_ms: NDArray[np.float32]
    ) -> F32:
        """Scores of *n* samples in order, NaN where not ready; then learn from them."""
        out = np.empty(len(slots), np.float32)
        _two_scores(self.array, self._budget, slots, surprise, ready, learn, interval_ms, out)
        return out


class Rarity(Rows):
    """Scores of rare evidence, 16 bytes a series: a constant threshold that a learned tail may raise."""

    def __init__(self, budget: float) -> None:
        super().__init__(ONE)
        self._budget = budget

    def scores(
        self, slots: I64, surprise: F32, ready: Bools, learn: Bools, interval_ms: NDArray[np.float32]
    ) -> F32:
        """Scores of *n* samples in order, NaN where not ready; then learn from them."""
        out = np.empty(len(slots), np.float32)
        _rare_scores(self.array, self._budget, slots, surprise, ready, learn, interval_ms, out)
        return out


def calibrator_for(detector: Detector, budget: float) -> Calibrator | TwoTails | Rarity:
    """What fits a detector's evidence: its ``tail`` says so where it has one."""
    kinds: dict[str, type[TwoTails | Rarity]] = {"two_tails": TwoTails, "rarity": Rarity}
    return kinds.get(getattr(detector, "tail", ""), Calibrator)(budget)


@njit(cache=True, nogil=True, inline="always")
def _minus_log_p_alert(budget: float, interval_ms: float) -> Any:
    return -np.log(min(max(budget * max(interval_ms, 1000.0) / 86_400_000.0, _LEAST_P), _MOST_P))


@njit(cache=True, nogil=True, inline="always")
def _minus_log_p(row: Any, evidence: float) -> Any:
    if evidence <= row.start[0]:
        return 0.0
    found = -np.log(_SHARE[0]) + (evidence - row.start[0]) / row.excess[0]
    if evidence > row.start[1]:
        found = min(found, -np.log(_SHARE[1]) + (evidence - row.start[1]) / row.excess[1])
    return found


@njit(cache=True, nogil=True, inline="always")
def _learn_tails(row: Any, evidence: float) -> None:
    step = 5.0 * row.excess[0] * max(0.001, 1.0 / (row.learned + 20.0))
    for e in range(2):
        share, clip = _SHARE[e], _CLIP[e]
        start, mean = float(row.start[e]), float(row.excess[e])
        start += step * (1.0 - share) if evidence > start else -step * share
        if evidence > start:
            excess = min(evidence - start, clip * mean) / (1.0 - np.exp(-clip))
            mean += max(0.01, 1.0 / (row.excesses[e] + 1.0)) * (excess - mean)
            mean = max(mean, _LEAST_EXCESS)
            row.excesses[e] = np.float32(min(row.excesses[e] + 1.0, 1000.0))
        row.start[e], row.excess[e] = start, mean
    if row.learned < 0xFFFFFFFF:
        row.learned += np.uint32(1)


@njit(cache=True, nogil=True)
def _two_scores(  # type: ignore[no-untyped-def]
    rows, budget, slots, surprise, ready, learn, interval_ms, out
):
    for i in range(slots.shape[0]):
        out[i] = np.nan
        if not ready[i]:
            continue
        row = rows[slots[i]]
        if row.learned == 0:
            for e in range(2):
                row.start[e], row.excess[e], row.excesses[e] = _START[e], _PRIOR, _PRIOR_EXCESSES[e]
        out[i] = _minus_log_p(row, surprise[i]) / _minus_log_p_alert(budget, interval_ms[i])
        if learn[i]:
            _learn_tails(row, surprise[i])


@njit(cache=True, nogil=True, inline="always")
def _learn_rarity(row: Any, rarity: float) -> None:
    beyond = rarity > _RARE_TAIL
    row.rate += np.float32(_RARE_RATE * ((1.0 if beyond else 0.0) - row.rate))
    if beyond:
        excess = min(rarity - _RARE_TAIL, 2.0 * row.excess) / (1.0 - np.exp(-2.0))
        row.excess += np.float32(max(0.02, 1.0 / (row.excesses + 1.0)) * (excess - row.excess))
        row.excesses = np.float32(min(row.excesses + 1.0, 1000.0))


@njit(cache=True, nogil=True)
def _rare_scores(  # type: ignore[no-untyped-def]
    rows, budget, slots, surprise, ready, learn, interval_ms, out
):
    for i in range(slots.shape[0]):
        out[i] = np.nan
        if not ready[i]:
            continue
        row = rows[slots[i]]
        if row.started == 0:
            row.started, row.rate = np.uint32(1), np.float32(0.0)
            row.excess, row.excesses = np.float32(_RARE_EXCESS), np.float32(20.0)
        need = _minus_log_p_alert(budget, interval_ms[i])
        threshold = max(_RARE_AT * (need / 8.0) ** _RARE_POWER, _RARE_LEAST)
        learned = _RARE_TAIL + row.excess * (need + np.log(max(row.rate, 1e-9)))
        out[i] = surprise[i] / max(threshold, learned)
        if learn[i]:
            _learn_rarity(row, surprise[i])
