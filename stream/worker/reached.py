"""How far a partition got, by what it told: for a group that has forgotten the committed offset.

The last message of scores of each transaction carries, as a header, the offset that the transaction reached,
Kafka's time of the input message before it, and the group. Offsets can be gone while outputs are not: deleted
by hand, expired (`offsets.retention.minutes`), or forgotten by a coordinator that came back from a crash with
an empty state (Kafka 4.1). A first start would then tell everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from schemas import config
from stream.kafka import Message, TopicPartition
from stream.kafka.following import FETCH_WAIT_MS, between, reader
from stream.kafka.partitioner import partition_of
from stream.output import NO_SCORES

HEADER: Final = "tocsin-reached"

WINDOWS: Final = (100, 1_000, 10_000)
"""How many of the newest scores are looked through. Several input partitions share one of scores; what is not
among its newest ten thousand messages is not found."""

READ_TIMEOUT_S: Final = 60.0
"""For looking through the largest window, perhaps a gigabyte: it happens once, when offsets are gone."""


class Reached(NamedTuple):
    """The offset, Kafka's time (ms) of the message before it, and the group that committed it."""

    next_offset: int
    before_ms: int
    group: str


def key_of(partition: TopicPartition) -> bytes:
    """Of the scores of an input partition."""
    return f"{partition.topic}/{partition.partition}".encode()


def mark(scores: Sequence[Message], reached: Reached, topic: str, key: bytes) -> list[Message]:
    """The scores of a transaction with ``reached`` on the last; one without samples where there are none."""
    *others, last = scores or [Message(topic, NO_SCORES, key)]
    value = f"{reached.next_offset} {reached.before_ms} {reached.group}".encode()
    return [*others, last._replace(headers=[(HEADER, value)])]


async def newest(cfg: config.Config, partition: TopicPartition) -> int | None:
    """The offset that was reached last; None where nothing was told, or of an earlier topic of that name."""
    key = key_of(partition)
    async with (
        asyncio.timeout(READ_TIMEOUT_S),
        reader(cfg.kafka, cfg.topics.scores.name, FETCH_WAIT_MS) as (client, places),
    ):
        if not places:
            return None
        reached = await _last(client, places[partition_of(key, len(places))], key, cfg.worker.group_id)
        if reached is None or not await _is_of(client, partition, reached):
            return None
        return reached.next_offset


async def _last(client: Any, place: TopicPartition, key: bytes, group: str) -> Reached | None:
    first, end = await _bounds(client, place)
    for window in WINDOWS:
        start, found = max(first, end - window), None
        async for record in between(client, {place: (start, end)}):
            reached = _read(record) if record.key == key else None
            if reached is not None and reached.group == group:
                found = reached
        if found is not None or start == first:
            return found
    return None


def _read(record: Any) -> Reached | None:
    for name, value in record.headers:
        if name == HEADER:
            next_offset, before_ms, group = value.decode().split(" ", 2)
            return Reached(int(next_offset), int(before_ms), group)
    return None


async def _is_of(client: Any, partition: TopicPartition, reached: Reached) -> bool:
    """Whether the input has that message at that place: a topic that was made again has another, or none."""
    first, end = await _bounds(client, partition)
    if reached.next_offset <= first:  # retention took it; a topic that was made again begins at 0
        return True
    if reached.next_offset > end:
        return False
    before = reached.next_offset - 1
    async for record in between(client, {partition: (before, reached.next_offset)}):
        return record.timestamp == reached.before_ms
    return False


async def _bounds(client: Any, place: TopicPartition) -> tuple[int, int]:
    return (await client.beginning_offsets([place]))[place], (await client.end_offsets([place]))[place]
