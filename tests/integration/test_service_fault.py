"""A fault of a whole service, from telemetry to the one notification, by all parts on the real broker."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np

from schemas import config
from schemas.control import Mute
from schemas.journal import Muted
from stream import observe
from stream.control import commanding
from stream.formats.json_point import encode_point
from stream.incidents.notify import Relay
from stream.kafka import TopicPartition
from stream.refresh.coordinator import Coordinator
from stream.worker import journal
from tests.integration.conftest import Kit, Sent
from tests.integration.test_incidents import incident_kit  # noqa: F401  # a fixture
from tests.integration.test_notify import eventually
from tests.support import Receiver, running

START_MS = 1_760_000_000_000
MINUTES = 1360
FAULT = range(1300, 1340)
STEP = 4
"""Minutes sent at a time: an anomaly closes after as many quiet samples."""

METRICS = {
    "web_response": (0.2, 5.0),
    "throughput": (1000.0, 0.1),
    "apdex": (0.95, 0.4),
    "error": (0.01, 20.0),
}


def telemetry(first: int, end: int) -> list[Sent]:
    """A minute a sample of the four key metrics of two services; in the fault they change by their factor."""
    noise = np.random.default_rng(11).normal(1.0, 0.02, (MINUTES, len(METRICS)))
    messages = []
    for minute in range(first, end):
        for number, (metric, (level, factor)) in enumerate(METRICS.items()):
            value = level * float(noise[minute, number]) * (factor if minute in FAULT else 1.0)
            for service in ("shop", "bank"):
                point = encode_point(metric, {"service": service}, START_MS + minute * 60_000, value)
                messages.append(Sent(point, number))
    return messages


async def muted(kit: Kit, first: int) -> int:
    """Send samples until every partition has the mute: it takes effect at the end of a batch."""
    async with asyncio.timeout(60):
        while True:
            await kit.send(telemetry(first, first + 2))
            first += 2
            places = [TopicPartition(kit.cfg.inputs[0].topic, number) for number in range(len(METRICS))]
            entries = [await journal.read(kit.cfg, place) for place in places]
            if all(any(isinstance(each, Muted) for each in found) for found in entries):
                return first


async def settled(worker: str, coordinator: str, samples: int) -> None:
    """Until all is scored and grouped: live, partitions are in step; a replay runs them apart."""

    def done() -> bool:
        scored = observe.total(worker, "tocsin_samples_total") >= samples
        grouped = observe.total(coordinator, "tocsin_incident_anomaly_events_total")
        return scored and grouped >= observe.total(worker, "tocsin_anomaly_events_total")

    await eventually(done)


async def test_a_fault_is_one_incident_and_one_notification_and_a_muted_copy_none(
    incident_kit: Kit,  # noqa: F811
    receiver: Receiver,
) -> None:
    target = config.NotifyTarget(name="pager", url=receiver.url, what="incidents", updates=False)
    cfg = msgspec.structs.replace(
        incident_kit.cfg,
        notify=config.Notify(group_id=f"{incident_kit.cfg.worker.group_id}-notify", targets=[target]),
        metrics=config.Metrics(worker_port=0, coordinator_port=0, notify_port=0),
    )
    kit = Kit(cfg)
    start_ms, end_ms = (START_MS + minute * 60_000 for minute in (FAULT.start - 60, FAULT.stop + 60))
    mute = Mute(
        command_id="c", at_ms=start_ms, mute_id="m", matcher='{service="bank"}', start_ms=start_ms,
        end_ms=end_ms,
    )  # fmt: skip
    await commanding.send(cfg, [mute])
    async with running(Relay(cfg)), running(Coordinator(cfg)) as coordinator, kit.worker() as worker:
        await kit.send(telemetry(0, 1100))
        sent_to = await muted(kit, 1100)
        assert sent_to < FAULT.start
        await kit.send(telemetry(sent_to, FAULT.start))
        for first in range(FAULT.start, MINUTES, STEP):
            await kit.send(telemetry(first, first + STEP))
            await settled(worker.metrics_url, coordinator.metrics_url, 2 * len(METRICS) * (first + STEP))
        events = await kit.events(2 * 2 * len(METRICS), quiet_s=3.0)
        during = [each for each in events if start_ms <= each.started_ms < end_ms]
        for service, muted_by in (("shop", None), ("bank", "m")):
            mine = [each for each in during if each.labels["service"] == service]
            assert {each.metric for each in mine} == set(METRICS)
            assert {each.muted_by for each in mine} == {muted_by}

        def sent() -> list[Any]:
            bodies = [body["incident"] for _, body in receiver.taken]
            return [each for each in bodies if start_ms <= each["started_ms"] < end_ms]

        await eventually(lambda: [each for each in sent() if each["status"] == "close"])
    assert [each["status"] for each in sent()] == ["open", "close"]
    last = sent()[-1]
    assert last["labels"] == {"service": "shop"}
    assert {member["metric"] for member in last["members"]} == set(METRICS)
    assert len(last["members"]) == len(METRICS)
