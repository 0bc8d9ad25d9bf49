"""What holds for each series by `schemas.config.Policy`: resolved once, when the series gets its slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.calendar import Calendar
from detectors.protocol import F32, F64, I64, Bools
from detectors.rows import grown
from detectors.series import Names
from schemas import config
from schemas.matcher import Matcher
from schemas.series import Series

BEYOND: Final = np.float32(2.0)
"""Score of a value outside its allowed range: critical, whatever was learned."""

_SIDE: Final = {"above": 1.0, "below": -1.0, "both": 0.0}


class Clocks(NamedTuple):
    """Local times of *n* samples, and which of them lie in days off."""

    local_ms: I64
    off: Bools | None  # None where no policy has any


class Limits(NamedTuple):
    """A range that values must not leave."""

    low: float
    high: float

    def broken(self, value: float) -> str:
        """In words, which end a value is beyond; empty where neither."""
        if value < self.low:
            return f"below the allowed {self.low:.6g}"
        return f"above the allowed {self.high:.6g}" if value > self.high else ""


NO_LIMITS: Final = Limits(-np.inf, np.inf)


class Policies:
    """The policy of every slot as a number of two bytes, and each setting as an array over policies.

    Number 0 is what `schemas.config.Engine` says for all. Costs nothing while no policy is configured.
    """

    def __init__(self, engine: config.Engine) -> None:
        """Raises ``ValueError`` for a matcher, zone, country or day that cannot be."""
        self.listed = engine.policies
        self._matchers = [Matcher.parse(each.match) for each in self.listed]
        self._of: NDArray[np.uint16] = np.zeros(0, np.uint16)
        rows = [config.Policy(match="*"), *self.listed]
        self._calendars = [Calendar.of(each) for each in rows]
        self._has_clock = np.array([each.timezone != "UTC" for each in rows])
        self.has_days_off = np.array([each.has_days_off for each in self._calendars])
        self._warm_up = np.array([each.warm_up_samples or engine.warm_up_samples for each in rows], np.int64)
        self._least = np.array([each.min_duration_samples for each in rows], np.int64)
        budgets = [each.alert_budget or engine.alert_budget for each in rows]
        self._budget_ratio = np.array(budgets, np.float32) / np.float32(engine.alert_budget)
        self._side = np.array([_SIDE[each.direction] for each in rows])
        self._deviation = np.array([each.min_deviation for each in rows])
        self._relative = np.array([each.min_relative_deviation for each in rows])
        self._normal = _ranges([(each.normal_min, each.normal_max) for each in rows], closed=True)
        self._restrains = bool(
            self._side.any()
            or self._deviation.any()
            or self._relative.any()
            or (self._normal[0] < np.inf).any()
        )
        self._allowed = _ranges([(each.allowed_min, each.allowed_max) for each in rows])
        self._silence = np.array([each.silence for each in rows], np.bool_)
        self._flat = np.array([each.flat for each in rows], np.bool_)
        self._borrows = np.array([each.siblings and not each.warm_up_samples for each in rows], np.bool_)
        self._limits = bool(np.isfinite(self._allowed).any())

    def number(self, series: Series) -> int:
        """Which policy a series gets, counted from 1; 0 where none matches."""
        return next((i for i, each in enumerate(self._matchers, 1) if each.matches(series)), 0)

    def assign(self, table: Names, new: I64) -> I64:
        """Look at series that have come; returns the slots of those with days off."""
        if not self.listed:
            return new[:0]
        self._of = grown(self._of, len(table))
        for slot in new.tolist():
            self._of[slot] = self.number(Series.of(table.text(slot)))
        with_days_off: I64 = new[self.has_days_off[self._of[new]]]
        return with_days_off

    def of(self, slots: I64) -> NDArray[np.uint16]:
        """Numbers of policies."""
        return self._of[slots] if self.listed else np.zeros(len(slots), np.uint16)

    def warm_up(self, slots: I64) -> I64:
        """Samples a series must have before it is judged."""
        samples: I64 = self._warm_up[self.of(slots)]
        return samples

    def least_samples(self, slots: I64) -> I64:
        """How many samples an anomaly must have before it is told."""
        samples: I64 = self._least[self.of(slots)]
        return samples

    def watches_silence(self, slots: I64) -> Bools:
        """Of which series it is told that they fall silent."""
        told: Bools = self._silence[self.of(slots)]
        return told

    def watches_flat(self, slots: I64) -> Bools:
        """Of which series it is told that they stand still."""
        told: Bools = self._flat[self.of(slots)]
        return told

    def borrows(self, slots: I64) -> Bools:
        """Which series are judged by their siblings' scale while they are new."""
        may: Bools = self._borrows[self.of(slots)]
        return may

    def exposure_ms(self, slots: I64, interval_ms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Intervals times the ratio of the series' budget to the engine's.

        What a budget allows at an interval depends on their product alone, so that calibration, which
        knows the budget of the engine, takes this for the interval.
        """
        if not self.listed:
            return interval_ms
        scaled: NDArray[np.float32] = interval_ms * self._budget_ratio[self.of(slots)]
        return scaled

    def clocks(self, slots: I64, clock_ms: I64) -> Clocks:
        """Times by the clocks of the policies; UTC where there is none."""
        special = np.flatnonzero(self._has_clock | self.has_days_off)
        if not len(special):
            return Clocks(clock_ms, None)
        numbers = self.of(slots)
        local, off = clock_ms.copy(), np.zeros(len(slots), np.bool_)
        for number in special:
            rows = np.flatnonzero(numbers == number)
            local[rows] = self._calendars[number].local_ms(clock_ms[rows])
            off[rows] = self._calendars[number].off(local[rows])
        return Clocks(local, off if self.has_days_off.any() else None)

    def restrain(self, slots: I64, values: F64, band: tuple[F32, F32, F32], scores: F32) -> None:
        """Set the ``scores`` (detectors x n) to 0 where the policy does not want to hear of a sample.

        With a direction only what is beyond the band on that side counts: the echo of a dip in the
        samples after it lies inside.
        """
        if not self._restrains:
            return
        number = self.of(slots)
        expected, lower, upper = band
        off, side = values - expected, self._side[number]
        near = np.abs(off) < np.maximum(self._deviation[number], self._relative[number] * np.abs(expected))
        other_side = ((side > 0) & (values <= upper)) | ((side < 0) & (values >= lower))
        low, high = self._normal[:, number]
        unwanted = near | other_side | ((values >= low) & (values <= high))
        scores[:, unwanted] = np.minimum(scores[:, unwanted], np.float32(0.0))  # NaN stays NaN

    def beyond(self, slots: I64, values: F64) -> Bools:
        """Which values lie outside the range that their policy allows."""
        if not self._limits:
            return np.zeros(len(slots), np.bool_)
        low, high = self._allowed[:, self.of(slots)]
        found: Bools = (values < low) | (values > high)
        return found

    def bound(self, slots: I64, expected: F32, lower: F32, upper: F32) -> tuple[F32, F32, F32]:
        """Expected values and bands inside the allowed range, which is the band while none is learned."""
        if not self._limits:
            return expected, lower, upper
        low, high = self._allowed[:, self.of(slots)].astype(np.float32)
        nothing = np.isnan(lower)
        lower = np.where(nothing, np.where(np.isfinite(low), low, np.nan), np.clip(lower, low, high))
        upper = np.where(nothing, np.where(np.isfinite(high), high, np.nan), np.clip(upper, low, high))
        return np.clip(expected, low, high), lower, upper

    def limits(self, slot: int) -> Limits:
        """The allowed range of a series, infinite where open."""
        if not self._limits:
            return NO_LIMITS
        return Limits(*self._allowed[:, self._of[slot]].tolist())


def _ranges(bounds: Sequence[tuple[float | None, float | None]], closed: bool = False) -> F64:
    """Lower and upper ends (2 x policies); without either end nothing is inside a ``closed`` range."""
    out = np.empty((2, len(bounds)))
    for i, (low, high) in enumerate(bounds):
        empty = closed and low is None and high is None
        out[0, i] = np.inf if empty else -np.inf if low is None else low
        out[1, i] = -np.inf if empty else np.inf if high is None else high
    return out
