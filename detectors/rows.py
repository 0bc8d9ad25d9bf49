"""A growable table of records, one row a slot: the state of every part of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from detectors.protocol import I64


def grown(array: NDArray[Any], slots: int) -> NDArray[Any]:
    """The array with at least ``slots`` rows, old rows kept, new ones zero.

    Capacity doubles; the zeroed rows cost no memory until they are written.
    """
    if slots <= len(array):
        return array
    larger = np.zeros((max(slots, 2 * len(array), 64), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


class Rows:
    """Records by slot; a zeroed record is a series never seen.

    ``array`` may be longer than ``slots`` (capacity); kernels take it whole. Subclasses name their record
    by ``dtype``. A record keeps what one sample needs in neighbouring cache lines.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.array: NDArray[Any] = np.zeros(0, dtype)
        self.slots = 0

    def reserve(self, slots: int) -> None:
        self.array = grown(self.array, slots)
        self.slots = max(self.slots, slots)

    def evict(self, slots: I64) -> None:
        self.array[slots] = np.zeros(1, self.array.dtype)

    def snapshot(self) -> NDArray[Any]:
        """The rows in use: a view."""
        return self.array[: self.slots]

    def load(self, state: NDArray[Any]) -> None:
        """Take over a snapshot; raises ``ValueError`` when its layout is another one."""
        if state.dtype != self.array.dtype:
            raise ValueError(f"snapshot has records {state.dtype}, this version has {self.array.dtype}")
        self.array, self.slots = state.copy(), len(state)

    @property
    def row_bytes(self) -> int:
        return int(self.array.dtype.itemsize)


def prefixed(prefix: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays with names ``prefix.name``, so that parts share one flat snapshot."""
    return {f"{prefix}.{name}": array for name, array in state.items()}


def part(prefix: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of one part of a flat snapshot, by their own names."""
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}
