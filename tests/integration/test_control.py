"""Commands on the real broker: in force once, journaled where they took effect, repeated by a replay."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from schemas.control import Command, Label, Mute, Unmute
from schemas.journal import Entry, Labelled, Muted
from stream import kafka as clients
from stream.kafka import TopicPartition
from stream.worker import journal
from stream.worker.pipeline import Pipeline
from stream.worker.snapshots import SnapshotStore
from tests.integration.conftest import Kit, Sent, _rows, _unpack

START_MS = 1_760_000_000_000
STEP_MS = 300_000
SERIES = 'cpu{host="a"}'
DEADLINE_S = 60.0
SPIKES = {400, 560, 700}


def telemetry(begin: int, end: int) -> list[Sent]:
    noise = np.random.default_rng(7).normal(size=10_000)
    return [
        Sent(
            msgspec.json.encode(
                {
                    "metric": "cpu",
                    "labels": {"host": "a"},
                    "ts": START_MS + row * STEP_MS,
                    "value": float(10 + noise[row] + (80.0 + row / 10 if row in SPIKES else 0.0)),
                }
            ),
            0,
        )
        for row in range(begin, end)
    ]


async def command(kit: Kit, *commands: Command | bytes) -> None:
    producer = clients.producer(kit.cfg.kafka)
    await producer.start()
    for each in commands:
        value = each if isinstance(each, bytes) else msgspec.json.encode(each)
        await producer.send_and_wait(kit.cfg.topics.control.name, value, key=b"m")
    await producer.stop()


async def journaled(kit: Kit, enough: Callable[[list[Entry]], bool]) -> list[Entry]:
    """The entries of commands, once there are enough of them."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await journal.read(kit.cfg, TopicPartition(kit.cfg.inputs[0].topic, 0))
            entries = [entry for entry in found if isinstance(entry, Muted | Labelled)]
            if enough(entries):
                return entries
            await asyncio.sleep(0.1)


def mute(first: int, last: int, **changes: Any) -> Mute:
    fields = {
        "command_id": "c1",
        "at_ms": 0,
        "mute_id": "m",
        "matcher": "cpu",
        "start_ms": START_MS + first * STEP_MS,
        "end_ms": START_MS + last * STEP_MS,
        "learn": False,
    }
    return Mute(**{**fields, **changes})


async def in_force(kit: Kit, sent: int, enough: Callable[[list[Entry]], bool]) -> int:
    """Send samples until a command is in the journal: it takes effect at the end of a batch."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await kit.send(telemetry(sent, sent + 2))
            sent += 2
            found = await journal.read(kit.cfg, TopicPartition(kit.cfg.inputs[0].topic, 0))
            if enough(found):
                return sent
            await asyncio.sleep(0.1)


def lifted(entries: list[Entry]) -> bool:
    return any(isinstance(entry, Muted) and entry.mute is None for entry in entries)


async def test_a_mute_holds_where_the_journal_says_and_a_replay_repeats_it(kit: Kit, tmp_path: Path) -> None:
    async with kit.worker():
        await kit.send(telemetry(0, 300))
        first = mute(350, 600)
        # Twice, after something that is no command, and with one that means nothing.
        await command(kit, b"{}", first, mute(5, 4, mute_id="backwards"), first)
        sent = await in_force(kit, 300, lambda found: any(isinstance(e, Muted) for e in found))
        assert sent < 400
        await kit.send(telemetry(sent, 650))
        await command(kit, Unmute(command_id="c2", at_ms=0, mute_id="m"))
        sent = await in_force(kit, 650, lifted)
        assert sent < 700
        await kit.send(telemetry(sent, 720))
        await kit.scores(720)
        events = await kit.events(5)
    entries = await journaled(kit, lifted)
    assert [(entry.mute_id, entry.mute) for entry in entries] == [("m", first), ("m", None)]
    of_spike = {(event.started_ms - START_MS) // STEP_MS: event.muted_by for event in events}
    assert {row: of_spike[row] for row in SPIKES} == {400: "m", 560: "m", 700: None}

    # No snapshot is left: what a new worker scores next depends on a replay from the first message on.
    shutil.rmtree(tmp_path / "snapshots", ignore_errors=True)
    async with kit.worker():
        await kit.send(telemetry(720, 800))
        scores = await kit.scores(800)
    assert scores == await one_running(kit, entries)
    assert scores != await one_running(kit, [])
    assert await journaled(kit, lifted) == entries  # what a restart finds in force is not new


async def test_a_mute_holds_for_the_next_sample_of_a_partition_that_was_idle(
    kit: Kit, tmp_path: Path
) -> None:
    """Also for a state from a snapshot of just before."""
    kit = Kit(
        msgspec.structs.replace(kit.cfg, snapshots=msgspec.structs.replace(kit.cfg.snapshots, every_ms=100))
    )
    folder, sent = tmp_path / "snapshots", 380
    partition = TopicPartition(kit.cfg.inputs[0].topic, 0)
    async with kit.worker():
        await kit.send(telemetry(0, sent))
        while not any(each.next_offset == sent for each in SnapshotStore(str(folder)).find(partition)):
            await kit.send(telemetry(sent, sent + 1))
            sent += 1
            await asyncio.sleep(0.5)
        assert sent < 400
        shutil.copytree(folder, tmp_path / "before")
        await command(kit, mute(300, 600))
        await heard_by_another_partition(kit)
        await kit.send(telemetry(sent, 450))
        events = await kit.events(1)
    assert {event.muted_by for event in events} == {"m"}
    entries = await journaled(kit, bool)
    assert [entry.next_offset for entry in entries] == [sent]

    shutil.rmtree(folder)
    shutil.move(tmp_path / "before", folder)
    async with kit.worker():
        await kit.send(telemetry(450, 800))
        expected = await one_running(kit, entries)
        found = await kit.read(kit.cfg.topics.scores.name, lambda r: len(of_cpu(r)) >= len(expected), 0.5)
    assert of_cpu(found) == expected


async def heard_by_another_partition(kit: Kit) -> None:
    """Send samples of another series until the worker follows the command there."""
    async with asyncio.timeout(DEADLINE_S):
        for minute in itertools.count():
            point = {"metric": "other", "ts": START_MS + minute * 60_000, "value": 1.0 + minute % 7}
            await kit.send([Sent(msgspec.json.encode(point), 1)])
            found = await journal.read(kit.cfg, TopicPartition(kit.cfg.inputs[0].topic, 1))
            if any(isinstance(entry, Muted) for entry in found):
                return
            await asyncio.sleep(0.1)


def of_cpu(records: Sequence[Any]) -> list[Any]:
    return [row for record in records for row in _rows(record) if row[0].startswith("cpu")]


async def one_running(kit: Kit, entries: list[Entry]) -> list[Any]:
    """The rows of an engine that applies entries at their offsets."""
    sent = await kit.read(
        kit.cfg.inputs[0].topic, lambda found: sum(each.partition == 0 for each in found) == 800, 0.0
    )
    records = [record for record in sent if record.partition == 0]
    pipeline = Pipeline(kit.cfg, kit.cfg.inputs[0])
    rows: list[Any] = []
    for record in records:
        for entry in entries:
            if entry.next_offset == record.offset:
                pipeline.apply(entry)
        samples, _dead = pipeline.decode([record])
        for part in pipeline.slices(samples):
            rows += [row for value in pipeline.score(part).scores for row in _unpack(value)]
    return rows


async def test_a_verdict_is_journaled_once(kit: Kit) -> None:
    async with kit.worker():
        await kit.send(telemetry(0, 420))
        (opened, *_) = await kit.events(1)
        verdict = Label(
            command_id="c",
            at_ms=0,
            anomaly_id=opened.anomaly_id,
            series=SERIES,
            verdict="false",
            started_ms=opened.started_ms,
        )
        await command(kit, verdict, verdict)
        sent = await in_force(kit, 420, lambda found: any(isinstance(e, Labelled) for e in found))
        await kit.send(telemetry(sent, sent + 20))
        await kit.scores(sent + 20)
    (entry,) = await journaled(kit, bool)
    assert isinstance(entry, Labelled)
    assert (entry.anomaly_id, entry.verdict) == (opened.anomaly_id, "false")
