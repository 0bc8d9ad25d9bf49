"""One partition's life: fence, restore, replay, run; any doubt returns to the fence.

The order is what makes it safe. aiokafka speaks a version of the transaction protocol that does not fence by
group generation, so the transactional id of the partition does: whoever starts its producer last has ended
every transaction of the earlier ones, and only then reads the committed offset.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import structlog

from schemas import config
from schemas.deadletter import DeadLetter
from schemas.journal import Entry
from stream import topics
from stream.kafka import (
    IdempotentProducer,
    Message,
    Producer,
    ProducerFenced,
    Record,
    TopicPartition,
    TransactionalProducer,
    WorkerConsumer,
)
from stream.output import dead_letter_message, event_message
from stream.worker import journal, reached
from stream.worker.admission import Breaker
from stream.worker.adoption import Adopter, Desk
from stream.worker.board import Board, Reader
from stream.worker.checkpoint import Checkpoint
from stream.worker.lifecycle import Lifecycle, State
from stream.worker.pipeline import Output
from stream.worker.report import BatchReport, PartitionReport
from stream.worker.restoring import Restored, Restorer
from stream.worker.snapshot_file import Header, Snapshot
from stream.worker.snapshotting import Saver, Schedule

log = structlog.get_logger(__name__)

BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before the next fence after errors in a row. Shorter ones hammer a broker that is starting; a longer
last one adds to the recovery after a long outage."""

FETCH_MESSAGES: Final = 1000
"""Taken from the fetcher at once: the bytes of a batch are known only after that."""

IDLE_FETCH_MS: Final = 500
"""An idle partition looks up this often, to report its lag; longer makes the gauge old."""


class Host(NamedTuple):
    """What the partitions of a worker share."""

    cfg: config.Config
    consumer: WorkerConsumer
    pool: ThreadPoolExecutor
    saver: Saver
    desk: Desk
    board: Board
    report: Callable[[TopicPartition], PartitionReport]
    interval_s: Callable[[], float]


class PartitionTask:
    """Runs one partition from its assignment to `stop`."""

    def __init__(
        self, host: Host, source: config.Input, partition: TopicPartition, kept: Restored | None
    ) -> None:
        """``kept``: the state with which this worker gave it up, good while nobody committed more."""
        self._host = host
        self._partition = partition
        self._kept = kept
        self._log = log.bind(topic=partition.topic, partition=partition.partition)
        self._report = host.report(partition)
        self._life = Lifecycle(self._report.state)
        limits = host.cfg.admission
        self._breaker = Breaker(limits.breaker_ratio, limits.breaker_window_ms / 1000)
        self._stopping = asyncio.Event()
        self._fetching: asyncio.Task[list[Record]] | None = None
        self._producer: Producer | None = None
        self._state: Restored | None = None
        self._restorer = Restorer(
            host.cfg,
            source,
            partition,
            host.consumer,
            self._report,
            host.saver.store,
            host.desk.read,
            self,
        )
        self._adopter = Adopter(host.desk, partition, self)
        self._reader = Reader(host.board, partition, self)
        self._schedule = Schedule(host.saver, partition, time.monotonic())
        self._due = 0.0  # when the next batch should end, by the monotonic clock
        self._task = asyncio.create_task(
            self._live(), name=f"partition {partition.topic}/{partition.partition}"
        )

    @property
    def state(self) -> State:
        return self._life.state

    async def stop(self, deadline: float) -> Restored | None:
        """Finish the open batch or, at the loop time ``deadline``, abandon it; gives the state to keep."""
        self._stopping.set()
        if self._fetching is not None:
            self._fetching.cancel()
        loop = asyncio.get_running_loop()
        _, late = await asyncio.wait([self._task], timeout=max(0.0, deadline - loop.time()))
        if late:
            self._log.warning("partition abandoned at the deadline", state=self.state)
            self._task.cancel()
            await asyncio.wait([self._task])
        return self._kept

    async def _live(self) -> None:
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._fence()
                    await self._restore()
                    failures = 0
                    await self._run()
                except (Exception, asyncio.CancelledError) as error:  # back to the last commit
                    if self._task.cancelling():
                        raise
                    # aiokafka raises CancelledError though nobody cancelled, from a client that is stopped
                    # early: let through, it would end this task without a word.
                    await self._recover(error, failures)
                    failures += 1
        finally:
            await self._close_producer()
            self._life.to(State.STOPPED)
            self._report.close()

    async def _fence(self) -> None:
        """Step 2: whoever held the transactional id before can commit nothing more."""
        self._life.to(State.FENCING)
        worker = self._host.cfg.worker
        topic, number = self._partition
        if worker.delivery == "exactly_once":
            self._producer = TransactionalProducer(
                self._host.cfg.kafka, f"{worker.group_id}-{topic}-{number}", worker.transaction_timeout_ms
            )
        else:
            self._producer = IdempotentProducer(self._host.cfg.kafka, self._host.consumer)
        await self._producer.start()
        await self._producer.settle(worker.group_id, self._partition)
        name = self._host.cfg.topics.journal.name
        if await self._producer.partitions(name) <= number:  # the input has grown
            await topics.grow(self._host.cfg, name, number + 1)

    async def _restore(self) -> None:
        """Steps 3 and 4: the committed offset, the state that belongs to it, and seek there."""
        self._life.to(State.RESTORING)
        kept, self._kept = self._kept, None
        state = await self._restorer.restore(kept)
        if self.stopping:  # perhaps amid the replay: this state is of no offset
            return
        self._state = state
        self._adopter = Adopter(self._host.desk, self._partition, self)
        self._reader = Reader(self._host.board, self._partition, self)
        self._host.consumer.seek(self._partition, state.next_offset)
        self._host.consumer.resume(self._partition)
        self._log.info("partition starts", offset=state.next_offset, kept=state is kept)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def replaying(self) -> None:
        self._life.to(State.REPLAYING)

    async def _run(self) -> None:
        """Step 5, again and again."""
        self._life.to(State.RUNNING)
        if self._breaker.tripped:  # and then something failed while it was paused
            await self._pause()
        while not self._stopping.is_set():
            records, started = await self._collect()
            if records:
                await self._batch(records, started)
            self._report.lag(self._host.consumer.end(self._partition), self._next_offset)
        self._kept = self._state

    async def _collect(self) -> tuple[list[Record], float]:
        """Messages for one transaction: those of an interval, fewer when they are many or large.

        The interval counts from the start of the last batch: when its commit took longer than that, what has
        come in the meantime is taken at once.
        """
        worker = self._host.cfg.worker
        records = await self.fetch(IDLE_FETCH_MS)
        started = time.monotonic()
        due = max(started, self._due)
        size = _size(records)
        while records and len(records) < worker.max_batch_messages and size < worker.fetch_max_bytes:
            left_ms = max(0, int((due - time.monotonic()) * 1000))
            more = await self.fetch(left_ms)
            records += more
            size += _size(more)
            if not left_ms and not more:
                break
        self._due = started + self._host.interval_s()
        return records, started

    async def fetch(self, timeout_ms: int) -> list[Record]:
        """Messages of this partition; none when `stop` interrupts."""
        if self._stopping.is_set():
            return []
        coroutine = self._host.consumer.fetch(self._partition, timeout_ms, FETCH_MESSAGES)
        self._fetching = asyncio.create_task(coroutine)
        try:
            return await self._fetching
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            return []
        finally:
            self._fetching = None

    async def _batch(self, records: Sequence[Record], started: float) -> None:
        state, producer = self._state, self._producer
        if state is None or producer is None or records[0].offset < state.next_offset:
            raise RuntimeError(f"offset {records[0].offset} came while {self._next_offset} was next")
        pipeline = state.pipeline
        # Before the first sample: at one a minute, the sample after a mute may be the one that it is for.
        commands = await self._reader.read(pipeline, state.next_offset)
        decode_started = time.perf_counter()
        samples, dead = await self.compute(pipeline.decode, records)
        decoded_s = time.perf_counter() - decode_started
        outputs = [await self.compute(pipeline.score, part) for part in pipeline.slices(samples)]
        after = state._replace(next_offset=records[-1].offset + 1, told=True)
        adopted = await self._adopter.adopt(pipeline, after.next_offset)
        entries: list[Entry] = [*([] if state.told else [state.began]), *commands, *adopted]
        commit_started = time.monotonic()
        checkpoint = self._checkpoint(after, outputs, dead, entries, records[-1].timestamp)
        await self._commit(checkpoint, producer, after)
        self._state = after
        now = time.monotonic()
        self._report.batch(
            BatchReport(
                messages=len(records),
                outputs=outputs,
                dead=dead,
                decode_s=decoded_s,
                transaction_s=now - commit_started,
                batch_s=now - started,
                oldest_ms=records[0].timestamp,
                newest_ms=int(samples.ts_ms.max()) if len(samples.ts_ms) else -1,
                engine=pipeline.engine,
            )
        )
        if self._breaker.record(now, len(records), len({letter.offset for letter in dead})):
            await self._pause()

    async def _commit(self, checkpoint: Checkpoint, producer: Producer, after: Restored) -> None:
        """Step 5's transaction and, when it is time, step 7: the state is copied while the broker works."""
        timeout_s = self._host.cfg.worker.transaction_timeout_ms / 1000
        if not await self._takes_turn(after):
            await checkpoint.commit(producer, timeout_s)
            return
        copying = asyncio.create_task(self._copy(after))
        try:
            await checkpoint.commit(producer, timeout_s)
            committed = time.monotonic()
            snapshot = await copying
        except BaseException:
            self._schedule.give_back(time.monotonic())
            await asyncio.wait([copying])  # nobody may touch the engine while a thread reads it
            raise
        self._report.snapshot_step("delay", time.monotonic() - committed)
        self._host.saver.start(snapshot, self._report)

    async def _takes_turn(self, after: Restored) -> bool:
        """Whether this batch ends with a snapshot, for which there is room."""
        if not self._schedule.take_turn(time.monotonic()):
            return False
        try:
            size_bytes = await self.compute(after.pipeline.snapshot_bytes)
        except BaseException:
            self._schedule.give_back(time.monotonic())
            raise
        if self._host.saver.has_room(size_bytes):
            return True
        self._schedule.wait(time.monotonic())
        return False

    async def _copy(self, after: Restored) -> Snapshot:
        began, started = after.began, time.monotonic()
        arrays = await self.compute(after.pipeline.snapshot, self._host.saver.buffer)
        self._report.snapshot_step("copy", time.monotonic() - started)
        header = Header(
            topic=began.topic,
            partition=began.partition,
            next_offset=after.next_offset,
            config_hash=began.config_hash,
            lineage=began.lineage,
            learned_from=began.learned_from,
        )
        return Snapshot(header, arrays)

    @property
    def _next_offset(self) -> int:
        return self._state.next_offset if self._state is not None else 0

    def _checkpoint(
        self,
        after: Restored,
        outputs: Sequence[Output],
        dead: Sequence[DeadLetter],
        entries: Sequence[Entry],
        before_ms: int,
    ) -> Checkpoint:
        """``before_ms``: Kafka's time of the last message."""
        names, source = self._host.cfg.topics, self._partition
        events = [event_message(names.anomalies.name, e, source) for o in outputs for e in o.events]
        key = reached.key_of(source)
        scores = [Message(names.scores.name, value, key) for output in outputs for value in output.scores]
        letters = [dead_letter_message(names.deadletters.name, letter) for letter in dead]
        if scores or events or letters or entries:
            got = reached.Reached(after.next_offset, before_ms, self._host.cfg.worker.group_id)
            scores = reached.mark(scores, got, names.scores.name, key)
        return Checkpoint(
            self._host.cfg.worker.group_id,
            source,
            after.next_offset,
            events=events,
            scores=scores,
            dead_letters=letters,
            journal=[journal.message(names.journal.name, entry) for entry in entries],
        )

    async def _pause(self) -> None:
        """The breaker has tripped: wait for a person, who restarts the worker."""
        self._life.to(State.PAUSED)
        self._log.error("too many dead letters: the partition is paused until a restart")
        self._host.consumer.pause(self._partition)
        while not self._stopping.is_set():
            # Fetching from a paused partition gives nothing, and tells the group that this worker is alive.
            await self.fetch(IDLE_FETCH_MS)
            _, end = await self._host.consumer.bounds(self._partition)
            self._report.lag(end, self._next_offset)

    async def _recover(self, error: BaseException, failures: int) -> None:
        """Step 6: drop what may be ahead of the last commit, and wait before the next fence."""
        self._life.to(State.RECOVERING)
        self._report.recovered()
        self._log.warning("partition returns to its last commit", error=repr(error), failures=failures)
        self._host.consumer.pause(self._partition)
        self._state = self._kept = None
        await self._close_producer()
        pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
        if isinstance(error, ProducerFenced):
            # Another worker owns the partition now. The next heartbeat tells us so: do not fence it before.
            pause_s = max(pause_s, self._host.cfg.worker.session_timeout_ms / 1000 / 5)
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run the CPU part in a thread, one call at a time for this partition."""
        return await asyncio.get_running_loop().run_in_executor(self._host.pool, function, *args)

    async def blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run what waits for a disk or a network in a thread that is not one of the computing ones."""
        return await asyncio.to_thread(function, *args)


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)
