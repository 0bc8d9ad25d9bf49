"""Moments of groups: the samples of several series, put together by intervals of event time."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from detectors.batch import MAX_CHANNELS
from detectors.protocol import F32, F64, I64, Bools
from detectors.rows import Rows

_LIMIT: Final = 1e37
_JITTER: Final = 1.1  # intervals from a sample to the next, at most


class Together(NamedTuple):
    """*n* moments in order, each array of length *n*; ``values`` has shape (n, `MAX_CHANNELS`).

    ``position`` is the sample with which a moment was complete, ``slots`` the group; a value is the mean of
    the channel in ``[ts_ms, ts_ms + interval_ms)``, NaN where it had no sample.
    """

    position: I64
    slots: I64
    ts_ms: I64
    values: F64
    learn: Bools


def _record(places: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("channels", "u4"),  # 0: nobody has asked for this group
            ("known", "u1", (MAX_CHANNELS,)),  # which of them have ever sent anything
            ("newest_ms", "i8"),
            ("closed", "i8"),  # moments with a lower number are over
            ("through", "i8", (MAX_CHANNELS,)),  # with a lower one a channel has no more samples
            ("sums", "f8", (places, MAX_CHANNELS)),
            ("counts", "u4", (places, MAX_CHANNELS)),
            ("unlearned", "u4", (places,)),
        ]
    )


class Moments(Rows):
    """The moments at hand of every group; 0.8 KB a group, about 30 ns a sample.

    A moment is over when every channel is through with it, which a channel is whose next sample would lie
    beyond it; or when the newest sample of the group is ``wait_ms`` beyond its end: then a channel is
    missing. Samples of one that is over are left out. Which sample ends a moment depends on the samples
    before it alone. A group of which half of the channels or fewer were ever heard of has no moments: the
    others are elsewhere.
    """

    def __init__(self, interval_ms: int, wait_ms: int) -> None:
        places = 2 - (-wait_ms // interval_ms)
        super().__init__(_record(places))
        self._interval_ms, self._wait_ms, self._places = interval_ms, wait_ms, places

    def begin(self, slot: int, channels: int) -> None:
        """Put together this group anew, of so many channels."""
        self.array[slot] = np.zeros(1, self.array.dtype)
        self.array[slot]["channels"] = channels

    def take(
        self,
        slots: I64,
        columns: I64,
        ts_ms: I64,
        interval_ms: F32,
        values: F64,
        learn: Bools,
    ) -> Together:
        """Samples of members in order: their groups, channels, times, usual distances, values, and whether
        they may be learned. Times do not decrease within a channel.
        """
        most = self._places * len(slots)
        out = Together(
            np.empty(most, np.int64),
            np.empty(most, np.int64),
            np.empty(most, np.int64),
            np.empty((most, MAX_CHANNELS)),
            np.empty(most, np.bool_),
        )
        found = _take(
            self.array, self._interval_ms, self._wait_ms, slots, columns, ts_ms, interval_ms,
            values.clip(-_LIMIT, _LIMIT), learn, *out,
        )  # fmt: skip
        return Together(*(column[:found] for column in out))  # type: ignore[arg-type]


@njit(cache=True, nogil=True, inline="always")
def _through(row: Any) -> Any:
    """Every channel is through with the moments of a lower number."""
    least = row.through[0]
    for c in range(1, row.channels):
        least = min(least, row.through[c])
    return least


@njit(cache=True, nogil=True)
def _close(row, slot, until, interval_ms, position, positions, slots, ts_ms, values, learn, found):  # type: ignore[no-untyped-def]
    """Write out the moments below the number ``until``; the number of moments written in all."""
    places = row.unlearned.shape[0]
    for number in range(row.closed, min(until, row.closed + places)):
        place = number % places
        if row.counts[place].max() > 0 and 2 * row.known.sum() > row.channels:
            positions[found], slots[found], ts_ms[found] = position, slot, number * interval_ms
            learn[found] = row.unlearned[place] == 0
            for c in range(values.shape[1]):
                count = row.counts[place, c]
                values[found, c] = row.sums[place, c] / count if count > 0 else np.nan
            found += 1
        row.sums[place, :] = 0.0
        row.counts[place, :] = np.uint32(0)
        row.unlearned[place] = np.uint32(0)
    row.closed = max(row.closed, until)
    return found


@njit(cache=True, nogil=True)
def _take(  # type: ignore[no-untyped-def]
    rows, interval_ms, wait_ms, members, columns, times, distances, samples, learns,
    positions, slots, ts_ms, values, learn,
):  # fmt: skip
    found = 0
    for i in range(members.shape[0]):
        row, c, number = rows[members[i]], columns[i], times[i] // interval_ms
        if row.known.max() == 0:
            row.closed = number
        row.known[c] = np.uint8(1)
        row.newest_ms = max(row.newest_ms, times[i])
        over = (row.newest_ms - wait_ms) // interval_ms
        found = _close(row, members[i], over, interval_ms, i, positions, slots, ts_ms, values, learn, found)
        if number >= row.closed:
            place = number % row.unlearned.shape[0]
            row.sums[place, c] += samples[i]
            row.counts[place, c] += np.uint32(1)
            row.unlearned[place] += np.uint32(not learns[i])
        last = distances[i] > 0.0 and times[i] + _JITTER * distances[i] >= (number + 1) * interval_ms
        row.through[c] = number + 1 if last else number
        found = _close(
            row, members[i], _through(row), interval_ms, i, positions, slots, ts_ms, values, learn, found
        )
    return found
