"""The incident process: anomalies in, incidents out. One is active; it belongs to `tocsin coordinator`.

The revisions of a batch of anomalies and the offsets behind it are one transaction, whose id fences an
earlier process that still lives. The memory is the compacted topic, read again at each start: nothing is
told twice and nothing forgotten, whenever it is killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from schemas import config
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from stream import kafka, topics
from stream.incidents import Grouper
from stream.kafka import (
    End,
    KafkaError,
    Message,
    ProducerFenced,
    Record,
    TopicPartition,
    TransactionalProducer,
)

log = structlog.get_logger(__name__)

FETCH_MS: Final = 500
"""A stop waits so long at most."""

FETCH_MESSAGES: Final = 500
"""Most anomaly events of one transaction."""

LOAD_TIMEOUT_S: Final = 120.0
"""For reading what was told: megabytes. Shorter keeps a coordinator with many incidents from starting."""

COMMIT_TIMEOUT_S: Final = 30.0
"""For one transaction; below `TRANSACTION_TIMEOUT_MS`, after which the broker has aborted it."""

TRANSACTION_TIMEOUT_MS: Final = 60_000
PAUSE_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 60.0)
"""Before the next start after failures in a row; shorter ones hammer a broker that starts."""

_event = msgspec.json.Decoder(AnomalyEvent).decode
_incident = msgspec.json.Decoder(Incident).decode
_json = msgspec.json.Encoder().encode


class IncidentProcess:
    """Reads `tocsin.anomalies`, writes `tocsin.incidents`."""

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self.grouper = Grouper(cfg.incidents)

    async def run(self, stop: asyncio.Event, started: Callable[[], None] | None = None) -> None:
        """Work until ``stop`` is set; Kafka away is waited for."""
        failures = 0
        while not stop.is_set():
            try:
                await topics.ensure(self._cfg)
                await self._live(stop, started)
            except (KafkaError, TimeoutError) as error:
                log.warning("incidents: back to the last commit", error=repr(error))
                if isinstance(error, ProducerFenced):  # another is active: do not fence it at once
                    failures = len(PAUSE_S)
                await _pause(stop, PAUSE_S[min(failures, len(PAUSE_S) - 1)])
                failures += 1

    async def _live(self, stop: asyncio.Event, started: Callable[[], None] | None) -> None:
        """Fence, load, go on at the committed offsets."""
        group_id = self._cfg.incidents.group_id
        producer = TransactionalProducer(
            self._cfg.kafka, f"{group_id}-{self._cfg.topics.incidents.name}", TRANSACTION_TIMEOUT_MS
        )
        client = kafka.consumer(self._cfg.kafka, group_id=group_id)
        try:
            await producer.start()
            await self._load(await producer.partitions(self._cfg.topics.incidents.name))
            await client.start()
            anomalies = self._cfg.topics.anomalies.name
            count = await producer.partitions(anomalies)
            client.assign([TopicPartition(anomalies, number) for number in range(count)])
            log.info("incidents started", remembered=len(self.grouper))
            if started is not None:
                started()
            while not stop.is_set():
                found = await client.getmany(timeout_ms=FETCH_MS, max_records=FETCH_MESSAGES)
                if found:
                    await self._batch(producer, found)
        finally:
            await producer.stop()
            async with asyncio.timeout(kafka.STOP_TIMEOUT_S):
                await client.stop()

    async def _load(self, partitions: int) -> None:
        topic = self._cfg.topics.incidents.name
        self.grouper = Grouper(self._cfg.incidents)
        client = kafka.consumer(self._cfg.kafka)
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await client.start()
            try:
                for number in range(partitions):
                    self.grouper.load([_incident(value) for value in await _all(client, topic, number)])
            finally:
                await client.stop()

    async def _batch(self, producer: TransactionalProducer, found: dict[Any, list[Record]]) -> None:
        events = [event for records in found.values() for event in map(_read, records) if event is not None]
        events.sort(key=lambda event: event.detected_ms)  # stable: a series stays in its order
        told = [incident for event in events for incident in self.grouper.take(event)]
        topic = self._cfg.topics.incidents.name
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await producer.begin()
            await producer.send([Message(topic, _json(each), each.incident_id.encode()) for each in told])
            for place, records in found.items():
                where = TopicPartition(place.topic, place.partition)
                await producer.send_offset(self._cfg.incidents.group_id, where, records[-1].offset + 1)
            await producer.flush()
            await producer.commit()


def _read(record: Record) -> AnomalyEvent | None:
    try:
        found: AnomalyEvent = _event(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        log.warning("message skipped: no anomaly event", message=place, cause=str(error))
        return None
    return found


async def _all(client: Any, topic: str, number: int) -> list[bytes]:
    """The committed records of a partition."""
    place = TopicPartition(topic, number)
    client.assign([place])  # without a group it begins at the earliest offset
    end = End(client, place)
    values: list[bytes] = []
    while True:
        found = await client.getmany(timeout_ms=10)
        values += [record.value for records in found.values() for record in records if record.value]
        if end.reached(got=bool(found)):
            return values


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
