"""Memory for one copy of a state after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import State

_ALIGN: Final = 64
_CHUNK: Final = 1 << 24  # touched in one go; the interpreter's lock is free meanwhile


class Buffer:
    """Memory whose pages have been touched, into which arrays are copied.

    Fresh memory costs its first touch: 350 MB took 319 ms to copy into fresh memory, most of it page faults.
    One copy at a time: the next one overwrites it.
    """

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)

    @property
    def size(self) -> int:
        return len(self._bytes)

    def reserve(self, size: int) -> None:
        """Make room; slow, for a thread in which nobody waits. What was copied before is lost."""
        if size <= self.size:
            return
        self._bytes = np.empty(0, np.uint8)  # the old one goes first
        larger = np.empty(size, np.uint8)
        for start in range(0, size, _CHUNK):
            larger[start : start + _CHUNK] = 0
        self._bytes = larger

    def copy(self, state: Mapping[str, NDArray[Any]]) -> State:
        """The arrays, copied; what finds no room is copied into fresh memory."""
        copied, start = {}, 0
        for name, array in state.items():
            end = start + array.nbytes
            if end > self.size or not array.flags.c_contiguous:
                copied[name] = array.copy()
                continue
            # As bytes: NumPy copies records field by field, and holds the lock meanwhile.
            flat = self._bytes[start:end]
            flat[:] = array.reshape(-1).view(np.uint8)
            copied[name] = flat.view(array.dtype).reshape(array.shape)
            start = -(-end // _ALIGN) * _ALIGN
        return copied


def bytes_needed(state: Mapping[str, NDArray[Any]]) -> int:
    """Room for a copy of these arrays, at most."""
    return sum(array.nbytes + _ALIGN for array in state.values())
