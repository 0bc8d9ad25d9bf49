"""Read a topic from its first record: to its end once, or on and on beside the partitions of a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Never

import structlog

from schemas import config
from stream.kafka import End, KafkaError, Record, TopicPartition, consumer
from stream.kafka.admin import Admin

log = structlog.get_logger(__name__)

RETRY_S: Final = 5.0
"""Until the topic is read again from the start. Detection goes on meanwhile with what is known."""

FETCH_WAIT_MS: Final = 10
"""Three answers without records end the reading of a partition, each after this long."""


async def follow(kafka: config.Kafka, topic: str, take: Callable[[Record], Awaitable[None]]) -> Never:
    """Give ``take`` every record, again after any error; ends only when cancelled.

    ``take`` must not mind records that it has seen.
    """
    while True:
        try:
            await _read(kafka, topic, take)
        except Exception as error:  # noqa: BLE001  # Kafka, or a store of any make in `take`
            log.warning("topic cannot be read; trying again", topic=topic, error=repr(error))
        await asyncio.sleep(RETRY_S)


async def _read(kafka: config.Kafka, topic: str, take: Callable[[Record], Awaitable[None]]) -> None:
    async with Admin.connect(kafka) as admin:
        partitions = await admin.partitions(topic)
    client = consumer(kafka)
    await client.start()
    try:
        client.assign(partitions)
        while True:
            for records in (await client.getmany(timeout_ms=500, max_records=16)).values():
                for record in records:
                    await take(record)
    finally:
        with contextlib.suppress(KafkaError):
            await client.stop()


async def committed(kafka: config.Kafka, topic: str) -> list[Record]:
    """The committed records of a topic, partition by partition; those whose value is deleted are left out."""
    async with Admin.connect(kafka) as admin:
        partitions = await admin.partitions(topic)
    client = consumer(kafka, fetch_max_wait_ms=FETCH_WAIT_MS)
    await client.start()
    try:
        return [record for place in partitions for record in await _all(client, place)]
    finally:
        with contextlib.suppress(KafkaError):
            await client.stop()


async def _all(client: Any, place: TopicPartition) -> list[Record]:
    client.assign([place])  # without a group it begins at the earliest offset
    end = End(client, place)
    records: list[Record] = []
    while True:
        found = await client.getmany(timeout_ms=FETCH_WAIT_MS)
        records += [each for batch in found.values() for each in batch if each.value is not None]
        if end.reached(got=bool(found)):
            return records
