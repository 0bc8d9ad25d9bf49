"""Steps 3 and 4 of a partition: the committed offset, and the state that belongs to it.

The state is a function of the configuration and of the messages from the offset on at which it began; the
journal says which offset that is (`schemas.journal.Began`). A snapshot only shortens the way there.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import structlog

from schemas import config
from schemas.artifact import ArtifactMessage
from schemas.journal import Adopted, Began, Entry, Labelled, Muted
from stream.config import config_hash
from stream.kafka import Record, TopicPartition, WorkerConsumer
from stream.refresh.artifacts import MissingArtifactError
from stream.worker import journal, reached
from stream.worker.pipeline import Pipeline
from stream.worker.report import PartitionReport
from stream.worker.snapshot_file import Fault, Snapshot, SnapshotError
from stream.worker.snapshots import SnapshotStore

log = structlog.get_logger(__name__)

FETCH_MS: Final = 200
"""A replay looks this often whether it has arrived; nothing waits for it while messages come."""

DOUBT_S: Final = 10.0
"""How long a group is asked that has forgotten the offset of a partition that it knew. A coordinator that was
restarted does so for up to 2.5 s; longer delays a start after the offsets were deleted on purpose."""

ASK_EVERY_S: Final = 0.2

UNUSABLE: Final = (SnapshotError, ValueError, KeyError, IndexError, TypeError)
"""What a snapshot raises that is damaged, or that the engine refuses: of another version, or foreign."""


class Restored(NamedTuple):
    """A state and its place: everything below ``next_offset`` is in it.

    ``told`` says that the journal holds ``began``; otherwise it goes into the first transaction.
    """

    next_offset: int
    pipeline: Pipeline
    began: Began
    told: bool


class Hands(Protocol):
    """What a restore needs of the task whose partition it is."""

    @property
    def stopping(self) -> bool: ...
    async def fetch(self, timeout_ms: int) -> list[Record]: ...
    async def compute(self, function: Callable[..., Any], *args: Any) -> Any: ...
    async def blocking(self, function: Callable[..., Any], *args: Any) -> Any: ...
    def replaying(self) -> None: ...


def scoring_hash(cfg: config.Config, source: config.Input) -> str:
    """Changes with whatever changes scores: engine, admission, the format of the input."""
    form = config.Input(topic=source.topic, format=source.format, options=source.options)
    return config_hash(cfg.engine, cfg.admission, form)


class Restorer:
    """Finds the state of one partition after its fence."""

    def __init__(
        self,
        cfg: config.Config,
        source: config.Input,
        partition: TopicPartition,
        consumer: WorkerConsumer,
        report: PartitionReport,
        store: SnapshotStore,
        read_artifact: Callable[[str, str, str], ArtifactMessage],
        hands: Hands,
    ) -> None:
        self._cfg, self._source, self._partition = cfg, source, partition
        self._consumer, self._report, self._store, self._hands = consumer, report, store, hands
        self._read_artifact = read_artifact
        self._hash = scoring_hash(cfg, source)
        self._log = log.bind(topic=partition.topic, partition=partition.partition)

    async def restore(self, kept: Restored | None) -> Restored:  # noqa: PLR0911  # a way out for each case
        """The state at the committed offset; when the task stops meanwhile, one that must not be used."""
        first, last = await self._consumer.bounds(self._partition)
        committed = await self._committed()
        if committed is None:
            start = first if self._cfg.worker.start_from == "earliest" else last
            return self._begin(start, start, "first start")
        if kept is not None and kept.next_offset == committed and first <= committed <= last:
            return kept
        if not first <= committed <= last:
            start = min(max(committed, first), last)
            self._log.warning("committed offset is gone", committed=committed, first=first, last=last)
            return self._begin(start, start, "the committed offset is gone")
        entries = await journal.read(self._cfg, self._partition)
        newest = journal.newest_beginning(entries)
        fresh = self._reason_to_begin(newest, committed)
        if newest is None or fresh:
            return await self._relearn(first, committed, fresh)
        pipeline, begin = await self._from_snapshot(newest, first, committed)
        if begin < first:
            return await self._relearn(first, committed, "messages are gone that the state was learned from")
        later = [e for e in entries if begin < e.next_offset <= committed or _from_here_on(e, begin)]
        try:
            await self._replay(pipeline, begin, committed, later)
        except MissingArtifactError as error:
            return await self._relearn(first, committed, f"a model is gone that scored: {error}")
        return Restored(committed, pipeline, newest, told=True)

    async def _committed(self) -> int | None:
        """The committed offset, or what stands for it where the group has forgotten one."""
        committed = await self._consumer.committed(self._partition)
        if committed is not None or not await journal.read(self._cfg, self._partition):
            return committed
        if self._cfg.worker.delivery == "at_least_once":
            return await self._asked_again()
        # What was told last is in one transaction with the offset that is missing.
        offset = await reached.newest(self._cfg, self._partition)
        if offset is not None:
            self._log.warning("offset forgotten by the group: going on behind what was told", offset=offset)
        return offset

    async def _asked_again(self) -> int | None:
        """Without transactions the fence does not tell whether the group knows what it committed."""
        until = time.monotonic() + DOUBT_S
        while (committed := await self._consumer.committed(self._partition)) is None:
            if time.monotonic() > until:
                break
            await asyncio.sleep(ASK_EVERY_S)
        return committed

    def _reason_to_begin(self, newest: Began | None, committed: int) -> str:
        if newest is None:
            return "the journal does not say where the state began"
        if newest.config_hash != self._hash:
            return f"the configuration changed from {newest.config_hash}"
        if newest.learned_from > committed:
            return "the offset was reset to before the state began"
        return ""

    def _begin(self, start: int, learned_from: int, reason: str) -> Restored:
        began = Began(
            topic=self._partition.topic,
            partition=self._partition.partition,
            next_offset=start,
            config_hash=self._hash,
            lineage=journal.new_lineage(),
            learned_from=learned_from,
            reason=reason,
        )
        self._log.info("state begins anew", reason=reason, offset=start, learned_from=learned_from)
        return Restored(start, Pipeline(self._cfg, self._source), began, told=False)

    async def _relearn(self, first: int, committed: int, reason: str) -> Restored:
        """A new beginning that is not from nothing."""
        begin = max(first, committed - self._cfg.worker.relearn_messages)
        fresh = self._begin(committed, begin, reason)
        await self._replay(fresh.pipeline, begin, committed, [])
        return fresh

    async def _from_snapshot(self, began: Began, first: int, committed: int) -> tuple[Pipeline, int]:
        """The newest sound state at or below the committed offset and its place, or an empty one."""
        try:
            found = await self._hands.blocking(self._store.find, self._partition)
        except Exception as error:  # noqa: BLE001  # a store of any make may be away: there is the replay
            self._unusable(Fault.UNREADABLE, "", repr(error))
            found = []
        for each in found:
            if each.lineage != began.lineage or not first <= each.next_offset <= committed:
                continue
            started = time.monotonic()
            pipeline = Pipeline(self._cfg, self._source)
            try:
                snapshot: Snapshot = await self._hands.blocking(
                    self._store.read, self._partition, each, self._hash
                )
                await self._hands.compute(pipeline.restore, snapshot.state)
            except UNUSABLE as error:
                fault = error.fault if isinstance(error, SnapshotError) else Fault.FOREIGN
                self._unusable(fault, each.path, str(error))
                continue
            self._report.snapshot_step("restore", time.monotonic() - started)
            return pipeline, each.next_offset
        return Pipeline(self._cfg, self._source), began.learned_from

    def _unusable(self, fault: Fault, path: str, error: str) -> None:
        self._report.snapshot_failed(fault)
        self._log.warning("snapshot skipped", reason=str(fault), path=path, error=error)

    async def _replay(self, pipeline: Pipeline, begin: int, committed: int, entries: Sequence[Entry]) -> None:
        """Learn silently what was committed, with the journal's entries at their offsets."""
        todo = deque(entries)
        if begin < committed:
            self._hands.replaying()
            self._consumer.seek(self._partition, begin)
            self._consumer.resume(self._partition)
        started, seen, position = time.monotonic(), 0, begin
        end = self._consumer.end_of(self._partition, committed)
        while position < committed and not self._hands.stopping:
            records = await self._hands.fetch(FETCH_MS)
            before = [record for record in records if record.offset < committed]
            await self._learn(pipeline, before, todo)
            seen += len(before)
            self._report.replayed(len(before))
            position = await self._consumer.position(self._partition)
            if end.reached(
                got=bool(records)
            ):  # the offset was set by hand to one without a message before it
                break
        for entry in todo:
            await self._apply(pipeline, entry)
        self._consumer.pause(self._partition)
        if seen:
            self._log.info(
                "replayed", messages=seen, begin=begin, seconds=round(time.monotonic() - started, 2)
            )

    async def _learn(self, pipeline: Pipeline, records: Sequence[Record], todo: deque[Entry]) -> None:
        while todo and records and todo[0].next_offset <= records[-1].offset:
            entry = todo.popleft()
            cut = bisect_left(records, entry.next_offset, key=lambda record: record.offset)
            await self._learn_all(pipeline, records[:cut])
            await self._apply(pipeline, entry)
            records = records[cut:]
        await self._learn_all(pipeline, records)

    async def _apply(self, pipeline: Pipeline, entry: Entry) -> None:
        artifact = None
        if isinstance(entry, Adopted):
            artifact = await self._hands.blocking(
                self._read_artifact, entry.detector, entry.series, entry.artifact
            )
        await self._hands.compute(pipeline.apply, entry, artifact)

    async def _learn_all(self, pipeline: Pipeline, records: Sequence[Record]) -> None:
        samples, _dead = await self._hands.compute(pipeline.decode, records)
        for part in pipeline.slices(samples):
            await self._hands.compute(pipeline.learn, part)


def _from_here_on(entry: Entry, begin: int) -> bool:
    """Whether a state at ``begin`` may lack it: commands are followed before a batch, models taken after it.

    Following one again changes nothing.
    """
    return entry.next_offset == begin and isinstance(entry, Muted | Labelled)
