"""The worker on a real broker: known spikes in real telemetry, kills, rebalances."""

from __future__ import annotations

import asyncio
import csv
import gzip
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from bench.processes import WorkerProcess
from schemas.event import AnomalyEvent, Status
from stream.formats.json_point import encode_point
from stream.local.process import free_port
from stream.worker.pipeline import Pipeline
from stream.worker.worker import Worker

Kit = Any
Sent = tuple[bytes | None, int, bytes | None]

DATA = Path(__file__).parents[1] / "data" / "redlab-2-days.csv.gz"
COLUMNS = ("web_response", "throughput", "apdex", "error")


class Message(msgspec.Struct):
    value: bytes
    partition: int
    key: bytes | None = None


def telemetry(spikes: dict[tuple[str, int], float], services: int = 1) -> list[Message]:
    """Two days of a real service, by minute, with values planted at (series, row)."""
    messages = []
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            moment = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            for service in range(services):
                for place, name in enumerate(COLUMNS):
                    value = spikes.get((name, number), float(row[name]))
                    labels = {"service": f"collector-{service}"}
                    ts_ms = int((moment + timedelta(days=service)).timestamp() * 1000)
                    point = encode_point(name, labels, ts_ms, value)
                    messages.append(Message(point, (place + service) % 4))
    return messages


def planted_ms(number: int) -> int:
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    moment = datetime.fromisoformat(rows[number]["timestamp"]).replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


SPIKES = {
    ("web_response", 1200): 25.0,
    ("web_response", 2000): 40.0,
    ("throughput", 1500): 900_000.0,
    ("throughput", 2500): 700_000.0,
    ("apdex", 1800): -30.0,
    ("error", 2200): 60.0,
}


async def test_each_known_spike_in_real_telemetry_has_one_open_and_one_close_event(
    kit: Kit, metric: Callable[[str, str], dict[str, float]]
) -> None:
    sent = telemetry(SPIKES)
    await kit.send(sent)
    async with kit.worker() as worker:
        scores = await kit.scores(len(sent))
        events = await kit.events(2 * len(SPIKES))
        samples = await asyncio.to_thread(metric, worker.metrics_url, "tocsin_samples_total")
        told = await asyncio.to_thread(metric, worker.metrics_url, "tocsin_anomaly_events_total")
        dead = await asyncio.to_thread(metric, worker.metrics_url, "tocsin_dead_letters_total")
        lag = await asyncio.to_thread(metric, worker.metrics_url, "tocsin_lag_messages")
    for name, number in SPIKES:
        series, at_ms = f'{name}{{service="collector-0"}}', planted_ms(number)
        covering = [
            e for e in events if e.series == series and e.status is Status.CLOSE
            and e.started_ms <= at_ms <= (e.ended_ms or 0)
        ]  # fmt: skip
        assert len(covering) == 1, (name, number)
        statuses = Counter(e.status for e in events if e.anomaly_id == covering[0].anomaly_id)
        assert (statuses[Status.OPEN], statuses[Status.CLOSE]) == (1, 1)
    _one_story_each(events)
    assert len(scores) == len(sent) == len({(series, ts_ms) for series, ts_ms, *_ in scores})
    assert sum(samples.values()) == len(sent)
    assert sum(told.values()) == len(events)
    assert not dead
    assert sum(lag.values()) == 0


def _one_story_each(events: list[AnomalyEvent]) -> None:
    """No event twice; each anomaly opens once, closes at most once, and counts its revisions."""
    assert max(Counter(e.event_id for e in events).values()) == 1
    for anomaly_id in {e.anomaly_id for e in events}:
        story = sorted((e for e in events if e.anomaly_id == anomaly_id), key=lambda e: e.revision)
        assert [e.revision for e in story] == list(range(story[0].revision, story[0].revision + len(story)))
        assert [e.status for e in story].count(Status.OPEN) == 1
        assert [e.status for e in story].count(Status.CLOSE) <= 1


async def _equals_one_process(kit: Kit, sent: int) -> None:
    """What was written equals what one process without faults would have written."""
    events, rows = await kit.reference(sent)
    assert events
    got = await kit.events(len(events))
    assert sorted(e.event_id for e in got) == sorted(e.event_id for e in events)
    assert sorted(await kit.scores(len(rows))) == sorted(rows)


async def test_a_restarted_worker_goes_on_as_if_nothing_had_been(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = telemetry(SPIKES, services=2)
    kit = kit.with_worker(max_batch_messages=100)
    await kit.send(sent)
    decode, at_work = Pipeline.decode, threading.Event()

    def slowly(self: Pipeline, messages: Any) -> Any:
        at_work.set()
        time.sleep(0.2)
        return decode(self, messages)

    with capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr(Pipeline, "decode", slowly)
        async with kit.worker():
            await kit.scores(len(sent) // 10, quiet_s=0.0)
            at_work.clear()
            await asyncio.to_thread(at_work.wait)
    assert not [line for line in lines if line["log_level"] == "warning"]  # batches at hand were finished
    async with kit.worker():
        await _equals_one_process(kit, len(sent))


async def test_killed_workers_lose_nothing_and_double_nothing(kit: Kit) -> None:
    seed = time.time_ns() % 100_000
    print("seed", seed)
    chance = random.Random(seed)
    sent = telemetry(SPIKES, services=3)
    kit = kit.with_worker(max_batch_messages=200)
    cfg = msgspec.structs.replace(
        kit.cfg, metrics=msgspec.structs.replace(kit.cfg.metrics, worker_port=free_port())
    )
    sending = asyncio.create_task(kit.send(sent, pause_every=150))
    for share in (0.15, 0.4):
        with WorkerProcess(cfg) as worker:
            # Of this life, so each one gets a while beyond its replay.
            await worker.wait_for_samples(int(len(sent) * share * chance.uniform(0.5, 1)))
            worker.kill()
    await sending
    with WorkerProcess(cfg):
        await _equals_one_process(kit, len(sent))


async def test_two_workers_share_the_partitions_and_hand_them_over(
    kit: Kit, metric: Callable[[str, str], dict[str, float]]
) -> None:
    sent = telemetry(SPIKES, services=2)
    sending = asyncio.create_task(kit.send(sent, pause_every=100))
    async with kit.worker() as first:
        await kit.scores(len(sent) // 10, quiet_s=0.0)
        async with kit.worker() as second:
            await _until(lambda: _running(metric, first) == 2 and _running(metric, second) == 2)
            await kit.scores(len(sent) // 3, quiet_s=0.0)
        await _until(lambda: _running(metric, first) == 4)
        await sending
        await _equals_one_process(kit, len(sent))


def _running(metric: Callable[[str, str], dict[str, float]], worker: Worker) -> int:
    states = metric(worker.metrics_url, "tocsin_partition_state")
    return int(sum(value for labels, value in states.items() if 'state="running"' in labels))


async def _until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    began = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() - began < deadline_s
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("emit", ["alerts", "none"])
async def test_scores_can_be_left_out(kit: Kit, emit: str) -> None:
    sent = telemetry({("throughput", 900): 900_000.0})[:4000]
    kit = kit.with_worker(emit_scores=emit)
    await kit.send(sent)
    async with kit.worker():
        events = await kit.events(2)
        rows = await kit.scores(1 if emit == "alerts" else 0)
    assert events
    assert len(rows) < 400
    assert bool(rows) == (emit == "alerts")
