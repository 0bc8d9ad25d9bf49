"""`tocsin notify` against a real HTTP server and the real Alertmanager."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schemas import config
from schemas.event import AnomalyEvent, Direction, Kind, Severity, Status
from stream import kafka as clients
from stream import metrics as m
from stream import topics
from stream.errors import UserError
from stream.incidents.grouper import Grouper
from stream.incidents.notify import Relay, Target
from stream.kafka import TopicPartition
from stream.local.broker import LocalKafka
from stream.local.monitoring import Monitoring
from stream.output import event_message, incident_message
from tests.support import Receiver, running
from tests.unit.stream.test_incidents import ENDS, FAULT

Metric = Callable[[str, str], dict[str, float]]


def event(number: int, status: Status = Status.OPEN, **changes: Any) -> AnomalyEvent:
    values: dict[str, Any] = {
        "event_id": f"event-{number}-{status}", "anomaly_id": f"anomaly-{number}", "revision": 1,
        "status": status, "series": f'cpu{{host="{number}"}}', "series_id": "0", "metric": "cpu",
        "labels": {"host": str(number)}, "kind": Kind.SPIKE, "severity": Severity.WARNING,
        "direction": Direction.ABOVE, "score": 1.5, "peak_score": 1.5, "actual": 9.0, "expected": 1.0,
        "lower": 0.0, "upper": 2.0, "started_ms": 1_760_000_000_000, "detected_ms": 1_760_000_000_000,
        "ended_ms": 1_760_000_000_000 if status is Status.CLOSE else None, "samples": 1, "detectors": [],
        "reason": 'cpu is 9, "above" its band',
    }  # fmt: skip
    return AnomalyEvent(**values | changes)


def configured(kit: Any, *targets: config.NotifyTarget, deadline_ms: int = 60_000) -> config.Config:
    notify = config.Notify(
        group_id=kit.cfg.worker.group_id, targets=list(targets), deadline_ms=deadline_ms, retry_max_ms=300
    )
    metrics = msgspec.structs.replace(kit.cfg.metrics, notify_port=0)
    return msgspec.structs.replace(kit.cfg, notify=notify, metrics=metrics)


async def send(cfg: config.Config, *events: AnomalyEvent) -> None:
    await topics.ensure(cfg)
    producer = clients.producer(cfg.kafka)
    await producer.start()
    for each in events:
        message = event_message(cfg.topics.anomalies.name, each, TopicPartition("telemetry", 0))
        await producer.send_and_wait(message.topic, value=message.value, partition=0, headers=message.headers)
    await producer.stop()


async def eventually(what: Callable[[], Any], deadline_s: float = 60.0) -> Any:
    deadline = time.monotonic() + deadline_s
    while not (found := await asyncio.to_thread(what)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return found


async def test_events_arrive_once_each_though_the_receiver_fails_and_events_come_twice(
    kit: Any, receiver: Receiver, metric: Metric
) -> None:
    cfg = configured(kit, config.NotifyTarget(name="hook", url=receiver.url, min_severity="warning"))
    receiver.answers = [503, 429, 500]
    async with running(Relay(cfg)) as relay:
        mild, muted = event(5, severity=Severity.INFO), event(6, muted_by="maintenance")
        await send(cfg, event(1), event(1), mild, muted, event(2), event(1, Status.CLOSE))
        await eventually(lambda: len(receiver.taken) >= 3)
        await eventually(lambda: metric(relay.metrics_url, "tocsin_notify_retries_total"))
        assert metric(relay.metrics_url, "tocsin_notify_retries_total") == {'target="hook"': 3}
        assert metric(relay.metrics_url, "tocsin_notify_duplicates_total") == {'target="hook"': 1}
    assert [key for key, _ in receiver.taken] == ["event-1-open", "event-2-open", "event-1-close"]
    body = receiver.taken[0][1]
    assert body["event"]["series"] == 'cpu{host="1"}'
    assert body["text"] == 'warning: cpu{host="1"} (open): cpu is 9, "above" its band'


async def test_a_target_of_incidents_is_told_of_a_fault_once_and_of_its_end(
    kit: Any, receiver: Receiver
) -> None:
    cfg = configured(kit, config.NotifyTarget(name="hook", url=receiver.url, what="incidents", updates=False))
    grouper = Grouper(config.Incidents())
    told = [incident for each in [*FAULT, *ENDS] for incident in grouper.take(each)]
    async with running(Relay(cfg)):
        await send(cfg, event(1))
        producer = clients.producer(cfg.kafka)
        await producer.start()
        for each in [*told, *told]:
            message = incident_message(cfg.topics.incidents.name, each)
            await producer.send(message.topic, message.value, key=message.key)
        await producer.flush()
        await producer.stop()
        await eventually(lambda: len(receiver.taken) >= 2)
    assert [key for key, _ in receiver.taken] == [told[0].event_id, told[-1].event_id]
    (_, first), (_, last) = receiver.taken
    assert first["text"].startswith("warning: service=shop: web_response is high (open). Since 2025-10-09")
    assert len(last["incident"]["members"]) == len(FAULT)


async def test_what_a_stop_interrupts_is_sent_at_the_next_start(kit: Any, receiver: Receiver) -> None:
    cfg = configured(kit, config.NotifyTarget(name="hook", url=receiver.url))
    async with running(Relay(cfg)):
        receiver.answers = [503] * 1000
        await send(cfg, event(1))
        await eventually(lambda: receiver.tries >= 2)
    assert not receiver.taken
    receiver.answers = []
    async with running(Relay(cfg)):
        await eventually(lambda: receiver.taken)
    async with running(Relay(cfg)):
        await send(cfg, event(2))
        await eventually(lambda: len(receiver.taken) >= 2)
    assert [key for key, _ in receiver.taken] == ["event-1-open", "event-2-open"]


@pytest.mark.slow
async def test_events_that_wait_while_the_broker_is_killed_are_sent_though_the_relay_joins_at_once(
    kit: Any, local_kafka: LocalKafka, receiver: Receiver
) -> None:
    cfg = configured(kit, config.NotifyTarget(name="hook", url=receiver.url))
    async with running(Relay(cfg)):
        await send(cfg, event(1))
        await eventually(lambda: receiver.taken)
    await send(cfg, event(2))  # nobody listens
    await asyncio.to_thread(local_kafka.kill)
    await asyncio.to_thread(local_kafka.start)
    async with running(Relay(cfg)):  # for up to 2.5 s the coordinator knows of no offsets
        await eventually(lambda: len(receiver.taken) >= 2)
    assert [key for key, _ in receiver.taken] == ["event-1-open", "event-2-open"]


async def test_a_refusal_and_a_deadline_are_dead_ends_that_hold_up_nobody(
    kit: Any, receiver: Receiver, metric: Metric
) -> None:
    cfg = configured(
        kit,
        config.NotifyTarget(name="hook", url=receiver.url),
        config.NotifyTarget(name="gone", url="http://127.0.0.1:1/"),
        deadline_ms=500,
    )
    receiver.answers = [400]
    async with running(Relay(cfg)) as relay:
        await send(cfg, event(1), event(2))
        await eventually(lambda: receiver.taken)
        name = "tocsin_notify_dead_ends_total"
        await eventually(lambda: sum(metric(relay.metrics_url, name).values()) >= 3)
        assert metric(relay.metrics_url, name) == {
            'reason="refused",target="hook"': 1,
            'reason="deadline",target="gone"': 2,
        }
    assert [key for key, _ in receiver.taken] == ["event-2-open"]


async def test_a_template_is_sandboxed_and_a_broken_one_is_said_at_the_start(
    kit: Any, receiver: Receiver, metric: Metric, tmp_path: Path
) -> None:
    file = tmp_path / "own.j2"
    target = config.NotifyTarget(name="own", url=receiver.url, template=str(file))
    file.write_text("{{ event.series", encoding="utf-8")
    with pytest.raises(UserError, match="own"):
        Relay(configured(kit, target))
    file.write_text("{{ ''.__class__.__mro__ }}", encoding="utf-8")
    async with running(Relay(configured(kit, target))) as relay:
        await send(kit.cfg, event(1))
        await eventually(lambda: metric(relay.metrics_url, "tocsin_notify_dead_ends_total"))
    assert receiver.tries == 0


async def test_alertmanager_shows_an_incident_from_open_to_close(kit: Any, tmp_path: Path) -> None:
    monitoring = Monitoring(tmp_path, {})
    await asyncio.to_thread(monitoring.start)
    try:
        url = f"{monitoring.alertmanager_url}/api/v2/alerts"
        target = config.NotifyTarget(name="am", kind="alertmanager", url=url, what="incidents")
        grouper = Grouper(config.Incidents())
        told = [incident for each in [*FAULT, *ENDS] for incident in grouper.take(each)]

        def active() -> list[str]:
            with urllib.request.urlopen(f"{url}?filter=alertname=TocsinIncident", timeout=5) as reply:
                return [alert["labels"]["incident_id"] for alert in json.load(reply)]

        async with httpx.AsyncClient() as http:
            relay = Target(target, config.Notify(), m.Metrics("notify"))
            await relay.send(http, told[0], asyncio.Event())
            await eventually(lambda: active() == [told[0].incident_id])
            await relay.send(http, told[-1], asyncio.Event())
            await eventually(lambda: active() == [])
    finally:
        await asyncio.to_thread(monitoring.stop)


async def test_alertmanager_shows_an_anomaly_from_open_to_close_also_when_its_severity_rises(
    kit: Any, tmp_path: Path
) -> None:
    monitoring = Monitoring(tmp_path, {})
    await asyncio.to_thread(monitoring.start)
    try:
        url = f"{monitoring.alertmanager_url}/api/v2/alerts"

        def active() -> list[str]:
            with urllib.request.urlopen(f"{url}?filter=anomaly_id=anomaly-1", timeout=5) as reply:
                return [alert["labels"]["severity"] for alert in json.load(reply)]

        cfg = configured(kit, config.NotifyTarget(name="am", kind="alertmanager", url=url))
        async with running(Relay(cfg)):
            await send(cfg, event(1))
            await eventually(lambda: active() == ["warning"])
            await send(cfg, event(1, Status.UPDATE, severity=Severity.CRITICAL))
            await eventually(lambda: active() == ["critical"])
            await send(cfg, event(1, Status.CLOSE, severity=Severity.CRITICAL))
            await eventually(lambda: active() == [])
    finally:
        await asyncio.to_thread(monitoring.stop)
