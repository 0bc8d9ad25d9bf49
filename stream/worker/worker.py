"""`tocsin worker`: a member of the consumer group that runs one task for each partition it is given."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import structlog

from detectors.protocol import Samples
from schemas import config
from stream import metrics as m
from stream import topics
from stream.kafka import TopicPartition, WorkerConsumer, quiet
from stream.refresh.artifacts import store_of
from stream.running import until_signal
from stream.worker.adoption import Desk
from stream.worker.board import Board
from stream.worker.lifecycle import State
from stream.worker.partition import Host, PartitionTask
from stream.worker.pipeline import Pipeline
from stream.worker.report import PartitionReport
from stream.worker.restoring import Restored
from stream.worker.snapshots import SnapshotStore
from stream.worker.snapshotting import Saver

log = structlog.get_logger(__name__)

REVOKE_SHARE: Final = 0.5
"""Of the rebalance timeout, for giving partitions up. All of it and the group would go on without us while
we still commit; too little abandons batches that would have been done in time."""

STOP_TIMEOUT_S: Final = 10.0
"""For finishing open batches at SIGTERM. Orchestrators kill after 30 s by default; what is abandoned is
done again by the next owner, after a replay."""

TRANSACTION_MS: Final = 4
"""CPU of one transaction in a worker, twice over: with many partitions their batches come so much more seldom
that transactions alone take no more than half a core."""

SWITCH_S: Final = 0.0005
"""How long a thread that decodes may hold the interpreter while the event loop waits for it. A transaction
wakes the loop a dozen times, so Python's 5 ms double its time under load (measured: 69 to 36 ms)."""

LOOP_SILENT_S: Final = 30.0
"""Without a turn of the event loop for so long, `/healthz` says that the process is dead. Below the longest
compilation or pause of a busy machine it would be restarted for nothing."""

CHECK_EVERY_S: Final = 1.0
"""How often the consumer is asked for fatal errors (authorization); longer only delays the exit."""


class Worker:
    """One member of the group. ``metrics_url`` is known once `run` has called ``started``."""

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self._saver = Saver(SnapshotStore(cfg.snapshots.url), cfg.snapshots.every_ms / 1000)
        self._sources = {source.topic: source for source in cfg.inputs}
        self._metrics = m.Metrics("worker")
        self._desk = Desk(cfg, store_of(cfg), self._metrics)
        self._board = Board(cfg)
        self._tasks: dict[TopicPartition, PartitionTask] = {}
        self._kept: dict[TopicPartition, Restored] = {}
        self.metrics_url = ""
        self._beat = time.monotonic()

    async def run(self, stop: asyncio.Event, started: Callable[[Worker], None] | None = None) -> None:
        """Work until ``stop`` is set; raises what is fatal (no broker at the start, no authorization).

        ``started`` is called when the metrics are served and the group has been joined.
        """
        inputs = {source.topic for source in self._cfg.inputs}
        for status in await topics.ensure(self._cfg):
            if status.created and status.name in inputs:  # or its name is wrong, and nobody will send there
                log.warning("input topic was not there: created", topic=status.name)
        where = self._cfg.metrics
        endpoint = m.Endpoint(self._metrics, where.host, where.worker_port, self._not_live, self._not_ready)
        consumer = WorkerConsumer(self._cfg.kafka, self._cfg.worker, self)
        try:
            with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="partition") as pool:
                try:
                    await self._serve(pool, consumer, endpoint, stop, started)
                finally:  # with the pool: a batch at hand is finished
                    await self._stop_tasks(list(self._tasks), STOP_TIMEOUT_S)
        finally:
            await consumer.stop()
            await self._saver.stop(STOP_TIMEOUT_S)
            endpoint.close()
            log.info("worker stopped")

    async def _serve(
        self,
        pool: ThreadPoolExecutor,
        consumer: WorkerConsumer,
        endpoint: m.Endpoint,
        stop: asyncio.Event,
        started: Callable[[Worker], None] | None,
    ) -> None:
        # Compiles the kernels, which takes seconds: before the group waits for us.
        await asyncio.get_running_loop().run_in_executor(pool, self._warm_up)
        self._host = Host(
            self._cfg, consumer, pool, self._saver, self._desk, self._board, self._report, self._interval_s
        )
        await consumer.start(list(self._sources))
        following = [asyncio.create_task(self._board.run())]
        if self._desk.needed:
            following.append(asyncio.create_task(self._desk.run()))
        self.metrics_url = endpoint.url
        log.info("worker started", metrics=endpoint.url, topics=list(self._sources))
        if started is not None:
            started(self)
        try:
            await self._watch(consumer, stop)
        finally:
            await _end(following)

    async def revoked(self, partitions: Iterable[TopicPartition], *, lost: bool) -> None:
        """Give partitions up: finish their batches, or with a lost membership drop them at once."""
        given = [p for p in partitions if p in self._tasks]
        if not given:  # the first join, or a rebalance while we had nothing
            return
        self._metrics.counter(m.REBALANCES, "lost" if lost else "revoked").inc()
        timeout_s = 0.0 if lost else self._cfg.worker.rebalance_timeout_ms / 1000 * REVOKE_SHARE
        self._kept = await self._stop_tasks(given, timeout_s)

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        self._metrics.counter(m.REBALANCES, "assigned").inc()
        kept, self._kept = self._kept, {}
        for partition in partitions:
            source = self._sources[partition.topic]
            self._tasks[partition] = PartitionTask(self._host, source, partition, kept.get(partition))

    async def _stop_tasks(
        self, partitions: list[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, Restored]:
        """Stop tasks within one deadline for all of them."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        tasks = [self._tasks.pop(partition) for partition in partitions]
        kept = await asyncio.gather(*(task.stop(deadline) for task in tasks))
        return {p: state for p, state in zip(partitions, kept, strict=True) if state is not None}

    async def _watch(self, consumer: WorkerConsumer, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._beat = time.monotonic()
            consumer.check()
            try:
                async with asyncio.timeout(CHECK_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue

    def _not_live(self) -> dict[str, str]:
        """A loop that does not turn sends no heartbeats: only a restart helps. Called in another thread."""
        silent_s = time.monotonic() - self._beat
        return {"event loop": f"silent for {silent_s:.0f} s"} if silent_s > LOOP_SILENT_S else {}

    def _not_ready(self) -> dict[str, str]:
        """Partitions that stand still. A worker without partitions is ready: it is a spare."""
        if not self.metrics_url:
            return {"worker": "has not joined the group yet"}
        return self._not_live() | {
            f"{partition.topic}/{partition.partition}": str(task.state)
            for partition, task in self._tasks.copy().items()
            if task.state is not State.RUNNING
        }

    def _report(self, partition: TopicPartition) -> PartitionReport:
        return PartitionReport(self._metrics, partition, self._cfg.metrics.max_open_anomalies)

    def _interval_s(self) -> float:
        """Time of a batch, as many partitions as there are."""
        return max(self._cfg.worker.batch_interval_ms, len(self._tasks) * TRANSACTION_MS) / 1000

    def _warm_up(self) -> None:
        """Run each kernel once on a pipeline of its own."""
        index, ts_ms = np.zeros(2, np.int64), np.array([0, 60_000], np.int64)
        for source in self._cfg.inputs:
            Pipeline(self._cfg, source).score(Samples(["warm_up"], index, ts_ms, np.zeros(2)))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run(
    cfg: config.Config, stop: asyncio.Event, started: Callable[[Worker], None] | None = None
) -> None:
    """Run a worker in this event loop until ``stop`` is set."""
    await Worker(cfg).run(stop, started)


def main(cfg: config.Config) -> None:
    """Run a worker as this process, until SIGTERM or SIGINT."""
    # A batch makes thousands of objects that die together: look for cycles less often.
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(SWITCH_S)
    quiet()
    until_signal(lambda stop: run(cfg, stop))
