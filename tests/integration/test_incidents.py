"""Incidents on the real broker, told by coordinators that are killed while they work."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from schemas import config
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from stream import kafka as clients
from stream import topics
from stream.errors import UserError
from stream.refresh.coordinator import Coordinator
from tests.integration.conftest import Kit
from tests.support import running
from tests.unit.stream.test_incidents import ENDS, FAULT, of_service


@pytest.fixture
def incident_kit(kit: Kit, prefix: str) -> Kit:
    topic = config.Topic
    names = msgspec.structs.replace(
        kit.cfg.topics,
        requests=topic(name=f"{prefix}requests", partitions=1),
        results=topic(name=f"{prefix}results", partitions=1),
    )
    return Kit(
        msgspec.structs.replace(
            kit.cfg,
            topics=names,
            clickhouse=config.ClickHouse(enabled=False),
            incidents=config.Incidents(group_id=f"{prefix}incidents"),
            refresh=config.Refresh(group_id=f"{prefix}coordinator"),
            metrics=config.Metrics(coordinator_port=0),
        )
    )


async def send(cfg: config.Config, events: Sequence[AnomalyEvent]) -> None:
    await topics.ensure(cfg)
    producer = clients.producer(cfg.kafka)
    await producer.start()
    for each in events:
        await producer.send(cfg.topics.anomalies.name, msgspec.json.encode(each), key=each.series.encode())
    await producer.flush()
    await producer.stop()


async def told(kit: Kit, at_least: int, quiet_s: float = 1.0) -> list[Incident]:
    records = await kit.read(kit.cfg.topics.incidents.name, lambda found: len(found) >= at_least, quiet_s)
    return [msgspec.json.decode(record.value or b"", type=Incident) for record in records]


async def test_no_incident_is_doubled_or_forgotten_by_coordinators_that_are_killed(
    incident_kit: Kit, tmp_path: Path
) -> None:
    kit, file, services = incident_kit, tmp_path / "tocsin.yaml", 40
    file.write_text(yaml.safe_dump(msgspec.to_builtins(kit.cfg)), encoding="utf-8")
    command = [sys.executable, "-m", "stream.cli", "coordinator", "--config", str(file)]
    events = [of_service(each, f"s{n}") for each in [*FAULT, *ENDS] for n in range(services)]
    parts = 4
    size = len(events) // parts
    for number in range(parts):
        last = number + 1 == parts
        life = await asyncio.to_thread(subprocess.Popen, command, stderr=subprocess.DEVNULL)
        try:
            # Some of it is told when the kill comes, the rest is on its way.
            await send(kit.cfg, events[number * size : (number + 1) * size])
            said = await told(kit, len(events) if last else number * size + 1, 1.0 if last else 0.0)
        finally:
            life.send_signal(signal.SIGTERM if last else signal.SIGKILL)
            await asyncio.to_thread(life.wait, 30)
    assert life.returncode == 0
    by_id = defaultdict(list)
    for each in said:
        by_id[each.incident_id].append(each)
    assert len(by_id) == services
    for revisions in by_id.values():
        assert [each.revision for each in revisions] == [*range(1, len(FAULT + ENDS) + 1)]
        assert (revisions[-1].status, len(revisions[-1].members)) == ("close", len(FAULT))


async def test_open_incidents_are_metrics_until_they_close_and_a_restart_remembers_them(
    incident_kit: Kit, metric: Any
) -> None:
    kit = incident_kit
    async with running(Coordinator(kit.cfg)):
        await send(kit.cfg, FAULT)
        said = await told(kit, len(FAULT))
    async with running(Coordinator(kit.cfg)) as coordinator:
        shown: dict[str, float] = {}
        while not shown:
            shown = await asyncio.to_thread(
                metric, coordinator.metrics_url, "tocsin_open_incident_peak_score"
            )
        ((labels, peak),) = shown.items()
        assert f'incident_id="{said[0].incident_id}"' in labels
        assert 'shared="service=shop"' in labels
        assert peak == max(each.peak_score for each in FAULT)
        await send(kit.cfg, ENDS)
        await told(kit, len(FAULT) + len(ENDS))
        while shown:
            shown = await asyncio.to_thread(
                metric, coordinator.metrics_url, "tocsin_open_incident_peak_score"
            )


async def test_a_damaged_memory_ends_the_coordinator_with_the_place_to_mend(incident_kit: Kit) -> None:
    kit = incident_kit
    await topics.ensure(kit.cfg)
    producer = clients.producer(kit.cfg.kafka)
    await producer.start()
    await producer.send_and_wait(kit.cfg.topics.incidents.name, b"{}", key=b"strange")
    await producer.stop()
    with pytest.raises(UserError, match=r"incidents/0/0 is no incident .* its key 'strange'"):
        async with asyncio.timeout(60):
            await Coordinator(kit.cfg).run(asyncio.Event())
