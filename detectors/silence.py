"""Series that fall silent, seen from the time in which the others of the partition go on.

Nothing arrives from what is silent, so its clock is the progress of the partition: how far the newest time
has moved, where one sample moves it by two intervals at most. A pause of the whole partition is therefore no
silence of its series, and neither is a sender that delivers late or in bursts: how long a series usually
lets the partition go on without it is learned. A series alone in a partition has no one to be measured by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import I64, Bools, State
from detectors.rows import Rows

ROW: Final = np.dtype(
    [
        ("newest_ms", "i8"),
        ("seen_ms", "i8"),  # progress of the partition when the newest sample came
        ("started_ms", "i8"),  # of the silence at hand
        ("interval_ms", "f4"),
        ("usual_ms", "f4"),  # progress without a sample that is usual
        ("learned", "u4"),
        ("state", "u2"),
        ("watched", "u2"),
    ]
)
SPEAKING, SILENT, GONE, FORGOTTEN, LEFT = 0, 1, 2, 3, 4
"""`LEFT` is gone without a silence that was told: of a young series, or one that is not watched."""

TOLD: Final = np.dtype(
    [
        ("position", "i8"),  # which sample caused it
        ("slot", "i8"),
        ("started_ms", "i8"),
        ("detected_ms", "i8"),
        ("ended_ms", "i8"),  # 0 while open
        ("interval_ms", "f4"),
        ("state", "u1"),  # of the series: silent, speaking again, gone, forgotten or left
    ]
)
SILENCE: Final = 1.5
"""Score of a silence: a warning, and the same for all."""

LEAST_MS: Final = 60_000
"""No silence is shorter: a restart of a sender takes as long."""

_INTERVALS = 5.0  # without a sample that are a silence
_USUAL = 2.0  # times the usual progress without a sample
_LEARNED = 50  # samples before a series is watched
_FADE = 0.998  # of the usual progress, a sample
_CHECK_MS = 30_000  # of the newest time between two looks at all series


class Silence:
    """Watches all series of a partition; 48 bytes a series, 10 ns a sample and 2 ns a series every 30 s."""

    def __init__(self, gone_after: int) -> None:
        """After ``gone_after`` intervals of silence a series is taken as gone."""
        self._gone_after = gone_after
        self._rows = Rows(ROW)
        # Newest time, progress, the next look, shortest interval of those that speak.
        self._clock: I64 = np.zeros(4, np.int64)

    def reserve(self, slots: int) -> None:
        self._rows.reserve(slots)

    def watch(
        self,
        slots: I64,
        ts_ms: I64,
        interval_ms: NDArray[np.float32],
        watched: Bools,
        evicted: NDArray[Any],
    ) -> NDArray[Any]:
        """Take *n* samples in order; records of `TOLD`, in order of their position.

        ``evicted`` are pairs of position and slot, in order: before the sample at that position the slot
        is forgotten. A look depends on the samples before it alone, so it does not matter where batches end.
        """
        rows, room = self._rows.array[: self._rows.slots], np.empty(64, TOLD)
        told: NDArray[Any] = _watch(
            rows, self._clock, self._gone_after, slots, ts_ms, interval_ms, watched, evicted, room
        )
        return told

    @property
    def newest_ms(self) -> int:
        """The newest time seen in the partition."""
        return int(self._clock[0])

    def open_slots(self) -> I64:
        return np.flatnonzero(self._rows.array["state"][: self._rows.slots] == SILENT)

    def started_ms(self, slot: int) -> int:
        return int(self._rows.array[slot]["started_ms"])

    def snapshot(self) -> State:
        return {"rows": self._rows.snapshot(), "clock": self._clock.copy()}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._rows.load(state["rows"])
        self._clock = state["clock"].copy()


@njit(cache=True, nogil=True, inline="always")
def _patience_ms(row: Any) -> Any:
    """Progress without a sample that is a silence."""
    return max(_INTERVALS * row.interval_ms, _USUAL * row.usual_ms, float(LEAST_MS))


@njit(cache=True, nogil=True, inline="always")
def _progress_ms(clock: Any, ahead_ms: int, interval_ms: float) -> Any:
    """How much of a jump of the newest time counts."""
    most = max(2.0 * clock[3], float(LEAST_MS))
    if interval_ms > 0.0:
        most = min(most, 2.0 * interval_ms) if clock[3] > 0 else 2.0 * interval_ms
    return np.int64(min(float(ahead_ms), most))


@njit(cache=True, nogil=True)
def _told(  # type: ignore[no-untyped-def]
    told, found, position, slot, row, ended_ms, now_ms
):
    """The records with one more."""
    if found == told.shape[0]:
        more = np.empty(2 * found, told.dtype)
        more[:found] = told
        told = more
    record = told[found]
    record.position, record.slot, record.started_ms = position, slot, row.started_ms
    record.detected_ms, record.ended_ms = now_ms, ended_ms
    record.interval_ms, record.state = row.interval_ms, row.state
    return told


@njit(cache=True, nogil=True, inline="always")
def _forget(row: Any) -> None:
    row.newest_ms = row.seen_ms = row.started_ms = 0
    row.interval_ms = row.usual_ms = np.float32(0.0)
    row.learned = np.uint32(0)
    row.state = row.watched = np.uint16(SPEAKING)


@njit(cache=True, nogil=True, inline="always")
def _look(row: Any, clock: Any, gone_after: int) -> Any:
    """Move a series on by the progress of the others; whether there is something to tell."""
    if row.learned == 0 or row.state in (GONE, LEFT):
        return False
    beyond = float(clock[1] - row.seen_ms) - _patience_ms(row)
    if row.state == SILENT or row.watched == 0 or row.learned < _LEARNED:
        interval_ms = float(row.interval_ms) if row.interval_ms > 0.0 else float(LEAST_MS)
        if beyond > gone_after * interval_ms:
            row.state = np.uint16(GONE if row.state == SILENT else LEFT)
            return True
        return False
    if beyond <= 0.0:
        return False
    row.state = np.uint16(SILENT)
    row.started_ms = row.newest_ms + np.int64(row.interval_ms)
    return True


@njit(cache=True, nogil=True, inline="always")
def _hear(row: Any, clock: Any, ts_ms: int, interval_ms: float) -> None:
    """One more sample of a series."""
    if row.learned > 0:
        waited = min(float(clock[1] - row.seen_ms), _patience_ms(row))
        row.usual_ms = np.float32(max(row.usual_ms * _FADE, waited))
    row.newest_ms = max(row.newest_ms, ts_ms)
    row.seen_ms = clock[1]
    row.interval_ms = interval_ms
    row.state = np.uint16(SPEAKING)
    if row.learned < 0xFFFFFFFF:
        row.learned += np.uint32(1)


@njit(cache=True, nogil=True)
def _watch(  # type: ignore[no-untyped-def]
    rows, clock, gone_after, slots, ts_ms, interval_ms, watched, evicted, told
):
    found = forgotten = 0
    for i in range(slots.shape[0] + 1):
        while forgotten < evicted.shape[0] and (evicted[forgotten, 0] <= i or i == slots.shape[0]):
            row = rows[evicted[forgotten, 1]]
            if row.state == SILENT:
                row.state = np.uint16(FORGOTTEN)
                told = _told(told, found, i, evicted[forgotten, 1], row, clock[0], clock[0])
                found += 1
            _forget(row)
            forgotten += 1
        if i == slots.shape[0]:
            break
        if ts_ms[i] > clock[0]:
            clock[1] += _progress_ms(clock, ts_ms[i] - clock[0], interval_ms[i]) if clock[0] > 0 else 0
            clock[0] = ts_ms[i]
        row = rows[slots[i]]
        row.watched = np.uint16(watched[i])
        spoke = row.state
        _hear(row, clock, ts_ms[i], interval_ms[i])
        if spoke == SILENT:
            told = _told(told, found, i, slots[i], row, ts_ms[i], ts_ms[i])
            found += 1
        if clock[0] >= clock[2]:
            clock[2] = clock[0] // _CHECK_MS * _CHECK_MS + _CHECK_MS
            shortest = np.inf
            for slot in range(rows.shape[0]):
                row = rows[slot]
                if _look(row, clock, gone_after):
                    told = _told(told, found, i, slot, row, 0 if row.state == SILENT else clock[0], clock[0])
                    found += 1
                elif row.state == SPEAKING and row.learned >= _LEARNED and row.interval_ms > 0.0:
                    shortest = min(shortest, row.interval_ms)
            clock[3] = np.int64(shortest) if shortest < np.inf else 0
    return told[:found]
