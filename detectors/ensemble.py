"""Several detectors as one: a score, a level and a band for each sample.

Each detector has a share of the alert budget in proportion to its weight, and its score is 1.0 at its own
share; the common score is the largest. By the union bound the false alarms of all stay within the budget,
however the detectors depend on one another. A detector of weight 0 is scored and named, but does not alert;
when all have it there are scores and no alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F32, I64, Scores
from detectors.rows import Rows

LEVEL: Final = np.dtype([("newest_ms", "i8"), ("level", "f4"), ("started", "u4")])


def budgets(weights: Sequence[float], alert_budget: float) -> list[float]:
    """Each detector's share of the budget; one that does not alert is judged by the whole."""
    total = sum(weights) or 1.0
    return [alert_budget * weight / total if weight > 0 else alert_budget for weight in weights]


class Verdict(NamedTuple):
    """The common word on *n* samples; NaN where no detector is ready, or none has a band."""

    score: F32
    level: F32
    expected: F32
    lower: F32
    upper: F32


class Ensemble(Rows):
    """Joins scores and smooths them; 16 bytes a series.

    The level is an exponential mean of the score, causal, with a half-life in samples; a distance of several
    intervals weighs as many samples.
    """

    def __init__(self, weights: Sequence[float], half_life: float) -> None:
        super().__init__(LEVEL)
        self.alerts = any(weight > 0 for weight in weights)
        self._weights = np.array(weights if self.alerts else [1.0] * len(weights), np.float64)
        self._half_life = half_life

    def join(
        self, slots: I64, clock_ms: I64, interval_ms: NDArray[np.float32], said: Sequence[Scores], scores: F32
    ) -> Verdict:
        """Join the ``scores`` (detectors x n) in order; the band is that of the first detector with one."""
        n = len(slots)
        score, level = np.empty(n, np.float32), np.empty(n, np.float32)
        _join(self.array, self._weights, self._half_life, slots, clock_ms, interval_ms, scores, score, level)
        expected, lower, upper = said[0].expected, said[0].lower, said[0].upper
        for other in said[1:]:
            missing = np.isnan(expected)
            if not missing.any():
                break
            expected = np.where(missing, other.expected, expected)
            lower = np.where(missing, other.lower, lower)
            upper = np.where(missing, other.upper, upper)
        return Verdict(score, level, expected, lower, upper)


@njit(cache=True, nogil=True)
def _join(  # type: ignore[no-untyped-def]
    rows, weights, half_life, slots, clock_ms, interval_ms, scores, score, level
):
    one = 1.0 - 0.5 ** (1.0 / half_life)
    for i in range(slots.shape[0]):
        best = np.float32(np.nan)
        for d in range(weights.shape[0]):
            said = scores[d, i]
            if weights[d] > 0.0 and not np.isnan(said) and (np.isnan(best) or said > best):
                best = said
        score[i] = best
        if np.isnan(best):
            level[i] = best
            continue
        row = rows[slots[i]]
        rate = one
        if row.started == 0:
            row.started = np.uint32(1)
            rate = 1.0
        else:
            gap_ms = clock_ms[i] - row.newest_ms
            if interval_ms[i] > 0.0 and gap_ms > 1.5 * interval_ms[i]:
                rate = 1.0 - 0.5 ** (min(gap_ms / interval_ms[i], 1000.0) / half_life)
        row.newest_ms = clock_ms[i]
        row.level += np.float32(rate * (best - row.level))
        level[i] = row.level
