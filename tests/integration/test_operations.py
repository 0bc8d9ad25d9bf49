"""What people and retention do to topics and offsets, as `deploy/runbook.md` tells it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import pytest
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.protocol.admin import DeleteGroupsRequest

from schemas.journal import Began
from stream import kafka as clients
from stream import topics
from stream.kafka import TopicPartition
from stream.worker import journal
from tests.integration.conftest import Sent
from tests.integration.test_recovery import telemetry

Kit = Any
ROWS, HOSTS, PARTITIONS = 300, 8, 4
PER_PARTITION = ROWS * HOSTS // PARTITIONS


@pytest.fixture
def kit(kit: Kit) -> Kit:
    return kit.with_worker(relearn_messages=100)


async def _work(kit: Kit, rows: int) -> None:
    """A worker until the scores topic holds so many rows."""
    async with kit.worker():
        await kit.scores(rows, quiet_s=0.5)


async def _set_offsets(kit: Kit, offset: int) -> None:
    """As `kafka-consumer-groups.sh --reset-offsets` does, which needs a group without members."""
    source = kit.cfg.inputs[0]
    client = clients.consumer(kit.cfg.kafka, group_id=kit.cfg.worker.group_id)
    await client.start()
    try:
        places = [TopicPartition(source.topic, number) for number in range(source.partitions)]
        client.assign([aiokafka.TopicPartition(*place) for place in places])
        await client.commit({aiokafka.TopicPartition(*place): offset for place in places})
    finally:
        await client.stop()


@asynccontextmanager
async def _admin(kit: Kit) -> AsyncIterator[Any]:
    async with clients.Admin.connect(kit.cfg.kafka) as admin:
        yield admin._client


async def _delete_records(kit: Kit, before: int) -> None:
    """What retention does."""
    source = kit.cfg.inputs[0]
    async with _admin(kit) as admin:
        await admin.delete_records(
            {
                aiokafka.TopicPartition(source.topic, number): RecordsToDelete(before)
                for number in range(source.partitions)
            }
        )


async def _beginnings(kit: Kit) -> list[tuple[str, int, int]]:
    entries = await journal.read(kit.cfg, TopicPartition(kit.cfg.inputs[0].topic, 0))
    return [(e.reason, e.next_offset, e.learned_from) for e in entries if isinstance(e, Began)]


async def test_offsets_set_back_score_again_with_the_same_ids_and_scores(kit: Kit) -> None:
    sent = telemetry(ROWS)
    await kit.send(sent)
    await _work(kit, len(sent))
    await _set_offsets(kit, 400)
    await _work(kit, len(sent) + (PER_PARTITION - 400) * PARTITIONS)
    events, rows = await kit.reference(len(sent))
    got = Counter(await kit.scores(len(sent)))
    assert got.keys() == set(rows)
    assert got.total() == len(sent) + (PER_PARTITION - 400) * PARTITIONS
    told = await kit.events(len(events))
    assert {e.event_id for e in told} == {e.event_id for e in events}
    assert len(await _beginnings(kit)) == 1, "the state of the earlier offset, not a new one"


async def test_offsets_set_back_to_before_the_state_began_begin_anew(kit: Kit) -> None:
    sent = telemetry(ROWS)
    await kit.send(sent)
    await _set_offsets(kit, 300)
    await _work(kit, (PER_PARTITION - 300) * PARTITIONS)
    assert await _beginnings(kit) == [("the journal does not say where the state began", 300, 200)]
    await _set_offsets(kit, 150)
    await _work(kit, (2 * PER_PARTITION - 450) * PARTITIONS)
    assert (await _beginnings(kit))[1:] == [("the offset was reset to before the state began", 150, 50)]


async def test_what_offsets_set_forward_skip_is_learned_and_never_scored(kit: Kit) -> None:
    sent = telemetry(ROWS)
    half = len(sent) // 2
    await kit.send(sent[:half])
    await _work(kit, half)
    await kit.send(sent[half:])
    await _set_offsets(kit, 450)
    skipped = (450 - PER_PARTITION // 2) * PARTITIONS
    await _work(kit, len(sent) - skipped)
    _, rows = await kit.reference(len(sent))
    got = await kit.scores(len(sent) - skipped)
    times_ms = {row[1] for row in got}
    assert len(got) == len(sent) - skipped
    assert sorted(got) == sorted(row for row in rows if row[1] in times_ms)
    assert len(await _beginnings(kit)) == 1


async def _commits(kit: Kit, offset: int) -> None:
    """Wait until each partition has committed so much."""
    client = clients.consumer(kit.cfg.kafka, group_id=kit.cfg.worker.group_id)
    await client.start()
    try:
        async with asyncio.timeout(90):
            for number in range(PARTITIONS):
                place = aiokafka.TopicPartition(kit.cfg.inputs[0].topic, number)
                while (await client.committed(place) or 0) < offset:  # noqa: ASYNC110  # Kafka tells nobody
                    await asyncio.sleep(0.1)
    finally:
        await client.stop()


async def _forget_offsets(kit: Kit) -> None:
    """As `kafka-consumer-groups.sh --delete` does, or `offsets.retention.minutes`."""
    async with _admin(kit) as admin:
        group = kit.cfg.worker.group_id
        coordinator = await admin.find_coordinator(group)
        response = await admin._send_request(DeleteGroupsRequest([group]), coordinator)
        assert response.results == [(group, 0)]


@pytest.mark.parametrize("emit", ["all", "alerts"])
async def test_a_group_that_has_forgotten_its_offsets_goes_on_behind_what_was_told(
    kit: Kit, emit: str
) -> None:
    kit = kit.with_worker(emit_scores=emit)
    sent = telemetry(ROWS)
    half = len(sent) // 2
    for part, done in ((sent[:half], PER_PARTITION // 2), (sent[half:], PER_PARTITION)):
        await kit.send(part)
        async with kit.worker():
            await _commits(kit, done)
        await _forget_offsets(kit)
    events, rows = await kit.reference(len(sent))
    assert sorted(await kit.scores(len(rows))) == sorted(rows)
    assert sorted(e.event_id for e in await kit.events(len(events))) == sorted(e.event_id for e in events)
    assert len(await _beginnings(kit)) == 1


async def test_partitions_that_are_added_are_worked_on_and_the_journal_grows(kit: Kit) -> None:
    sent = telemetry(ROWS)
    await kit.send(sent)
    await _work(kit, len(sent))
    topic, grown = kit.cfg.inputs[0].topic, PARTITIONS + 2
    async with clients.Admin.connect(kit.cfg.kafka) as admin:
        await admin.grow(topic, grown)
    more = [Sent(m.value, PARTITIONS + m.partition % 2) for m in telemetry(50, begin=ROWS)]
    await kit.send(more)
    await _work(kit, len(sent) + len(more))
    got = await kit.scores(len(sent) + len(more))
    assert len(got) == len(sent) + len(more)
    assert (await topics.describe(kit.cfg))[kit.cfg.topics.journal.name] == grown
    entries = await journal.read(kit.cfg, TopicPartition(topic, grown - 1))
    assert [(type(e), e.next_offset) for e in entries] == [(Began, 0)]


async def test_a_topic_made_again_begins_from_nothing_whatever_snapshots_there_are(kit: Kit) -> None:
    before, after = telemetry(ROWS), telemetry(200, begin=1000)
    await kit.send(before)
    await _work(kit, len(before))
    async with _admin(kit) as admin:
        await admin.delete_topics([kit.cfg.inputs[0].topic])
    await kit.send(after)  # makes it again
    await _work(kit, len(before) + len(after))
    events, rows = await kit.reference(len(after))
    got = await kit.scores(len(before) + len(after))
    newest = min(row[1] for row in rows)
    assert sorted(row for row in got if row[1] >= newest) == sorted(rows)
    assert {e.event_id for e in events} <= {e.event_id for e in await kit.events(len(events))}
    assert [reason for reason, *_ in await _beginnings(kit)] == ["first start", "first start"]


@pytest.mark.parametrize("gone", ["the snapshot", "the committed offset"])
async def test_retention_that_passed_learns_anew_from_what_is_left(
    kit: Kit, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = kit.without_snapshots()
    sent = telemetry(ROWS)
    half, committed = len(sent) // 2, PER_PARTITION // 2
    await kit.send(sent[:half])
    await _work(kit, half)
    await kit.send(sent[half:])
    lost = 0 if gone == "the snapshot" else 40
    first = committed - 60 if gone == "the snapshot" else committed + lost
    await _delete_records(kit, first)
    await _work(kit, len(sent) - lost * PARTITIONS)
    assert len(await kit.scores(len(sent) - lost * PARTITIONS)) == len(sent) - lost * PARTITIONS
    reason, next_offset, learned_from = (await _beginnings(kit))[-1]
    warned = "committed offset is gone" in capsys.readouterr().out
    if gone == "the snapshot":
        assert (reason, next_offset, learned_from, warned) == (
            "messages are gone that the state was learned from",
            committed,
            first,
            False,
        )
    else:
        assert (reason, next_offset, learned_from, warned) == (
            "the committed offset is gone",
            first,
            first,
            True,
        )
