"""The default detector: robust level, spread and seasonal profile of each series, in one fused loop.

minimal first version: replaced below
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F64, I64, Bools, Scores, State
from detectors.rows import Rows

ROW: Final = np.dtype([("n", "u4"), ("level", "f8"), ("spread", "f8")])


class Robust:
    """Score by the distance from a clipped level in units of a clipped spread."""

    name: ClassVar[str] = "robust"
    version: ClassVar[int] = 1

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._rows = Rows(ROW)

    @classmethod
    def create(cls, params: Mapping[str, Any], seed: int) -> Self:
        del seed
        if unknown := set(params) - {"warm_up"}:
            raise ValueError(f"robust has no parameter {sorted(unknown)[0]!r}; it has warm_up")
        return cls(int(params.get("warm_up", 32)))

    def reserve(self, slots: int) -> None:
        self._rows.reserve(slots)

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        del ts_ms
        n = len(slots)
        bands = np.empty((4, n), np.float32)
        ready = np.empty(n, np.bool_)
        _step(self._rows.array, self._warm_up, slots, values, learn, bands, ready)
        return Scores(bands[0], bands[1], bands[2], bands[3], ready)

    def evict(self, slots: I64) -> None:
        self._rows.evict(slots)

    def snapshot(self) -> State:
        return {"rows": self._rows.snapshot()}

    @classmethod
    def restore(cls, params: Mapping[str, Any], seed: int, state: Mapping[str, NDArray[Any]]) -> Self:
        detector = cls.create(params, seed)
        detector._rows.load(state["rows"])
        return detector


@njit(cache=True, nogil=True)
def _step(rows, warm_up, slots, values, learn, bands, ready):  # type: ignore[no-untyped-def]
    for i in range(slots.shape[0]):
        row = rows[slots[i]]
        x = min(max(values[i], -1e38), 1e38)
        r = x - row.level
        floor = 1e-3 * abs(row.level) + 1e-30
        spread = max(row.spread, floor)
        z = abs(r) / spread
        ready[i] = row.n >= warm_up
        bands[0, i] = 1.6 * np.log2(1.0 + z)
        bands[1, i] = row.level
        bands[2, i] = min(max(row.level - 6.0 * spread, -3e38), 3e38)
        bands[3, i] = min(max(row.level + 6.0 * spread, -3e38), 3e38)
        if learn[i]:
            rate = max(1.0 / (row.n + 1.0), 0.02)
            c = 4.0 * spread if row.n > 8 else abs(r) + 1.0
            r = min(max(r, -c), c)
            row.level += rate * r
            row.spread += max(1.0 / (row.n + 1.0), 0.005) * (abs(r) - row.spread)
            row.n += np.uint32(1)
