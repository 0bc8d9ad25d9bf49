"""Mutes and verdicts in force, as `tocsin.control` says, on their way into the partitions of a worker.

As with models (`stream.worker.adoption`) a partition compares what should hold with what its engine knows, at
a batch boundary, and journals the difference in the same transaction: a command that comes twice, out of
order with others, or before a partition does, makes no difference.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import msgspec
import structlog

from detectors.engine import Engine
from detectors.mutes import MOST
from schemas import config
from schemas.control import Command, Label, Mute, Refresh, Unmute
from schemas.journal import Labelled, Muted
from stream.control.commanding import Newest
from stream.control.muting import muted
from stream.kafka import Record, TopicPartition
from stream.kafka.following import follow
from stream.worker.adoption import Hands
from stream.worker.pipeline import Pipeline

log = structlog.get_logger(__name__)

MOST_LABELS: Final = 1_000
"""Of the newest that are remembered: a verdict concerns the newest anomaly of its series only."""

_decode = msgspec.json.Decoder(Command).decode


class Board:
    """What people want, read by the partitions of one worker in its event loop.

    ``ready`` once the topic has been read to its end: before, a mute that was lifted may still seem to hold.
    """

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self.mutes: OrderedDict[str, Mute | None] = OrderedDict()  # null: lifted
        self.labels: OrderedDict[str, Label] = OrderedDict()
        self._newest = Newest()
        self.ready = False
        self.changes = 0
        """Goes up whenever something else should hold."""

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await follow(self._cfg.kafka, self._cfg.topics.control.name, self._record, self._caught_up)

    def _caught_up(self) -> None:
        self.ready = True

    async def _record(self, record: Record) -> None:
        self.take(record.value)

    def take(self, value: bytes | None) -> None:
        """Note a command; one that cannot be read, or means nothing, is told and skipped."""
        if value is None:
            return
        try:
            command = _decode(value)
            self._note(command)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("command skipped", cause=str(error), command=value[:200].decode(errors="replace"))

    def _note(self, command: Command) -> None:
        if isinstance(command, Mute):
            muted(command)  # raises where it means nothing
        if not self._newest.put(command):
            return
        match command:
            case Mute():
                self._put(self.mutes, command.mute_id, command, MOST)
            case Unmute():
                self._put(self.mutes, command.mute_id, None, MOST)
            case Label():
                self._put(self.labels, command.anomaly_id, command, MOST_LABELS)
            case Refresh():  # of the coordinator
                return
        self.changes += 1

    @staticmethod
    def _put(known: OrderedDict[str, Any], key: str, value: Any, most: int) -> None:
        known[key] = value
        known.move_to_end(key)
        while len(known) > most:
            known.popitem(last=False)


class Reader:
    """Brings one state of one partition to what the board says."""

    def __init__(self, board: Board, partition: TopicPartition, hands: Hands) -> None:
        self._board, self._partition, self._hands = board, partition, hands
        self._looked: tuple[object, ...] = ()

    async def read(self, pipeline: Pipeline, next_offset: int) -> list[Muted | Labelled]:
        """Apply what is new; the entries for the journal, at ``next_offset``."""
        board, engine = self._board, pipeline.engine
        if not board.ready:
            return []
        state = (board.changes, len(engine.series), engine.series.evictions)
        if state == self._looked:
            return []
        self._looked = state
        entries: list[Muted | Labelled] = [*self._mutes(engine, next_offset)]
        entries += self._labels(engine, next_offset)
        for entry in entries:
            await self._hands.compute(pipeline.apply, entry)
        return entries

    def _mutes(self, engine: Engine, next_offset: int) -> list[Muted]:
        found = []
        for mute_id, mute in self._board.mutes.items():
            if engine.muted(mute_id) != (muted(mute) if mute is not None else None):
                found.append(Muted(**self._place(next_offset), mute_id=mute_id, mute=mute))
        return found

    def _labels(self, engine: Engine, next_offset: int) -> list[Labelled]:
        return [
            Labelled(
                **self._place(next_offset),
                anomaly_id=label.anomaly_id,
                series=label.series,
                verdict=label.verdict,
            )
            for label in self._board.labels.values()
            if engine.can_label(label.series, label.anomaly_id, label.verdict)
        ]

    def _place(self, next_offset: int) -> dict[str, Any]:
        topic, partition = self._partition
        return {"topic": topic, "partition": partition, "next_offset": next_offset}
