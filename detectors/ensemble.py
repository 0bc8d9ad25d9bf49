"""Several detectors as one: a score, a level and a band for each sample.

Each detector has a share of the alert budget in proportion to its weight, and its score is 1.0 at its own
share; the common score is the largest, or 0.55 of the two largest together when that is more: two kinds of
evidence at 0.91 alert as well. What recurs at this time of day is subtracted (`detectors.recurrence`). A
detector of weight 0 is scored and named, but does not alert; when all have it there are scores and no alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F32, I64, Bools, Scores
from detectors.recurrence import FIELDS as RECURRENCE
from detectors.recurrence import learn_recurrence, recurring
from detectors.rows import Rows

LEVEL: Final = np.dtype(
    [
        ("newest_ms", "i8"),
        ("level", "f4"),  # mean square of the score
        ("started", "u4"),
        *RECURRENCE,
    ]
)
_TOGETHER = 0.55  # of the two largest scores
_MOST = 10.0  # a score above it counts as this in the level


def budgets(weights: Sequence[float], alert_budget: float) -> list[float]:
    """Each detector's share of the budget; one that does not alert is judged by the whole.

    The shares add up to twice the budget, though none has more than the whole: memory, recurrence and
    clipped tails leave about half of a share unused (`docs/quality.md` shows what is realised).
    """
    total = sum(weights) or 1.0
    return [
        alert_budget * min(2.0 * weight / total, 1.0) if weight > 0 else alert_budget for weight in weights
    ]


class Verdict(NamedTuple):
    """The common word on *n* samples; NaN where no detector is ready, or none has a band."""

    score: F32
    level: F32
    expected: F32
    lower: F32
    upper: F32


class Ensemble(Rows):
    """Joins scores and smooths them; 72 bytes a series.

    The level is the root of an exponential mean of the squared score, causal, with a half-life in samples;
    a distance of several intervals weighs as many samples.
    """

    def __init__(self, weights: Sequence[float], half_life: float) -> None:
        super().__init__(LEVEL)
        self.alerts = any(weight > 0 for weight in weights)
        self._weights = np.array(weights if self.alerts else [1.0] * len(weights), np.float64)
        self._half_life = half_life

    def join(
        self,
        slots: I64,
        clock_ms: I64,
        interval_ms: NDArray[np.float32],
        learn: Bools,
        scores: F32,
        band: tuple[F32, F32, F32],
    ) -> Verdict:
        """Join the ``scores`` (detectors x n) in order; ``band`` is taken as it is."""
        n = len(slots)
        score, level = np.empty(n, np.float32), np.empty(n, np.float32)
        _join(
            self.array,
            self._weights,
            self._half_life,
            slots,
            clock_ms,
            interval_ms,
            learn,
            scores,
            score,
            level,
        )
        return Verdict(score, level, *band)


Band = tuple[F32, F32, F32]
"""Expected value, lower and upper of each of *n* samples, NaN where there is none."""


def band(said: Sequence[Scores]) -> Band:
    """That of the first detector that has one, for each sample."""
    found = said[0].expected, said[0].lower, said[0].upper
    for other in said[1:]:
        found = filled(found, (other.expected, other.lower, other.upper))
    return found


def filled(mine: Band, other: Band) -> Band:
    """A band, with that of another where it has none."""
    missing = np.isnan(mine[0])
    if not missing.any():
        return mine
    expected, lower, upper = (np.where(missing, b, a) for a, b in zip(mine, other, strict=True))
    return expected, lower, upper


@njit(cache=True, nogil=True)
def _largest(weights, scores):  # type: ignore[no-untyped-def]
    """The largest score of those that alert, or what the two largest say together; NaN without any."""
    first = second = np.nan
    for d in range(weights.shape[0]):
        said = scores[d]
        if weights[d] <= 0.0 or np.isnan(said):
            continue
        if np.isnan(first) or said > first:
            first, second = said, first
        elif np.isnan(second) or said > second:
            second = said
    return first if np.isnan(second) else max(first, _TOGETHER * (first + second))


@njit(cache=True, nogil=True)
def _join(  # type: ignore[no-untyped-def]
    rows, weights, half_life, slots, clock_ms, interval_ms, learn, scores, score, level
):
    one = 1.0 - 0.5 ** (1.0 / half_life)
    for i in range(slots.shape[0]):
        first = _largest(weights, scores[:, i])
        if np.isnan(first):
            score[i] = level[i] = first
            continue
        row = rows[slots[i]]
        best = max(np.float32(first - recurring(row, clock_ms[i])), np.float32(0.0))
        if learn[i]:
            learn_recurrence(row, clock_ms[i], first)
        score[i] = best
        rate = one
        if row.started == 0:
            row.started = np.uint32(1)
            rate = 1.0
        else:
            gap_ms = clock_ms[i] - row.newest_ms
            if interval_ms[i] > 0.0 and gap_ms > 1.5 * interval_ms[i]:
                rate = 1.0 - 0.5 ** (min(gap_ms / interval_ms[i], 1000.0) / half_life)
        row.newest_ms = clock_ms[i]
        bounded = best if best < _MOST else _MOST  # noqa: FURB136 (numba keeps the float)
        row.level += np.float32(rate * (bounded * bounded - row.level))
        level[i] = np.sqrt(row.level)
