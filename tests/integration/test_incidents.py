"""The incident process on the real broker, killed while it works."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from schemas.incident import Incident
from stream import kafka as clients
from stream import topics
from stream.incident_process import IncidentProcess
from tests.unit.stream.test_incidents import ENDS, FAULT


async def _send(cfg: Any, events: list[Any]) -> None:
    producer = clients.producer(cfg.kafka)
    await producer.start()
    for each in events:
        await producer.send_and_wait(
            cfg.topics.anomalies.name, value=msgspec.json.encode(each), key=each.series.encode()
        )
    await producer.stop()


def _read(record: Any) -> Incident:
    return msgspec.json.decode(record.value, type=Incident)


async def test_a_fault_is_one_incident_though_the_process_is_killed_amid_it(kit: Any) -> None:
    await topics.ensure(kit.cfg)
    name = kit.cfg.topics.incidents.name
    told = 0
    for events in (FAULT[:2], FAULT[2:], ENDS):
        await _send(kit.cfg, events)
        life = asyncio.create_task(IncidentProcess(kit.cfg).run(asyncio.Event()))
        told += len(events)
        said = [_read(r) for r in await kit.read(name, lambda found, n=told: len(found) >= n)]
        life.cancel()  # no stop: what is open stays open
        with contextlib.suppress(asyncio.CancelledError):
            await life
    assert [incident.revision for incident in said] == list(range(1, 9))
    assert len({incident.incident_id for incident in said}) == 1
    assert (said[-1].series, said[-1].status) == (4, "close")
