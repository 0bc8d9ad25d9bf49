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
from stream.admission import Breaker
from stream.checkpoint import Checkpoint
from stream.kafka import (
    Message,
    ProducerFenced,
    Record,
    TopicPartition,
    TransactionalProducer,
    WorkerConsumer,
)
from stream.lifecycle import Lifecycle, State
from stream.output import dead_letter_message, event_message
from stream.pipeline import Output, Pipeline
from stream.report import BatchReport, PartitionReport
from stream.snapshots import SnapshotStore

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
    snapshots: SnapshotStore
    report: Callable[[TopicPartition], PartitionReport]
    interval_s: Callable[[], float]


class Kept(NamedTuple):
    """The state of a partition that was given up at a commit boundary.

    It is good for as long as nobody has committed beyond ``next_offset``.
    """

    next_offset: int
    pipeline: Pipeline


class PartitionTask:
    """Runs one partition from its assignment to `stop`."""

    def __init__(
        self, host: Host, source: config.Input, partition: TopicPartition, kept: Kept | None
    ) -> None:
        self._host = host
        self._source = source
        self._partition = partition
        self._kept = kept
        self._log = log.bind(topic=partition.topic, partition=partition.partition)
        self._report = host.report(partition)
        self._life = Lifecycle(self._report.state)
        limits = host.cfg.admission
        self._breaker = Breaker(limits.breaker_ratio, limits.breaker_window_ms / 1000)
        self._stopping = asyncio.Event()
        self._fetching: asyncio.Task[list[Record]] | None = None
        self._producer: TransactionalProducer | None = None
        self._pipeline: Pipeline | None = None
        self._next_offset = 0
        self._due = 0.0  # when the next batch should end, by the monotonic clock
        self._task = asyncio.create_task(
            self._live(), name=f"partition {partition.topic}/{partition.partition}"
        )

    @property
    def state(self) -> State:
        return self._life.state

    async def stop(self, deadline: float) -> Kept | None:
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
                except Exception as error:  # noqa: BLE001  # whatever failed, the way back is the last commit
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
        transactional_id = f"{worker.group_id}-{topic}-{number}"
        self._producer = TransactionalProducer(
            self._host.cfg.kafka, transactional_id, worker.transaction_timeout_ms
        )
        await self._producer.start()

    async def _restore(self) -> None:
        """Steps 3 and 4: the committed offset, the state that belongs to it, and seek there."""
        self._life.to(State.RESTORING)
        consumer, cfg = self._host.consumer, self._host.cfg
        first, last = await consumer.bounds(self._partition)
        committed = await consumer.committed(self._partition)
        kept, self._kept = self._kept, None
        if committed is None:
            start = first if cfg.worker.start_from == "earliest" else last
        else:
            start = min(max(committed, first), last)
            if start != committed:
                self._log.warning("committed offset is gone", committed=committed, first=first, last=last)
        if kept is not None and kept.next_offset == committed == start:
            self._pipeline = kept.pipeline
        else:
            self._pipeline = Pipeline(cfg, self._source)
            if committed is not None:
                await self._replay(self._pipeline, first, start)
        if self._stopping.is_set():  # perhaps amid the replay: this state is of no offset
            self._pipeline = None
            return
        consumer.seek(self._partition, start)
        consumer.resume(self._partition)
        self._next_offset = start
        self._log.info("partition starts", offset=start, kept=kept is not None)

    async def _replay(self, pipeline: Pipeline, first: int, committed: int) -> None:
        """Learn silently up to the committed offset, from a snapshot or from messages before it."""
        consumer = self._host.consumer
        snapshot = await self._host.snapshots.load(self._partition, committed)
        if snapshot is not None:
            await self._compute(pipeline.restore, snapshot.state)
            begin = snapshot.next_offset
        else:
            begin = committed - self._host.cfg.worker.relearn_messages
        begin = max(begin, first)
        if begin >= committed:
            return
        self._life.to(State.REPLAYING)
        consumer.seek(self._partition, begin)
        consumer.resume(self._partition)
        while not self._stopping.is_set():
            records = await self._fetch(IDLE_FETCH_MS)
            before = [record for record in records if record.offset < committed]
            samples, _dead = await self._compute(pipeline.decode, before)
            for part in pipeline.slices(samples):
                await self._compute(pipeline.learn, part)
            if await consumer.position(self._partition) >= committed:
                break
        consumer.pause(self._partition)

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
        if self._pipeline is not None:
            self._kept = Kept(self._next_offset, self._pipeline)

    async def _collect(self) -> tuple[list[Record], float]:
        """Messages for one transaction: those of an interval, fewer when they are many or large.

        The interval counts from the start of the last batch: when its commit took longer than that, what has
        come in the meantime is taken at once.
        """
        worker = self._host.cfg.worker
        records = await self._fetch(IDLE_FETCH_MS)
        started = time.monotonic()
        due = max(started, self._due)
        size = _size(records)
        while records and len(records) < worker.max_batch_messages and size < worker.fetch_max_bytes:
            left_ms = max(0, int((due - time.monotonic()) * 1000))
            more = await self._fetch(left_ms)
            records += more
            size += _size(more)
            if not left_ms and not more:
                break
        self._due = started + self._host.interval_s()
        return records, started

    async def _fetch(self, timeout_ms: int) -> list[Record]:
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
        pipeline, producer = self._pipeline, self._producer
        if pipeline is None or producer is None or records[0].offset < self._next_offset:
            raise RuntimeError(f"offset {records[0].offset} came while {self._next_offset} was next")
        decode_started = time.perf_counter()
        samples, dead = await self._compute(pipeline.decode, records)
        decoded_s = time.perf_counter() - decode_started
        outputs = [await self._compute(pipeline.score, part) for part in pipeline.slices(samples)]
        next_offset = records[-1].offset + 1
        commit_started = time.monotonic()
        checkpoint = self._checkpoint(next_offset, outputs, dead)
        await checkpoint.commit(producer, self._host.cfg.worker.transaction_timeout_ms / 1000)
        self._next_offset = next_offset
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
                engine=pipeline.engine,
            )
        )
        if self._breaker.record(now, len(records), len({letter.offset for letter in dead})):
            await self._pause()

    def _checkpoint(
        self, next_offset: int, outputs: Sequence[Output], dead: Sequence[DeadLetter]
    ) -> Checkpoint:
        topics, source = self._host.cfg.topics, self._partition
        events = [event_message(topics.anomalies.name, e, source) for o in outputs for e in o.events]
        key = f"{source.topic}/{source.partition}".encode()
        scores = [Message(topics.scores.name, value, key) for output in outputs for value in output.scores]
        letters = [dead_letter_message(topics.deadletters.name, letter) for letter in dead]
        return Checkpoint(
            self._host.cfg.worker.group_id,
            source,
            next_offset,
            events=events,
            scores=scores,
            dead_letters=letters,
        )

    async def _pause(self) -> None:
        """The breaker has tripped: wait for a person, who restarts the worker."""
        self._life.to(State.PAUSED)
        self._log.error("too many dead letters: the partition is paused until a restart")
        self._host.consumer.pause(self._partition)
        while not self._stopping.is_set():
            # Fetching from a paused partition gives nothing, and tells the group that this worker is alive.
            await self._fetch(IDLE_FETCH_MS)
            _, end = await self._host.consumer.bounds(self._partition)
            self._report.lag(end, self._next_offset)

    async def _recover(self, error: Exception, failures: int) -> None:
        """Step 6: drop what may be ahead of the last commit, and wait before the next fence."""
        self._life.to(State.RECOVERING)
        self._report.recovered()
        self._log.warning("partition returns to its last commit", error=repr(error), failures=failures)
        self._host.consumer.pause(self._partition)
        self._pipeline = self._kept = None
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

    async def _compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run the CPU part in a thread, one call at a time for this partition."""
        return await asyncio.get_running_loop().run_in_executor(self._host.pool, function, *args)


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)
