"""What a worker goes on from: snapshots sound and broken, a changed configuration, offsets set by hand."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.journal import Began
from stream.formats.json_point import encode_point
from stream.kafka import TopicPartition
from stream.worker import journal

Kit = Any


class Message(msgspec.Struct):
    value: bytes
    partition: int
    key: bytes | None = None


def telemetry(rows: int, begin: int = 0) -> list[Message]:
    chance = random.Random(begin)
    return [
        Message(
            encode_point("load", {"host": str(h)}, 1_700_000_000_000 + row * 60_000, _value(chance, row, h)),
            h % 4,
        )
        for row in range(begin, begin + rows)
        for h in range(8)
    ]


def _value(chance: random.Random, row: int, host: int) -> float:
    return 900.0 if row % 157 == 20 * host % 157 and row > 100 else chance.gauss(10, 1)


async def _equals_one_process(kit: Kit, sent: int) -> None:
    events, rows = await kit.reference(sent)
    got = await kit.events(len(events))
    assert events
    assert sorted(e.event_id for e in got) == sorted(e.event_id for e in events)
    assert sorted(await kit.scores(len(rows))) == sorted(rows)


def _break_newest(folder: Path, how: str) -> int:
    """Damage the newest snapshot of each partition, or all of them."""
    broken = 0
    for place in folder.glob("*/*"):
        found = sorted(place.glob("*.snapshot"), reverse=True)
        for path in found if how == "all" else found[:1]:
            data = path.read_bytes()
            path.write_bytes(
                data[: len(data) // 2] if how != "flipped" else data[:-1] + bytes([data[-1] ^ 4])
            )
            broken += 1
    return broken


@pytest.mark.parametrize("how", ["sound", "flipped", "truncated", "all"])
async def test_scores_go_on_exactly_whatever_became_of_the_snapshots(
    kit: Kit, tmp_path: Path, metric: Any, how: str
) -> None:
    kit = kit.with_worker(relearn_messages=0)
    kit.cfg = msgspec.structs.replace(
        kit.cfg, snapshots=msgspec.structs.replace(kit.cfg.snapshots, every_ms=100)
    )
    sent, half = telemetry(600), 8 * 300
    sending = kit.send(sent[:half], pause_every=100)
    async with kit.worker():
        await sending
        await kit.scores(half, quiet_s=0.0)
    broken = _break_newest(tmp_path / "snapshots", how) if how != "sound" else 0
    assert broken or how == "sound"
    await kit.send(sent[half:])
    async with kit.worker() as worker:
        await _equals_one_process(kit, len(sent))
        failed = metric(worker.metrics_url, "tocsin_snapshot_failures_total")
        replayed = metric(worker.metrics_url, "tocsin_replayed_messages_total")
    assert sum(failed.values()) == broken
    assert (sum(replayed.values()) == half) == (how == "all")


async def test_a_changed_configuration_is_in_the_journal_and_repeats_exactly(
    kit: Kit, tmp_path: Path
) -> None:
    kit = kit.with_worker(relearn_messages=200)
    sent, third = telemetry(600), 8 * 200
    await kit.send(sent[:third])
    async with kit.worker():
        await kit.scores(third, quiet_s=0.0)
    changed = kit.with_admission(max_future_ms=999_000)
    await kit.send(sent[third : 2 * third])
    async with changed.worker():
        await kit.scores(2 * third, quiet_s=0.0)
    # Without snapshots, and with another number of messages to relearn: the journal says where it began.
    shutil.rmtree(tmp_path / "snapshots", ignore_errors=True)  # there may be none yet
    await kit.send(sent[2 * third :])
    async with changed.with_worker(relearn_messages=5).worker():
        rows = await kit.scores(len(sent))
    assert len(rows) == len(sent)
    entries = await journal.read(kit.cfg, TopicPartition(kit.cfg.inputs[0].topic, 0))
    assert [type(entry) for entry in entries] == [Began, Began]
    assert [(e.next_offset, e.learned_from) for e in entries] == [(0, 0), (400, 200)]
    assert entries[0].config_hash != entries[1].config_hash
