"""Which detectors judge which series, by `schemas.config.DetectorConfig.match`: resolved with the slot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.ensemble import budgets
from detectors.protocol import F32, I64, Asked, Bools
from detectors.rows import grown
from detectors.series import SeriesTable
from schemas import config
from schemas.matcher import Matcher
from schemas.series import Series


class Selectors:
    """The detectors of every slot as a number of two bytes: the same ones have the same number.

    Costs nothing while every detector judges every series.
    """

    def __init__(self, cfg: config.Engine) -> None:
        """Raises ``ValueError`` for a matcher that cannot be read."""
        self._matchers = [Matcher.parse(each.match) for each in cfg.detectors]
        self._everywhere = all(each.match.strip() == "*" for each in cfg.detectors)
        self._weights = [each.weight for each in cfg.detectors]
        self._numbers: dict[tuple[bool, ...], int] = {}
        self._judges: Bools = np.zeros((0, len(self._weights)), np.bool_)
        self._ratios: F32 = np.zeros((0, len(self._weights)), np.float32)
        self._of: NDArray[np.uint16] = np.zeros(0, np.uint16)

    def assign(self, table: SeriesTable, new: I64) -> None:
        """Look at series that have come."""
        if self._everywhere:
            return
        self._of = grown(self._of, len(table))
        for slot in new.tolist():
            series = Series.of(table.text(slot))
            self._of[slot] = self._number(tuple(each.matches(series) for each in self._matchers))

    def _number(self, judges: tuple[bool, ...]) -> int:
        if judges not in self._numbers:
            self._numbers[judges] = len(self._numbers)
            mine = [weight if one else 0.0 for weight, one in zip(self._weights, judges, strict=True)]
            ratios = np.array(budgets(mine, 1.0), np.float32) / np.array(budgets(self._weights, 1.0))
            self._judges = np.vstack((self._judges, judges))
            self._ratios = np.vstack((self._ratios, ratios)).astype(np.float32)
        return self._numbers[judges]

    def asked(self, d: int, asked: Asked) -> tuple[I64 | None, Asked]:
        """Which of the samples detector ``d`` judges, None for all, and what it is asked.

        The alert budget of a series is shared by its own detectors; as with policies calibration takes the
        ratio of the shares for one of the intervals.
        """
        if self._everywhere:
            return None, asked
        numbers = self._of[asked.slots]
        rows: I64 = np.flatnonzero(self._judges[numbers, d])
        mine = asked.only(rows)
        return rows, mine._replace(exposure_ms=mine.exposure_ms * self._ratios[numbers[rows], d])
