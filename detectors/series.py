"""Which series has which slot: canonical text <-> row of the state arrays, under caps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from detectors.protocol import I64, State
from detectors.rows import grown
from schemas.series import Series

_KNOWN_DICTIONARIES: Final = 256
"""Dictionaries remembered by identity; one of 10 thousand names holds 80 KB of slots."""

_ALL_METRICS: Final = -1

_SORTED: Final = 4096
"""So many of the oldest slots are sorted at a time; as long as the others are only looked through."""

_HOLES_BYTES: Final = 4096
"""Holes that do not matter."""


class Names(Protocol):
    """What slots are called: those of `SeriesTable`, or of groups."""

    def __len__(self) -> int: ...
    def text(self, slot: int) -> str: ...
    def series(self, slot: int) -> Series: ...
    def series_id(self, slot: int) -> str: ...


class Step(NamedTuple):
    """Samples ``[start, stop)`` that may be processed together, once ``evicted`` slots are forgotten."""

    start: int
    stop: int
    slots: I64  # of the samples, length stop - start
    new: I64  # slots of the series that came with these samples, in order of first sample
    evicted: I64
    evicted_at: I64  # before which sample of the step each of them was forgotten, in order
    evicted_texts: tuple[str, ...]

    @classmethod
    def of(
        cls, start: int, stop: int, slots: I64, new: Sequence[int], evicted: Sequence[tuple[int, int, str]]
    ) -> Step:
        """``evicted``: position in the step, slot and text, in order."""
        at = np.array([position for position, _, _ in evicted], np.int64)
        gone = np.array([slot for _, slot, _ in evicted], np.int64)
        return cls(
            start, stop, slots, np.array(new, np.int64), gone, at, tuple(text for _, _, text in evicted)
        )


class SeriesTable:
    """Assigns slots in order of first sample; beyond a cap the least recently seen series loses its slot.

    The victim depends only on the order of samples, never on where batches were cut. Slots are dense: a
    freed one goes at once to the series that needed it. A dictionary that comes again as the same tuple
    object costs a lookup by identity, another one about 50 ns a name; a batch that evicts looks through the
    table (about 10 ns a slot) once for 4,096 victims. About 270 bytes a series beside its text, which is
    kept twice.
    """

    def __init__(self, max_series: int, max_per_metric: int) -> None:
        self._max_series = max_series
        self._max_per_metric = max_per_metric
        self._slot_of: dict[str, int] = {}
        self._texts: list[str] = []
        # The texts once more as a snapshot wants them, because encoding 100 thousand of them takes 50 ms. A
        # replaced one leaves a hole.
        self._encoded = bytearray()
        self._holes = 0  # bytes
        self._places: I64 = np.zeros((0, 2), np.int64)  # where each begins and ends
        self._parsed: dict[int, Series] = {}
        self._metric_ids: dict[str, int] = {}
        self._metric_sizes: Counter[int] = Counter()
        self._metric_of: NDArray[np.int32] = np.zeros(0, np.int32)
        self._last_seen: I64 = np.zeros(0, np.int64)
        self._clock = 0  # samples before the batch at hand
        self._new: list[int] = []  # slots named since the last step
        self._generation = 0
        self._cache: dict[int, tuple[tuple[str, ...], int, I64]] = {}
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._texts)

    def slot(self, text: str) -> int | None:
        """The slot of a series, None where it has none."""
        return self._slot_of.get(text)

    def text(self, slot: int) -> str:
        return self._texts[slot]

    def series(self, slot: int) -> Series:
        """Metric and labels; a text that does not parse is taken as a bare metric name."""
        found = self._parsed.get(slot)
        if found is None:
            found = self._parsed[slot] = Series.of(self._texts[slot])
        return found

    def series_id(self, slot: int) -> str:
        """The xxHash64 (seed 0) of the text, 16 hex digits."""
        return series_id(self._texts[slot])

    def steps(self, series: Sequence[str], series_index: I64) -> Iterator[Step]:
        """Cut a batch where a series with pending samples is evicted; nearly always one step.

        The caller processes each step before it asks for the next.
        """
        slots_of = self._resolve(series)
        slots = slots_of[series_index]
        unknown = series_index[slots < 0]
        if len(unknown):
            entries = unknown[np.sort(np.unique(unknown, return_index=True)[1])].tolist()
            if not self._has_room({series[entry] for entry in entries}):
                yield from self._crowded_steps(series, series_index)
                return
            for entry in entries:
                slot = self._slot_of.get(series[entry])
                slots_of[entry] = self._append(series[entry]) if slot is None else slot
            slots = slots_of[series_index]
        self._see(slots, 0)
        self._clock += len(slots)
        yield Step.of(0, len(slots), slots, self._named(), [])

    def _crowded_steps(self, series: Sequence[str], series_index: I64) -> Iterator[Step]:
        """As `steps`, where series must be evicted: a victim with pending samples ends the step."""
        slots = np.empty(len(series_index), np.int64)
        start = seen = 0
        evicted: list[tuple[int, int, str]] = []
        ages: dict[int, Iterator[tuple[int, int]]] = {}
        for at, entry in enumerate(series_index.tolist()):
            text = series[entry]
            slot = self._slot_of.get(text)
            if slot is None and not self._is_full(text):
                slot = self._append(text)
            if slot is None:
                self._see(slots[seen:at], seen)
                seen = at
                slot = self._least_recent(text, ages)
                if self._last_seen[slot] >= self._clock + start:
                    yield Step.of(start, at, slots[start:at], self._named(), evicted)
                    start, evicted = at, []
                evicted.append((at - start, slot, self._texts[slot]))
                self._replace(slot, text)
            slots[at] = slot
        self._see(slots[seen:], seen)
        self._clock += len(slots)
        yield Step.of(start, len(slots), slots[start:], self._named(), evicted)

    def _resolve(self, series: Sequence[str]) -> I64:
        """Slots of a dictionary, -1 for names without one; kept by the identity of a tuple."""
        cached = self._cache.get(id(series))
        if cached is not None and cached[0] is series and cached[1] == self._generation:
            return cached[2]
        found = np.fromiter((self._slot_of.get(text, -1) for text in series), np.int64, len(series))
        if isinstance(series, tuple):
            self._cache.pop(id(series), None)
            if len(self._cache) >= _KNOWN_DICTIONARIES:
                del self._cache[next(iter(self._cache))]
            self._cache[id(series)] = (series, self._generation, found)
        return found

    def _has_room(self, texts: set[str]) -> bool:
        new = [text for text in texts if text not in self._slot_of]
        total = len(self) + len(new)
        if total > self._max_series:
            return False
        if total <= self._max_per_metric:
            return True
        sizes = Counter(self._metric_id(text) for text in new)
        return all(self._metric_sizes[m] + size <= self._max_per_metric for m, size in sizes.items())

    def _is_full(self, text: str) -> bool:
        full = self._metric_sizes[self._metric_id(text)] >= self._max_per_metric
        return full or len(self) >= self._max_series

    def _least_recent(self, text: str, ages: dict[int, Iterator[tuple[int, int]]]) -> int:
        """The slot to give to this series: of its own metric when that is at its cap.

        ``ages`` remembers the oldest slots between the calls for a batch, by metric: whatever was seen since
        they were sorted is younger than the others.
        """
        metric = self._metric_id(text)
        crowd = metric if self._metric_sizes[metric] >= self._max_per_metric else _ALL_METRICS
        while True:
            for slot, last_seen in ages.get(crowd, ()):
                if self._last_seen[slot] == last_seen:
                    return slot
            ages[crowd] = self._oldest(crowd)

    def _oldest(self, crowd: int) -> Iterator[tuple[int, int]]:
        """Slots of a metric, or of all, from the least recently seen on, and when that was."""
        last_seen = self._last_seen[: len(self)]
        slots = np.arange(len(self))
        if crowd != _ALL_METRICS:
            slots = np.flatnonzero(self._metric_of[: len(self)] == crowd)
        if len(slots) > _SORTED:
            slots = slots[np.argpartition(last_seen[slots], _SORTED)[:_SORTED]]
        slots = slots[np.argsort(last_seen[slots])]
        return zip(slots.tolist(), last_seen[slots].tolist(), strict=True)

    def _append(self, text: str) -> int:
        slot = len(self._texts)
        self._texts.append(text)
        self._metric_of = grown(self._metric_of, slot + 1)
        self._last_seen = grown(self._last_seen, slot + 1)
        self._places = grown(self._places, slot + 1)
        self._name(slot, text)
        return slot

    def _replace(self, slot: int, text: str) -> None:
        del self._slot_of[self._texts[slot]]
        self._parsed.pop(slot, None)
        self._leave_hole(slot)
        self._metric_sizes[int(self._metric_of[slot])] -= 1
        self._texts[slot] = text
        self._name(slot, text)
        self._generation += 1
        self._cache.clear()
        self.evictions += 1

    def _name(self, slot: int, text: str) -> None:
        metric = self._metric_id(text)
        self._slot_of[text] = slot
        self._metric_of[slot] = metric
        self._metric_sizes[metric] += 1
        self._new.append(slot)
        self._encode(slot, text)

    def _named(self) -> list[int]:
        named, self._new = self._new, []
        return named

    def _encode(self, slot: int, text: str) -> None:
        start = len(self._encoded)
        self._encoded += text.encode()
        self._places[slot] = start, len(self._encoded)

    def _leave_hole(self, slot: int) -> None:
        """Forget a text; once most of the bytes are holes, encode the others anew."""
        start, end = self._places[slot].tolist()
        self._holes += end - start
        if 2 * self._holes <= len(self._encoded) + _HOLES_BYTES:
            return
        self._holes = 0
        self._encoded.clear()
        for other, text in enumerate(self._texts):
            self._encode(other, text if other != slot else "")

    def _metric_id(self, text: str) -> int:
        return self._metric_ids.setdefault(text.partition("{")[0], len(self._metric_ids))

    def _see(self, slots: I64, first: int) -> None:
        """Note when these slots were seen; of a repeated slot the last assignment stays."""
        self._last_seen[slots] = np.arange(self._clock + first, self._clock + first + len(slots))

    def snapshot(self) -> State:
        return {
            "names": np.frombuffer(bytes(self._encoded), np.uint8),
            "name_places": self._places[: len(self)],
            "last_seen": self._last_seen[: len(self)],
            "totals": np.array([self._clock, self.evictions], np.int64),
        }

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot into an empty table."""
        names, places = state["names"].tobytes(), state["name_places"]
        self._texts = [names[start:end].decode() for start, end in places.tolist()]
        count = len(self._texts)
        metrics = [self._metric_id(text) for text in self._texts]
        self._slot_of = dict(zip(self._texts, range(count), strict=True))
        self._metric_sizes.update(metrics)
        self._metric_of = np.array(metrics, np.int32)
        self._encoded[:], self._places = names, places.copy()
        self._holes = len(names) - int(np.diff(places).sum())
        self._last_seen = state["last_seen"].copy()
        self._clock, self.evictions = state["totals"].tolist()


def series_id(text: str) -> str:
    """The xxHash64 (seed 0) of a canonical text, 16 hex digits."""
    return xxhash.xxh64_hexdigest(text.encode())
