"""Days off have a profile of their own: there a series with days off is another series to its detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.calibrate import Tail
from detectors.protocol import F32, I64, Asked, Detector, Scores, State
from detectors.rows import grown, part, prefixed


class OffDays:
    """Second rows for the series with days off, in second detectors with their calibration.

    A row is given with the slot and stays with it, so others cost nothing but 4 bytes. Like any new series
    these warm up first: the first day off is not judged.
    """

    def __init__(self, detectors: Sequence[Detector], tails: Sequence[Tail]) -> None:
        self._detectors, self._tails = list(detectors), list(tails)
        self._row_of: NDArray[np.int32] = np.zeros(0, np.int32)  # from 1; 0 is none
        self._rows = 0

    def give(self, slots: I64, slot_count: int) -> None:
        """Rows for new series with days off; a slot that had one keeps it (`evict` has emptied it)."""
        self._row_of = grown(self._row_of, slot_count)
        fresh = slots[self._row_of[slots] == 0]
        self._row_of[fresh] = np.arange(self._rows + 1, self._rows + 1 + len(fresh))
        self._rows += len(fresh)
        for each in self._parts():
            each.reserve(self._rows)

    def evict(self, slots: I64) -> None:
        rows = self._row_of[slots[slots < len(self._row_of)]].astype(np.int64) - 1
        rows = rows[rows >= 0]
        for each in self._parts():
            each.evict(rows)

    def _parts(self) -> list[Detector | Tail]:
        return [*self._detectors, *self._tails]

    def judge(self, d: int, asked: Asked) -> tuple[Scores, F32]:
        """What detector ``d`` says of samples in days off, and the calibrated scores."""
        rows = self._row_of[asked.slots].astype(np.int64) - 1
        said = self._detectors[d].step(rows, asked.local_ms, asked.values, asked.learn)
        return said, self._tails[d].scores(rows, said.surprise, said.ready, asked.learn, asked.exposure_ms)

    def snapshot(self) -> State:
        state: State = {"row_of": self._row_of.copy(), "rows": np.array([self._rows], np.int64)}
        for d, (detector, tail) in enumerate(zip(self._detectors, self._tails, strict=True)):
            state[f"tail{d}"] = tail.snapshot()
            state |= prefixed(f"detector{d}", detector.snapshot())
        return state

    def load(self, state: Mapping[str, NDArray[Any]], params: Sequence[Mapping[str, Any]], seed: int) -> None:
        self._row_of, self._rows = state["row_of"].copy(), int(state["rows"][0])
        for d, each in enumerate(params):
            self._tails[d].load(state[f"tail{d}"])
            self._detectors[d] = type(self._detectors[d]).restore(each, seed, part(f"detector{d}", state))
