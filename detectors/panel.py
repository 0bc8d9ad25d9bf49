"""The detectors of an engine, each with what calibrates it, as one: samples in, opinions and scores out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import registry
from detectors.batch import BatchDetector
from detectors.ensemble import budgets
from detectors.offdays import OffDays
from detectors.protocol import F32, I64, Asked, Bools, Detector, Scores, State
from detectors.rows import part, prefixed
from detectors.selectors import Selectors
from detectors.series import SeriesTable
from detectors.tails import tail_for
from schemas import config


class Panel:
    """Detectors that see the local clock, and the fitted ones, which see UTC as their history did."""

    def __init__(self, cfg: config.Engine, has_days_off: bool, spent: Callable[[str], None]) -> None:
        """``spent`` is told the name of a part when it is done."""
        self._cfg, self._spent = cfg, spent
        self.detectors: list[Detector] = self._create()
        # Asking a protocol what is one takes tens of microseconds: not with each batch.
        self._fitted = [isinstance(each, BatchDetector) for each in self.detectors]
        self._tails = self._calibration()
        self._selectors = Selectors(cfg)
        self._off = OffDays(self._create(), self._calibration()) if has_days_off else None

    def _create(self) -> list[Detector]:
        cfg = self._cfg
        return [registry.load_for_series(each.name).create(each.params, cfg.seed) for each in cfg.detectors]

    def _calibration(self) -> list[Any]:
        shares = budgets([each.weight for each in self._cfg.detectors], self._cfg.alert_budget)
        return [tail_for(each, share) for each, share in zip(self.detectors, shares, strict=True)]

    def reserve(self, slots: int) -> None:
        for each in (*self._tails, *self.detectors):
            each.reserve(slots)

    def evict(self, slots: I64) -> None:
        for each in (*self._tails, *self.detectors):
            each.evict(slots)
        if self._off is not None:
            self._off.evict(slots)

    def assign(self, table: SeriesTable, new: I64) -> None:
        """Find out which detectors judge the series that have come."""
        self._selectors.assign(table, new)

    def give_days_off(self, slots: I64, slot_count: int) -> None:
        """These new series have days off."""
        if self._off is not None:
            self._off.give(slots, slot_count)

    def judge(self, asked: Asked) -> tuple[list[Scores], F32]:
        """What each detector says, and its scores (detectors x n), NaN where not ready; then learn."""
        said, scores = [], np.empty((len(self.detectors), len(asked.slots)), np.float32)
        for d in range(len(self.detectors)):
            rows, mine = self._selectors.asked(d, asked)
            one, scored = self._judge(d, mine)
            if rows is not None:
                n = len(asked.slots)
                one, scored = Scores(*(_spread(rows, each, n) for each in one)), _spread(rows, scored, n)
            said.append(one)
            scores[d] = scored
        return said, scores

    def _judge(self, d: int, asked: Asked) -> tuple[Scores, F32]:
        if asked.off is None or self._fitted[d]:
            return self._ask(d, asked)
        return self._ask_by_day(d, asked, asked.off)

    def _ask(self, d: int, asked: Asked) -> tuple[Scores, F32]:
        detector, slots = self.detectors[d], asked.slots
        clock_ms = asked.clock_ms if self._fitted[d] else asked.local_ms
        said = detector.step(slots, clock_ms, asked.values, asked.learn)
        self._spent(f"detector.{detector.name}")
        scores = self._tails[d].scores(slots, said.surprise, said.ready, asked.learn, asked.exposure_ms)
        self._spent("calibrate")
        return said, scores

    def _ask_by_day(self, d: int, asked: Asked, off: Bools) -> tuple[Scores, F32]:
        """Working days and days off each with a state of their own."""
        if self._off is None or not off.any():
            return self._ask(d, asked)
        rows = np.flatnonzero(~off), np.flatnonzero(off)
        (worked, work_scores), (rested, rest_scores) = (
            self._ask(d, asked.only(rows[0])),
            self._off.judge(d, asked.only(rows[1])),
        )
        scores = _merged(rows, work_scores, rest_scores, len(off))
        columns = (_merged(rows, a, b, len(off)) for a, b in zip(worked, rested, strict=True))
        return Scores(*columns), scores

    def snapshot(self) -> State:
        state: State = {}
        for d, (detector, tail) in enumerate(zip(self.detectors, self._tails, strict=True)):
            state[f"tail{d}"] = tail.snapshot()
            state[f"version{d}"] = np.array([detector.version], np.int64)
            state |= prefixed(f"detector{d}", detector.snapshot())
        if self._off is not None:
            state |= prefixed("off", self._off.snapshot())
        return state

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot; raises ``ValueError`` for one of other detectors or versions of them."""
        for d, each in enumerate(self._cfg.detectors):
            kind = registry.load(each.name)
            found = state.get(f"version{d}")
            if found is None or int(found[0]) != kind.version:
                raise ValueError(f"snapshot does not hold detector {each.name!r} version {kind.version}")
            self._tails[d].load(state[f"tail{d}"])
            self.detectors[d] = kind.restore(each.params, self._cfg.seed, part(f"detector{d}", state))
        if self._off is not None:
            params: Sequence[Mapping[str, Any]] = [each.params for each in self._cfg.detectors]
            self._off.load(part("off", state), params, self._cfg.seed)


def _spread(rows: I64, column: Any, n: int) -> Any:
    """One column of opinions on some of *n* samples; of the others nothing is said."""
    if column is None:
        return None
    whole = np.full(n, np.nan if column.dtype.kind == "f" else 0, column.dtype)
    whole[rows] = column
    return whole


def _merged(rows: tuple[I64, I64], worked: Any, rested: Any, n: int) -> Any:
    """One column of both kinds of days; None where a detector gives none."""
    if worked is None:
        return None
    column = np.empty(n, worked.dtype)
    column[rows[0]], column[rows[1]] = worked, rested
    return column
