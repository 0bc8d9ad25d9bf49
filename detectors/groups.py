"""Groups of series that one detector judges together, such as all metrics of a service.

A group is a series of its own to whoever reads of it: its name is the metric, what its members share are the
labels, and its anomalies have episodes, ids and mutes as any others. It has moments in place of samples
(`detectors.moments`), from the time at which it has a model: the model says which series are its channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import registry
from detectors.batch import MAX_CHANNELS, Artifact, BatchDetector, channels_of, is_batch
from detectors.ensemble import Ensemble, band
from detectors.episode import LEAVING, Episodes
from detectors.events import Ongoing, events, excusable, ongoing, together
from detectors.group_names import GroupNames
from detectors.moments import Moments, Together
from detectors.owners import Owner
from detectors.policy import Policies
from detectors.protocol import F32, F64, I64, Asked, Bools, Scores, State
from detectors.rows import Rows, grown, part
from detectors.series import SeriesTable, Step
from detectors.silence import FORGOTTEN
from detectors.tables import Tables
from detectors.tails import tail_for
from schemas import config
from schemas.event import AnomalyEvent
from schemas.group import Grouping
from schemas.series import Series

WORST: Final = np.dtype(
    [
        ("started_ms", "i8"),
        ("score", "f4"),
        ("values", "f8", (MAX_CHANNELS,)),
        ("shares", "f4", (MAX_CHANNELS,)),
    ]
)


_AT_ONCE: Final = 64
"""Moments that one sample may end, at most, and a group that it takes away before them."""


class Forgotten(NamedTuple):
    """A group whose last member has gone, before the sample at this position of the step."""

    position: int
    owner: Owner
    channels: tuple[str, ...]


class Groups:
    """One entry of `schemas.config.Engine.groups`: its groups, their detector, and what judges with it."""

    def __init__(self, cfg: config.Group, engine: config.Engine) -> None:
        """Raises ``ValueError`` for a detector that does not take groups, its parameters or a matcher."""
        self._cfg, self._seed = cfg, engine.seed
        kind = registry.load(cfg.detector)
        if not is_batch(kind) or kind.channels != "many":
            raise ValueError(f"{cfg.detector} judges one series at a time: it cannot judge a group")
        self._kind = kind
        self.detector: BatchDetector = kind.create(cfg.params, engine.seed)
        alone = config.DetectorConfig(name=cfg.detector, params=cfg.params)
        chosen = msgspec.structs.replace(engine, detectors=[alone])
        self._tail = tail_for(self.detector, engine.alert_budget)
        self._ensemble = Ensemble([1.0], engine.level_half_life_samples)
        self._episodes = Episodes(chosen)
        self._policies = Policies(chosen)
        self._moments = Moments(cfg.interval_ms, cfg.wait_ms)
        self._worst = Rows(WORST)
        self.names = GroupNames(Grouping(cfg))
        self._column_of: NDArray[np.int8] = np.zeros(0, np.int8)  # of series: channel from 1, 0 is none
        self._channels: dict[int, tuple[str, ...]] = {}
        self.adopted: dict[int, str] = {}
        self._forgotten: dict[int, Forgotten] = {}
        self.judged = 0
        """Moments that have had a score."""

    @property
    def open_count(self) -> int:
        return self._episodes.open_count

    def follow(self, step: Step, table: SeriesTable) -> None:
        """Series have come and gone, in the order of their samples."""
        self._column_of = grown(self._column_of, len(table))
        self._forgotten.clear()
        gone, joined = dict(zip(step.evicted.tolist(), step.evicted_at.tolist(), strict=True)), set[int]()
        for member in step.new.tolist():
            if member in gone:
                self._leave(member, gone[member])
            text = table.text(member)
            slot = self.names.join(member, Series.of(text))
            channels = self._channels.get(slot, ()) if slot is not None else ()
            joined |= {slot} if slot is not None else set()
            self._column_of[member] = channels.index(text) + 1 if text in channels else 0
        for each in self._rooms():
            each.reserve(len(self.names))
        self._policies.assign(self.names, np.array(sorted(joined), np.int64))

    def _rooms(self) -> list[Any]:
        """Whatever has a row for each group."""
        return [part for name, part in self._parts().items() if name != "names"]

    def _leave(self, member: int, position: int) -> None:
        self._column_of[member] = 0
        slot = int(self.names.of(np.array([member]))[0])
        if slot < 0 or not self.names.leave(member):
            return
        self._forgotten[slot] = Forgotten(position, self.of(slot, 0), self._channels.pop(slot, ()))
        self.names.free(slot)
        for each in self._rooms():
            if each is not self._episodes and each is not self._worst:  # what they know is still to be told
                each.evict(np.array([slot]))
        self.adopted.pop(slot, None)

    def of(self, slot: int, position: int, forgotten: bool = False) -> Owner:
        """The group of a slot, or the one that has lost it in this step, as its events name it."""
        del position
        if forgotten:
            return self._forgotten[slot].owner
        artifacts = {self._cfg.detector: self.adopted.get(slot, "")}
        return Owner(self.names.text(slot), self.names.series(slot), artifacts, self._policies.limits(slot))

    def adopt(self, text: str, artifact: Artifact, artifact_id: str, table: SeriesTable) -> bool:
        """Judge a group with this artifact from its next moment on; False where it has no member here.

        With other channels than before the group is put together anew.
        """
        slot = self.names.slot(text)
        if slot is None:
            return False
        channels = channels_of(artifact)
        if self._channels.get(slot) != channels:
            self.detector.evict(np.array([slot]))
            self._moments.begin(slot, len(channels))
            self._channels[slot] = channels
            self._place(slot, table)
        self.detector.adopt(slot, artifact)
        self.adopted[slot] = artifact_id
        return True

    def _place(self, slot: int, table: SeriesTable) -> None:
        """Which series are which channels."""
        members = np.arange(len(table))
        self._column_of[members[self.names.of(members) == slot]] = 0
        for column, text in enumerate(self._channels[slot], 1):
            member = table.slot(text)
            if member is not None and int(self.names.of(np.array([member]))[0]) == slot:
                self._column_of[member] = column

    def judge(
        self, asked: Asked, interval_ms: F32, in_time: Bools, positions: I64, ts_ms: I64
    ) -> tuple[I64, list[AnomalyEvent]]:
        """Samples as the panel gets them, at these ``positions`` of the step whose times are ``ts_ms``.

        Returns events in order, with the positions that caused them.
        """
        columns = self._column_of[asked.slots].astype(np.int64) - 1
        rows = np.flatnonzero((columns >= 0) & in_time)
        if not len(rows) and not self._forgotten:
            return rows, []
        mine = asked.only(rows)
        moments = self._moments.take(
            self.names.of(mine.slots),
            columns[rows],
            mine.clock_ms,
            interval_ms[rows],
            mine.values,
            mine.learn,
        )
        if not len(moments.slots) and not self._forgotten:
            return rows[:0], []
        said, scores = self._scores(moments)
        self.judged += int(said.ready.sum())
        return self._episode(
            moments._replace(position=positions[rows[moments.position]]), said, scores, ts_ms
        )

    def _scores(self, moments: Together) -> tuple[Scores, F32]:
        _, slots, times, values, learn = moments
        said = self.detector.step(slots, times, values, learn)
        exposure_ms = self._policies.exposure_ms(slots, self._intervals(len(slots)))
        return said, self._tail.scores(slots, said.surprise, said.ready, learn, exposure_ms)

    def _intervals(self, count: int) -> F32:
        return np.full(count, self._cfg.interval_ms, np.float32)

    def _episode(
        self, moments: Together, said: Scores, scores: F32, ts_ms: I64
    ) -> tuple[I64, list[AnomalyEvent]]:
        position, slots, times, _, learn = moments
        n = len(slots)
        local_ms = self._policies.clocks(slots, times).local_ms
        verdict = self._ensemble.join(slots, local_ms, self._intervals(n), learn, scores[None], band([said]))
        no = np.zeros(n, np.bool_)
        order = position * _AT_ONCE + 1 + _rank(position)
        started, told, peaks = self._episodes.advance(
            order, slots, times, np.full(n, np.nan), said.ready, verdict, scores[None],
            np.zeros((1, n), np.uint8), no, no.view(np.uint8), no, self._policies.least_samples(slots),
            self._leaving(ts_ms),
        )  # fmt: skip
        found = events(told, peaks, self, [self.detector])
        shares = np.full(moments.values.shape, np.nan, np.float32)
        if said.contributions is not None:
            shares = said.contributions
        shown = self._explained(told, found, started, order, moments, verdict.score, shares)
        return told["position"] // _AT_ONCE, shown

    def _leaving(self, ts_ms: I64) -> NDArray[Any]:
        """The groups that this step has forgotten, for their episodes."""
        leaving = np.empty(len(self._forgotten), LEAVING)
        for record, (slot, each) in zip(leaving, self._forgotten.items(), strict=True):
            record["position"], record["slot"] = each.position * _AT_ONCE, slot
            record["state"], record["at_ms"] = FORGOTTEN, ts_ms[each.position]
        return leaving[np.argsort(leaving["position"], kind="stable")]

    def _explained(
        self,
        told: NDArray[Any],
        found: list[AnomalyEvent],
        started: I64,
        order: I64,
        moments: Together,
        score: F32,
        contributions: F32,
    ) -> list[AnomalyEvent]:
        """The events with the share of each channel in the worst moment so far."""
        records = dict(zip(told["position"].tolist(), zip(told, found, strict=True), strict=True))
        at = {number: i for i, number in enumerate(order.tolist())}
        shown = []
        for number in np.union1d(order[started > 0], told["position"]).tolist():
            i, (record, event) = at.get(number), records.get(number, (None, None))
            if i is not None:
                begun_ms = int(started[i]) if record is None else int(record["started_ms"])
                self._note(int(moments.slots[i]), begun_ms, score[i], moments.values[i], contributions[i])
            if record is not None and event is not None:
                slot = int(record["slot"])
                channels = self._forgotten[slot].channels if record["left"] else self._channels[slot]
                worst = self._worst.array[slot]
                columns = channels, worst["values"].tolist(), worst["shares"].tolist()
                shown.append(together(record, event, list(zip(*columns, strict=False))))
        return shown

    def _note(self, slot: int, begun_ms: int, score: np.float32, values: F64, shares: F32) -> None:
        """Remember a moment of an open anomaly if it is the worst so far."""
        worst = self._worst.array[slot]
        if worst["started_ms"] != begun_ms or score > worst["score"]:
            worst["started_ms"], worst["score"] = begun_ms, score
            worst["values"], worst["shares"] = values, shares

    def can_label(self, text: str, anomaly: str, verdict: str) -> bool:
        """Whether `label` would change anything."""
        slot = self.names.slot(text)
        return slot is not None and verdict != "true" and excusable(text, self._episodes.row(slot), anomaly)

    def label(self, text: str, anomaly: str, verdict: str) -> None:
        """A person's verdict on the newest anomaly of a group, as of a series."""
        slot = self.names.slot(text)
        if slot is not None and self.can_label(text, anomaly, verdict):
            self._episodes.excuse(slot)

    def ongoing(self) -> Iterator[Ongoing]:
        """The open anomalies, highest peak first."""
        return (ongoing(slot, self._episodes.row(slot), self.names) for slot in self._episodes.open_slots())

    def _parts(self) -> dict[str, Any]:
        parts = {"names": self.names, "detector": self.detector, "tail": self._tail, "worst": self._worst}
        return {**parts, "ensemble": self._ensemble, "episodes": self._episodes, "moments": self._moments}

    def snapshot(self) -> State:
        """The state as arrays by name, most of them views."""
        state: State = {"version": np.array([self.detector.version, self.judged], np.int64)}
        known = {"channels": self._channels, "adopted": self.adopted}
        state |= {
            name: np.frombuffer(msgspec.msgpack.encode(each), np.uint8).copy() for name, each in known.items()
        }
        return state | Tables(**self._parts()).snapshot()

    def load(self, state: Mapping[str, NDArray[Any]], table: SeriesTable) -> None:
        """Take over a snapshot; raises ``ValueError`` for that of another version of the detector."""
        version, self.judged = state["version"].tolist()
        if version != self._kind.version:
            raise ValueError(f"snapshot holds version {version} of {self._kind.name}")
        self._channels = _decoded(state["channels"], dict[int, tuple[str, ...]])
        self.adopted = _decoded(state["adopted"], dict[int, str])
        Tables(**{name: each for name, each in self._parts().items() if name != "detector"}).load(state)
        self.detector = self._kind.restore(self._cfg.params, self._seed, part("detector", state))
        self._policies.assign(self.names, np.arange(len(self.names)))
        self._column_of = np.zeros(len(table), np.int8)
        for slot in self._channels:
            self._place(slot, table)


def _rank(position: I64) -> I64:
    """Of each moment among those of the same position."""
    found: I64 = np.arange(len(position)) - np.searchsorted(position, position)
    return found


def _decoded(array: NDArray[Any], kind: Any) -> Any:
    return msgspec.msgpack.decode(array.tobytes(), type=kind)
