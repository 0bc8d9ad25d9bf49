"""Arrays of differing lengths by slot in one buffer: fitted tables and trees, as kernels want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from detectors.protocol import I64, State
from detectors.rows import Rows

PLACE: Final = np.dtype([("start", "i8"), ("length", "i8")])


class Arena:
    """One array a slot: ``data[start : start + length]`` with the places of ``where``; length 0 is none.

    An array of the length of its predecessor takes its place; else it goes to the end, and the buffer is
    written anew when more than half of it is unused. 16 bytes a slot beside the arrays.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.data: NDArray[Any] = np.zeros(0, dtype)
        self._rows = Rows(PLACE)
        self._used = self._end = 0

    @property
    def where(self) -> NDArray[Any]:
        return self._rows.array

    def reserve(self, slots: int) -> None:
        self._rows.reserve(slots)

    def put(self, slot: int, array: NDArray[Any]) -> None:
        """Copy an array in as the one of this slot."""
        place = self.where[slot]
        if place["length"] != len(array):
            self._used += len(array) - int(place["length"])
            place["length"] = 0
            if self._end + len(array) > len(self.data):
                self._rewrite(max(2 * self._used, 1024))
            place["start"], place["length"] = self._end, len(array)
            self._end += len(array)
        self.data[place["start"] : place["start"] + len(array)] = array

    def evict(self, slots: I64) -> None:
        self._used -= int(self.where["length"][np.unique(slots)].sum())
        self._rows.evict(slots)

    def _rewrite(self, capacity: int) -> None:
        old = [self.data[p["start"] : p["start"] + p["length"]] for p in self.where]
        self.data = np.zeros(capacity, self.data.dtype)
        self._end = 0
        for place, array in zip(self.where, old, strict=True):
            place["start"] = self._end if len(array) else 0
            self.data[self._end : self._end + len(array)] = array
            self._end += len(array)

    def snapshot(self) -> State:
        """Views of the buffer, its unused places included, and of the places."""
        return {"data": self.data[: self._end].view(np.uint8), "where": self.where[: self._rows.slots]}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot."""
        self.data = state["data"].view(self.data.dtype).copy()
        self._rows.load(state["where"])
        self._used, self._end = int(state["where"]["length"].sum()), len(self.data)
