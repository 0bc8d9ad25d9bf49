"""A worker, what is sent to it, what comes out of it, and what one process over the same input would say."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from schemas import config
from schemas.deadletter import DeadLetter
from schemas.event import AnomalyEvent
from schemas.score import ScoreBatch
from stream import kafka as clients
from stream import topics
from stream.kafka import Record
from stream.worker.pipeline import Pipeline
from stream.worker.worker import Worker
from tests.support import ClickHouseAddress, Receiver, running

DEADLINE_S = 60.0

REFRESH_STEP_MS = 300_000
"""Between samples of a series that gets models."""

ScoreRow = tuple[str, int, float, float, float, int]  # series, ts_ms, value, score, level, state


class Sent(NamedTuple):
    """A message to send."""

    value: bytes | None
    partition: int
    key: bytes | None = None


class Kit:
    """One test's configuration and the topics of it."""

    def __init__(self, cfg: config.Config) -> None:
        self.cfg = cfg

    def with_worker(self, **changes: Any) -> Kit:
        worker = msgspec.structs.replace(self.cfg.worker, **changes)
        return Kit(msgspec.structs.replace(self.cfg, worker=worker))

    def with_admission(self, **changes: Any) -> Kit:
        admission = msgspec.structs.replace(self.cfg.admission, **changes)
        return Kit(msgspec.structs.replace(self.cfg, admission=admission))

    def without_snapshots(self) -> Kit:
        none = msgspec.structs.replace(self.cfg.snapshots, every_ms=0)
        return Kit(msgspec.structs.replace(self.cfg, snapshots=none))

    async def send(self, messages: Iterable[Sent], pause_every: int = 0) -> list[int]:
        """Send in order; returns the offsets. With ``pause_every`` it rests a moment after so many."""
        await topics.ensure(self.cfg)
        producer = clients.producer(self.cfg.kafka)
        await producer.start()
        futures = []
        for number, message in enumerate(messages, 1):
            future = await producer.send(
                self.cfg.inputs[0].topic, value=message.value, key=message.key, partition=message.partition
            )
            futures.append(future)
            if pause_every and number % pause_every == 0:
                await asyncio.sleep(0.05)
        done = await asyncio.gather(*futures)
        await producer.stop()
        return [metadata.offset for metadata in done]

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """A worker in this process, with the group joined."""
        async with running(Worker(self.cfg)) as worker:
            yield worker

    async def read(
        self,
        topic: str,
        enough: Callable[[Sequence[Record]], bool],
        quiet_s: float = 1.0,
        deadline_s: float = DEADLINE_S,
    ) -> list[Record]:
        """Committed messages until there are enough, and then until none has come for a while."""
        consumer = clients.consumer(self.cfg.kafka, topic)
        await consumer.start()
        found: list[Record] = []
        began = newest = time.monotonic()
        while not (enough(found) and time.monotonic() - newest > quiet_s):
            assert time.monotonic() - began < deadline_s, f"{len(found)} messages in {topic} are not enough"
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += records
                newest = time.monotonic()
        await consumer.stop()
        return found

    async def events(self, at_least: int, quiet_s: float = 1.0) -> list[AnomalyEvent]:
        records = await self.read(self.cfg.topics.anomalies.name, lambda r: len(r) >= at_least, quiet_s)
        return [msgspec.json.decode(record.value or b"", type=AnomalyEvent) for record in records]

    async def dead_letters(self, at_least: int) -> list[DeadLetter]:
        records = await self.read(self.cfg.topics.deadletters.name, lambda r: len(r) >= at_least)
        return [msgspec.msgpack.decode(record.value or b"", type=DeadLetter) for record in records]

    async def scores(self, at_least: int, quiet_s: float = 1.0) -> list[ScoreRow]:
        records = await self.read(
            self.cfg.topics.scores.name, lambda r: sum(_count(x) for x in r) >= at_least, quiet_s
        )
        return [row for record in records for row in _rows(record)]

    async def reference(self, count: int) -> tuple[list[AnomalyEvent], list[ScoreRow]]:
        """What one process makes of the input, without faults: events, scores."""
        records = await self.read(self.cfg.inputs[0].topic, lambda r: len(r) >= count, 0.0)
        events: list[AnomalyEvent] = []
        rows: list[ScoreRow] = []
        for partition in range(self.cfg.inputs[0].partitions):
            mine = sorted((r for r in records if r.partition == partition), key=lambda r: r.offset)
            pipeline = Pipeline(self.cfg, self.cfg.inputs[0])
            samples, _dead = pipeline.decode(mine)
            for part in pipeline.slices(samples):
                output = pipeline.score(part)
                events += output.events
                rows += [row for value in output.scores for row in _unpack(value)]
        return events, rows


def _count(record: Record) -> int:
    batch = msgspec.msgpack.decode(record.value or b"", type=ScoreBatch)
    return len(batch.state)


def _rows(record: Record) -> list[ScoreRow]:
    return _unpack(record.value or b"")


def _unpack(value: bytes) -> list[ScoreRow]:
    batch = msgspec.msgpack.decode(value, type=ScoreBatch)
    series = msgspec.msgpack.decode(batch.series)
    columns = [
        np.frombuffer(batch.index, "<u4"),
        np.frombuffer(batch.ts_ms, "<i8"),
        np.frombuffer(batch.value, "<f8"),
        np.nan_to_num(np.frombuffer(batch.score, "<f4"), nan=-1.0),
        np.nan_to_num(np.frombuffer(batch.level, "<f4"), nan=-1.0),
        np.frombuffer(batch.state, "u1"),
    ]
    return [(series[i], *rest) for i, *rest in zip(*(c.tolist() for c in columns), strict=True)]  # type: ignore[misc]


@pytest.fixture
def kit(kafka: str, prefix: str, tmp_path: Path) -> Kit:
    """Four partitions, small batches, a group that notices a dead member soon."""
    topic = config.Topic
    return Kit(
        config.Config(
            kafka=config.Kafka(bootstrap_servers=kafka),
            inputs=[config.Input(topic=f"{prefix}telemetry", partitions=4)],
            topics=config.Topics(
                anomalies=topic(name=f"{prefix}anomalies", partitions=3),
                scores=topic(name=f"{prefix}scores", partitions=3),
                deadletters=topic(name=f"{prefix}deadletters", partitions=1),
                journal=topic(name=f"{prefix}journal", partitions=4),
                incidents=topic(name=f"{prefix}incidents", partitions=1, compacted=True),
                control=topic(name=f"{prefix}control", partitions=1, retention_ms=-1, compacted=True),
                changes=topic(name=f"{prefix}changes", partitions=1),
            ),
            worker=config.Worker(
                group_id=f"{prefix}worker",
                batch_interval_ms=20,
                max_batch_messages=500,
                session_timeout_ms=2000,
                rebalance_timeout_ms=6000,
            ),
            metrics=config.Metrics(worker_port=0),
            snapshots=config.Snapshots(url=str(tmp_path / "snapshots"), every_ms=1000),
        )
    )


@pytest.fixture
def loop_kit(kit: Kit, clickhouse: ClickHouseAddress, prefix: str) -> Kit:
    """An Isolation Forest for each series after 300 samples, anew after 300 more."""
    topic = config.Topic
    names = msgspec.structs.replace(
        kit.cfg.topics,
        artifacts=topic(name=f"{prefix}artifacts", partitions=2, compacted=True),
        requests=topic(name=f"{prefix}requests", partitions=2),
        results=topic(name=f"{prefix}results", partitions=1),
    )
    rule = config.RefreshRule(
        detector="iforest",
        min_history_ms=300 * REFRESH_STEP_MS,
        refresh_every_ms=300 * REFRESH_STEP_MS,
        on_drift=False,
    )
    forest = config.DetectorConfig(name="iforest", params={"n_estimators": 20}, weight=0.5)
    return Kit(
        msgspec.structs.replace(
            kit.cfg,
            topics=names,
            engine=config.Engine(detectors=[config.DetectorConfig(name="large"), forest]),
            clickhouse=config.ClickHouse(
                host=clickhouse.host, port=clickhouse.port, database=clickhouse.database
            ),
            sink=config.Sink(group_id=f"{prefix}sink", batch_interval_ms=100),
            refresh=config.Refresh(group_id=f"{prefix}coordinator", rules=[rule], check_every_ms=100),
            trainer=config.Trainer(group_id=f"{prefix}trainer", processes=1),
            metrics=config.Metrics(worker_port=0, sink_port=0, coordinator_port=0, trainer_port=0),
        )
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def metric() -> Callable[[str, str], dict[str, float]]:
    """Reads a metric from a URL: label text to value."""

    def read(url: str, name: str) -> dict[str, float]:
        with urllib.request.urlopen(url, timeout=5) as response:
            page = response.read().decode()
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", page, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    return read
