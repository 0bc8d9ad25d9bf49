"""Incidents on the real broker, told by coordinators that are killed while they work."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from schemas import config
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from stream import kafka as clients
from stream import metrics as m
from stream import topics
from stream.errors import UserError
from stream.incidents.process import IncidentProcess
from stream.refresh.coordinator import Coordinator
from tests.integration.conftest import Kit
from tests.integration.test_notify import eventually
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
            incidents=config.Incidents(group_id=f"{prefix}incidents", session_timeout_ms=2000),
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


async def test_a_coordinator_stands_by_until_the_other_is_killed_and_no_incident_is_doubled_or_forgotten(
    incident_kit: Kit, tmp_path: Path
) -> None:
    kit, file, services = incident_kit, tmp_path / "tocsin.yaml", 40
    file.write_text(yaml.safe_dump(msgspec.to_builtins(kit.cfg)), encoding="utf-8")
    logs = [tmp_path / f"{number}.log" for number in range(2)]
    events = [of_service(each, f"s{n}") for each in [*FAULT, *ENDS] for n in range(services)]
    size = len(events) // len(logs)

    with contextlib.ExitStack() as stack:
        lives = [stack.enter_context(coordinator(file, logs[0]))]
        for number, log in enumerate(logs):
            last = number + 1 == len(logs)
            await until_said(log, "incidents started")
            if not last:
                lives.append(stack.enter_context(coordinator(file, logs[number + 1])))
                await until_said(logs[number + 1], "stands by")
            # Some of it is told when the kill comes, the rest is on its way.
            await send(
                kit.cfg, events[number * size :] if last else events[number * size : (number + 1) * size]
            )
            said = await told(kit, len(events) if last else number * size + 1, 1.0 if last else 0.0)
            if not last:
                assert not says(logs[number + 1], "incidents started"), "it is not its turn"
            lives[number].send_signal(signal.SIGTERM if last else signal.SIGKILL)
            await asyncio.to_thread(lives[number].wait, 30)
    assert not any(says(log, "back to the last commit") for log in logs), "nobody was fenced"
    assert lives[-1].returncode == 0
    by_id = defaultdict(list)
    for each in said:
        by_id[each.incident_id].append(each)
    assert len(by_id) == services
    for revisions in by_id.values():
        assert [each.revision for each in revisions] == [*range(1, len(FAULT + ENDS) + 1)]
        assert (revisions[-1].status, len(revisions[-1].members)) == ("close", len(FAULT))


@contextlib.contextmanager
def coordinator(config_file: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "stream.cli", "coordinator", "--config", str(config_file)]
    with log.open("wb") as stream, subprocess.Popen(command, stderr=stream) as process:
        try:
            yield process
        finally:
            process.kill()


def says(log: Path, text: str) -> bool:
    return text in log.read_text(encoding="utf-8")


async def until_said(log: Path, text: str) -> None:
    await eventually(lambda: says(log, text))


async def test_an_incident_of_which_nothing_is_heard_closes_by_itself(incident_kit: Kit) -> None:
    kit, clock_ms = incident_kit, 0
    process = IncidentProcess(kit.cfg, m.Metrics("coordinator"), lambda: clock_ms, still_s=0.5)
    stop = asyncio.Event()
    running_ = asyncio.create_task(process.run(stop))
    await send(kit.cfg, FAULT)
    opened = await told(kit, len(FAULT))
    last_ms = opened[-1].detected_ms
    clock_ms = last_ms + kit.cfg.incidents.stale_ms
    assert len(await told(kit, len(FAULT), quiet_s=1.5)) == len(FAULT), "not older than the limit"
    clock_ms += 1
    closed = (await told(kit, len(FAULT) + 1))[-1]
    assert (closed.status, closed.ended_ms, closed.incident_id) == ("close", last_ms, opened[0].incident_id)
    assert closed.reason.startswith("Closed by itself: nothing was heard of it after 2025-10-09")
    await send(kit.cfg, ENDS[:1])
    again = (await told(kit, len(FAULT) + 2))[-1]
    assert (again.status, again.revision) == ("close", len(FAULT) + 2), "a late close changes its member"
    stop.set()
    await running_


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
