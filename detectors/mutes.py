"""Spans of event time in which the anomalies of some series are not sent, and may not be learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.protocol import I64, Bools, State
from detectors.rows import grown
from detectors.series import SeriesTable
from schemas.event import AnomalyEvent
from schemas.matcher import Matcher
from schemas.series import Series

MOST: Final = 1_000
"""Mutes that are remembered; with one more, the one that ends first is forgotten."""


class Muted(msgspec.Struct, frozen=True):
    """A mute as an engine knows it; spans are ``(start_ms, end_ms)``, half open, in order."""

    mute_id: str
    matcher: str
    spans: tuple[tuple[int, int], ...]
    learn: bool


class _Known(NamedTuple):
    mute: Muted
    matcher: Matcher
    starts: I64
    ends: I64  # the latest end of the spans so far

    @classmethod
    def of(cls, mute: Muted) -> _Known:
        spans = np.array(mute.spans, np.int64).reshape(-1, 2)
        return cls(mute, Matcher.parse(mute.matcher), spans[:, 0], np.maximum.accumulate(spans[:, 1]))

    def inside(self, ts_ms: I64) -> Bools:
        at = np.searchsorted(self.starts, ts_ms, side="right") - 1
        found: Bools = (at >= 0) & (ts_ms < self.ends[at])
        return found

    def holds(self, *ts_ms: int) -> bool:
        return len(self.starts) > 0 and bool(self.inside(np.array(ts_ms, np.int64)).all())


class Mutes:
    """Which mutes concern which series; costs nothing while there is none."""

    def __init__(self) -> None:
        self._mutes: dict[str, _Known] = {}
        self._unlearned: NDArray[np.bool_] = np.zeros(0, np.bool_)  # of slots: some mute forbids to learn

    def put(self, mute: Muted, table: SeriesTable) -> None:
        """Add a mute or replace the one with its id; ``ValueError`` tells what is wrong with its matcher.

        One that forbids to learn looks at every series, about 2 us each.
        """
        known = _Known.of(mute)
        self._mutes.pop(mute.mute_id, None)
        self._mutes[mute.mute_id] = known
        if len(self._mutes) > MOST:
            del self._mutes[min(self._mutes, key=lambda name: (self._end(name), name))]
        self._look_again(table)

    def get(self, mute_id: str) -> Muted | None:
        known = self._mutes.get(mute_id)
        return known.mute if known is not None else None

    def drop(self, mute_id: str, table: SeriesTable) -> None:
        """Lift a mute; one that is not here changes nothing."""
        if self._mutes.pop(mute_id, None) is not None:
            self._look_again(table)

    def assign(self, table: SeriesTable, new: I64) -> None:
        """Look at series that have come."""
        silent = [known.matcher for known in self._mutes.values() if not known.mute.learn]
        self._unlearned = grown(self._unlearned, len(table))
        self._unlearned[new] = False
        for slot in new.tolist() if silent else ():
            series = Series.of(table.text(slot))
            self._unlearned[slot] = any(matcher.matches(series) for matcher in silent)

    def learns(self, slots: I64, ts_ms: I64, table: SeriesTable) -> Bools:
        """Which samples may be learned."""
        may = np.ones(len(slots), np.bool_)
        if not self._unlearned[slots].any():
            return may
        for known in self._mutes.values():
            if known.mute.learn or not known.mute.spans:
                continue
            inside = known.inside(ts_ms)
            for slot in np.unique(slots[inside]).tolist():
                if known.matcher.matches(table.series(slot)):
                    may[inside & (slots == slot)] = False
        return may

    def muting(self, series: Series, *ts_ms: int) -> str | None:
        """The id of a mute of a series that holds at all of these times."""
        for known in self._mutes.values():
            if known.holds(*ts_ms) and known.matcher.matches(series):
                return known.mute.mute_id
        return None

    def marked(self, events: list[AnomalyEvent]) -> list[AnomalyEvent]:
        """The events, those that a mute holds back with its id.

        Opening and update count by the time at which they were seen. The close of an anomaly that was sent
        before the mute began is sent, and so is that of one that outlasts the mute.
        """
        if not self._mutes:
            return events
        return [msgspec.structs.replace(event, muted_by=self._muted_by(event)) for event in events]

    def _muted_by(self, event: AnomalyEvent) -> str | None:
        series = Series(event.metric, event.labels)
        if event.ended_ms is not None:
            return self.muting(series, event.started_ms, event.ended_ms)
        return self.muting(series, event.detected_ms)

    def __len__(self) -> int:
        return len(self._mutes)

    def _end(self, mute_id: str) -> int:
        return int(max(self._mutes[mute_id].ends, default=0))

    def _look_again(self, table: SeriesTable) -> None:
        self.assign(table, np.arange(len(table)))

    def snapshot(self) -> State:
        known = [each.mute for each in self._mutes.values()]
        return {"mutes": np.frombuffer(msgspec.msgpack.encode(known), np.uint8).copy()}

    def load(self, state: Mapping[str, NDArray[Any]], table: SeriesTable) -> None:
        for mute in msgspec.msgpack.decode(state["mutes"].tobytes(), type=list[Muted]):
            self._mutes[mute.mute_id] = _Known.of(mute)
        self._look_again(table)
