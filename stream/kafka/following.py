"""Read a topic from its first record: to its end once, or on and on beside the partitions of a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Never

import structlog

from schemas import config
from stream.kafka import End, Record, TopicPartition, consumer, stop
from stream.kafka.admin import Admin

log = structlog.get_logger(__name__)

RETRY_S: Final = 5.0
"""Until the topic is read again from the start. Detection goes on meanwhile with what is known."""

FETCH_WAIT_MS: Final = 10
"""Three answers without records end the reading of a partition, each after this long."""

FOLLOW_WAIT_MS: Final = 100
"""The same for a topic that is followed; shorter asks an idle broker more often."""


async def follow(
    kafka: config.Kafka,
    topic: str,
    take: Callable[[Record], Awaitable[None]],
    caught_up: Callable[[], None],
) -> Never:
    """Give ``take`` every record, again after any error; ends only when cancelled.

    ``take`` must not mind records that it has seen. ``caught_up`` is called, perhaps more than once, when it
    has had all that were there at the start.
    """
    while True:
        try:
            await _read(kafka, topic, take, caught_up)
        except Exception as error:  # noqa: BLE001  # Kafka, or a store of any make in `take`
            log.warning("topic cannot be read; trying again", topic=topic, error=repr(error))
        await asyncio.sleep(RETRY_S)


async def _read(
    kafka: config.Kafka,
    topic: str,
    take: Callable[[Record], Awaitable[None]],
    caught_up: Callable[[], None],
) -> None:
    async with reader(kafka, topic, FOLLOW_WAIT_MS) as (client, places):
        client.assign(places)
        floors = await client.end_offsets(places)
        ends = {place: End(client, place, floors[place]) for place in places}
        while True:
            batches = await client.getmany(timeout_ms=500, max_records=16)
            for records in batches.values():
                for record in records:
                    await take(record)
            ends = {place: end for place, end in ends.items() if not end.reached(got=place in batches)}
            if not ends:
                caught_up()


async def committed(kafka: config.Kafka, topic: str) -> AsyncIterator[Record]:
    """The committed records of a topic, partition by partition, each up to its end."""
    async with reader(kafka, topic, FETCH_WAIT_MS) as (client, places):
        for place in places:
            async for record in to_end(client, place):
                yield record


async def to_end(client: Any, place: TopicPartition) -> AsyncIterator[Record]:
    """The committed records of a partition, for a client without a group that this assigns it to."""
    client.assign([place])  # without a group it begins at the earliest offset
    end = End(client, place, (await client.end_offsets([place]))[place])
    while True:
        batches = await client.getmany(timeout_ms=FETCH_WAIT_MS)
        for records in batches.values():
            for record in records:
                yield record
        if end.reached(got=bool(batches)):
            return


async def between(client: Any, ranges: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Record]:
    """The committed records with ``first <= offset < end`` of some partitions, for a client without a group
    that this assigns them to.
    """
    left = {place: end for place, (first, end) in ranges.items() if first < end}
    client.assign(list(left))
    for place in left:
        client.seek(place, ranges[place][0])
    floors = await client.end_offsets(list(left))
    ends = {place: End(client, place, floors[place]) for place in left}
    while left:
        batches = await client.getmany(timeout_ms=FETCH_WAIT_MS)
        for place, end in list(left.items()):
            records = batches.get(place, [])
            for record in records:
                if record.offset < end:
                    yield record
            if (records and records[-1].offset >= end - 1) or ends[place].reached(got=bool(records)):
                del left[place]


@contextlib.asynccontextmanager
async def reader(
    kafka: config.Kafka, topic: str, wait_ms: int
) -> AsyncIterator[tuple[Any, list[TopicPartition]]]:
    """A started client without a group, and the partitions of a topic."""
    async with Admin.connect(kafka) as admin:
        places = await admin.partitions(topic)
    client = consumer(kafka, fetch_max_wait_ms=wait_ms)
    await client.start()
    try:
        yield client, places
    finally:
        await stop(client)
