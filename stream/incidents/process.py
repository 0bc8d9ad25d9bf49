"""The incident process: anomalies in, incidents out. It belongs to `tocsin coordinator`.

One is active, others stand by until it is gone (`Turn`). The revisions of a batch of anomalies and the
offsets behind it are one transaction, whose id fences an earlier process that still lives. The memory is the
compacted topic, read again at each start: nothing is told twice and nothing forgotten, whenever it is killed.
What is long over is deleted from the topic (it stays in ClickHouse), so that the start stays short.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from schemas import config
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from stream import kafka, topics
from stream import metrics as m
from stream.errors import UserError
from stream.incidents.grouper import Grouper
from stream.kafka import (
    KafkaError,
    Message,
    Record,
    TopicPartition,
    TransactionalProducer,
    Turn,
)
from stream.kafka.following import committed
from stream.output import incident_message

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

PAUSE_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
"""Before the next start after failures in a row; shorter ones hammer a broker that starts."""

LOOK_S: Final = 0.2
"""How often one that stands by looks whether it is its turn."""

STILL_S: Final = 600.0
"""An incident that was heard of within this time, by the clock, is not stale: in a replay partitions are out
of step, and one may be days of event time behind. Shorter closes incidents that go on."""

_event = msgspec.json.Decoder(AnomalyEvent).decode
_incident = msgspec.json.Decoder(Incident).decode


class IncidentProcess:
    """Reads `tocsin.anomalies`, writes `tocsin.incidents`."""

    def __init__(
        self,
        cfg: config.Config,
        metrics: m.Metrics,
        clock_ms: Callable[[], int] = lambda: 0,
        still_s: float = STILL_S,
    ) -> None:
        """``metrics`` are those of a coordinator; ``clock_ms`` is the newest event time known to it."""
        self._cfg, self._metrics = cfg, metrics
        self._clock_ms, self._still_s = clock_ms, still_s
        self._failures = 0
        self._newest_ms = 0
        self._heard: dict[str, float] = {}  # when, by a monotonic clock; the open ones
        self._shown: dict[str, tuple[str, ...]] = {}
        self.grouper = Grouper(cfg.incidents)

    async def run(self, stop: asyncio.Event, turned: Callable[[bool], None] = lambda _: None) -> None:
        """Work until ``stop`` is set; Kafka away is waited for. Raises `UserError` for a damaged memory.

        ``turned`` is told when this process has begun to tell incidents, and when another one does.
        """
        while not stop.is_set():
            try:
                await topics.ensure(self._cfg)
                await self._serve(stop, turned)
            except (KafkaError, TimeoutError) as error:
                log.warning("incidents: back to the last commit", error=repr(error))
                self._metrics.counter(m.INCIDENT_RECOVERIES).inc()
                self._failures += 1
                await _pause(stop, PAUSE_S[min(self._failures, len(PAUSE_S)) - 1])

    async def _serve(self, stop: asyncio.Event, turned: Callable[[bool], None]) -> None:
        """Stand by, and work while it is our turn; leaves the group after a failure, for another to try."""
        incidents = self._cfg.incidents
        group_id, topic = f"{incidents.group_id}-turn", self._cfg.topics.incidents.name
        async with Turn(self._cfg.kafka, group_id, topic, incidents.session_timeout_ms) as turn:
            stands_by = False
            while not stop.is_set():
                if turn.mine:
                    await self._live(turn, stop, turned)
                    stands_by = False
                    continue
                if turn.joined and not stands_by:
                    stands_by = True
                    log.info("incidents are told by another coordinator; this one stands by")
                    turned(False)
                await _pause(stop, LOOK_S)

    async def _live(self, turn: Turn, stop: asyncio.Event, turned: Callable[[bool], None]) -> None:
        """Fence, load, go on at the committed offsets."""
        group_id = self._cfg.incidents.group_id
        producer = TransactionalProducer(
            self._cfg.kafka, f"{group_id}-{self._cfg.topics.incidents.name}", TRANSACTION_TIMEOUT_MS
        )
        client = kafka.consumer(self._cfg.kafka, group_id=group_id)
        try:
            anomalies = self._cfg.topics.anomalies.name
            await producer.start()
            await producer.settle(group_id, TopicPartition(anomalies, 0))
            await self._load()
            await client.start()
            count = await producer.partitions(anomalies)
            client.assign([TopicPartition(anomalies, number) for number in range(count)])
            self._metrics.gauge(m.INCIDENT_TURN).set(1)
            self._show()
            log.info("incidents started", remembered=len(self.grouper))
            turned(True)
            while turn.mine and not stop.is_set():
                found = await client.getmany(timeout_ms=FETCH_MS, max_records=FETCH_MESSAGES)
                stale = self._stale()
                if found or stale:
                    await self._batch(producer, found, stale)
                    self._failures = 0
        finally:
            self.grouper = Grouper(self._cfg.incidents)
            self._metrics.gauge(m.INCIDENT_TURN).set(0)
            self._show()
            await producer.stop()
            await kafka.stop(client)

    async def _load(self) -> None:
        self.grouper = Grouper(self._cfg.incidents)
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            topic = self._cfg.topics.incidents.name
            told = [each async for each in committed(self._cfg.kafka, topic) if each.value is not None]
        self.grouper.load(map(_remembered, told))

    def _stale(self) -> list[str]:
        """Open incidents of which nothing was heard for long, by event time and by the clock."""
        newest_ms, now_s = max(self._newest_ms, self._clock_ms()), time.monotonic()
        return [
            each.incident_id
            for each in self.grouper.open_incidents()
            if newest_ms - each.detected_ms > self._cfg.incidents.stale_ms
            and now_s - self._heard.get(each.incident_id, now_s) >= self._still_s
        ]

    async def _batch(
        self, producer: TransactionalProducer, found: dict[Any, list[Record]], stale: list[str]
    ) -> None:
        events = [event for records in found.values() for event in map(_read, records) if event is not None]
        events.sort(key=lambda event: event.detected_ms)  # stable: a series stays in its order
        told = [self.grouper.give_up(incident_id) for incident_id in stale]
        told += [incident for event in events for incident in self.grouper.take(event)]
        topic = self._cfg.topics.incidents.name
        over = [Message(topic, None, incident_id.encode()) for incident_id in self.grouper.forgotten()]
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await producer.begin()
            await producer.send([*(incident_message(topic, each) for each in told), *over])
            for place, records in found.items():
                where = TopicPartition(place.topic, place.partition)
                await producer.send_offset(self._cfg.incidents.group_id, where, records[-1].offset + 1)
            await producer.flush()
            await producer.commit()
        self._metrics.counter(m.INCIDENT_ANOMALIES).inc(len(events))
        for each in told:
            self._metrics.counter(m.INCIDENT_EVENTS, each.status).inc()
            self._heard[each.incident_id] = time.monotonic()
        self._newest_ms = max([self._newest_ms, *(event.detected_ms for event in events)])
        self._show()

    def _show(self) -> None:
        """The open incidents as metrics, the strongest one by one."""
        found = sorted(self.grouper.open_incidents(), key=lambda each: -each.peak_score)
        now_s = time.monotonic()
        self._heard = {each.incident_id: self._heard.get(each.incident_id, now_s) for each in found}
        self._metrics.gauge(m.OPEN_INCIDENTS).set(len(found))
        shown = {each.incident_id: _labels(each) for each in found[: self._cfg.metrics.max_open_incidents]}
        for incident_id, labels in self._shown.items():
            if shown.get(incident_id) != labels:
                self._metrics.forget(m.OPEN_INCIDENT, *labels)
        for each in found[: len(shown)]:
            self._metrics.gauge(m.OPEN_INCIDENT, *shown[each.incident_id]).set(each.peak_score)
        self._shown = shown


def _labels(incident: Incident) -> tuple[str, ...]:
    """Of `metrics.OPEN_INCIDENT`; only the severity may change while an incident is open."""
    shared = ",".join(f"{name}={value}" for name, value in sorted(incident.labels.items()))
    return incident.incident_id, shared, incident.labels.get("service", ""), incident.severity


def _read(record: Record) -> AnomalyEvent | None:
    try:
        found: AnomalyEvent = _event(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        log.warning("message skipped: no anomaly event", message=place, cause=str(error))
        return None
    return found


def _remembered(record: Record) -> Incident:
    """To go on without it would be to tell it again under another id."""
    try:
        found: Incident = _incident(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        key = (record.key or b"").decode(errors="replace")
        place = f"{record.topic}/{record.partition}/{record.offset}"
        raise UserError(
            f"message {place} is no incident ({error}); delete its key {key!r} from the topic, or the topic"
        ) from None
    return found


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
