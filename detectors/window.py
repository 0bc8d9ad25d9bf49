"""The newest times of every series, and the rules for gaps, duplicates and late samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F64, I64, State
from detectors.rows import Rows, grown
from schemas.score import SampleState

HEAD: Final = np.dtype(
    [
        ("count", "u4"),  # samples in the ring, at most its length
        ("next", "u4"),  # where the next one goes
        ("learned", "u4"),  # samples ever admitted, saturating
        ("interval_ms", "f4"),  # learned median distance of samples, 0 before there are two
        ("newest_ms", "i8"),
    ]
)

_SCORED: Final = np.uint8(SampleState.SCORED)
_WARMING_UP: Final = np.uint8(SampleState.WARMING_UP)
_GAP: Final = np.uint8(SampleState.GAP)
_LATE: Final = np.uint8(SampleState.LATE)
_DUPLICATE: Final = np.uint8(SampleState.DUPLICATE)


class Admitted(NamedTuple):
    """What the window made of *n* samples, each array of length *n*.

    ``states`` is WARMING_UP before a series has its first samples, else SCORED, for every admitted sample;
    ``clock_ms`` is the time for detectors, which does not decrease within a slot (a late sample gets the
    newest time); ``interval_ms`` is the learned interval before the sample, 0 while unknown; ``ages`` are the
    samples that the series has had with this one, saturating.
    """

    states: NDArray[np.uint8]
    clock_ms: I64
    interval_ms: NDArray[np.float32]
    ages: NDArray[np.uint32]


class Windows:
    """Ring buffers of times for all slots in one array; 8 bytes a sample and 24 a series.

    Rules: NaN is a gap; a time that is in the ring is a duplicate and the first one wins; a time older than
    the newest is late: scored without learning, and it does not enter the ring. About 15 ns a sample.
    Values are not kept here: each detector keeps what its own window needs, relative and in float32.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._head = Rows(HEAD)
        self._ts_ms: I64 = np.zeros((0, length), np.int64)

    def reserve(self, slots: int) -> None:
        self._head.reserve(slots)
        self._ts_ms = grown(self._ts_ms, slots)

    def evict(self, slots: I64) -> None:
        self._head.evict(slots)
        self._ts_ms[slots] = 0

    def admit(self, slots: I64, ts_ms: I64, values: F64, warm_up: I64) -> Admitted:
        """Apply the rules to samples in order, and keep those that are admitted.

        ``warm_up`` is, for each sample, how many its series must have.
        """
        n = len(slots)
        out = Admitted(
            np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.uint32)
        )
        _admit(self._head.array, self._ts_ms, slots, ts_ms, values, warm_up, *out)
        return out

    def newest_first(self, slot: int) -> I64:
        """The times in the ring of one series, the newest first (a copy)."""
        head = self._head.array[slot]
        order = (int(head["next"]) - 1 - np.arange(int(head["count"]))) % self.length
        times: I64 = self._ts_ms[slot, order]
        return times

    def learned(self, slots: I64) -> NDArray[np.uint32]:
        """Samples ever admitted of these series."""
        counts: NDArray[np.uint32] = self._head.array["learned"][slots]
        return counts

    @property
    def row_bytes(self) -> int:
        return self._head.row_bytes + 8 * self.length

    def snapshot(self) -> State:
        slots = self._head.slots
        return {"head": self._head.snapshot(), "ts_ms": self._ts_ms[:slots]}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot; raises ``ValueError`` when its windows have another length."""
        if state["ts_ms"].shape[1] != self.length:
            raise ValueError(f"snapshot has windows of {state['ts_ms'].shape[1]}, configured {self.length}")
        self._head.load(state["head"])
        self._ts_ms = state["ts_ms"].copy()


@njit(cache=True, nogil=True, inline="always")
def _in_ring(head: Any, ring_ms: Any, ts_ms: int) -> bool:
    """Whether the time is in the ring: its times increase from oldest to newest, so halve."""
    length = ring_ms.shape[0]
    low, high = 0, int(head.count)
    oldest = int(head.next) + length - int(head.count)
    while low < high:
        middle = (low + high) // 2
        if ring_ms[(oldest + middle) % length] < ts_ms:
            low = middle + 1
        else:
            high = middle
    return low < int(head.count) and ring_ms[(oldest + low) % length] == ts_ms


@njit(cache=True, nogil=True, inline="always")
def _learn_interval(head: Any, gap_ms: int) -> None:
    """Move the median estimate towards the new distance by a factor, exactly onto it when near."""
    if head.interval_ms == 0.0:
        head.interval_ms = np.float32(gap_ms)
        return
    factor = 1.0 + max(0.02, 1.0 / (1.0 + head.learned))
    if gap_ms > head.interval_ms * factor:
        head.interval_ms = np.float32(head.interval_ms * factor)
    elif gap_ms * factor < head.interval_ms:
        head.interval_ms = np.float32(head.interval_ms / factor)
    else:
        head.interval_ms = np.float32(gap_ms)


@njit(cache=True, nogil=True)
def _admit(  # type: ignore[no-untyped-def]
    heads, ring_ms, slots, ts_ms, values, warm_up, states, clock_ms, interval_ms, ages
):
    length = ring_ms.shape[1]
    for i in range(slots.shape[0]):
        slot = slots[i]
        head = heads[slot]
        clock_ms[i] = max(ts_ms[i], head.newest_ms) if head.count > 0 else ts_ms[i]
        interval_ms[i] = head.interval_ms
        ages[i] = head.learned
        if np.isnan(values[i]):
            states[i] = _GAP
            continue
        if head.count > 0 and ts_ms[i] <= head.newest_ms:
            known = ts_ms[i] == head.newest_ms or _in_ring(head, ring_ms[slot], ts_ms[i])
            states[i] = _DUPLICATE if known else _LATE
            continue
        if head.count > 0:
            _learn_interval(head, ts_ms[i] - head.newest_ms)
        place = int(head.next)
        ring_ms[slot, place] = ts_ms[i]
        head.next = np.uint32(place + 1 if place + 1 < length else 0)
        if head.count < length:
            head.count += np.uint32(1)
        if head.learned < 0xFFFFFFFF:
            head.learned += np.uint32(1)
        ages[i] = head.learned
        head.newest_ms = ts_ms[i]
        states[i] = _SCORED if head.learned > warm_up[i] else _WARMING_UP
