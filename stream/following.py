"""Follow a topic from its first record on, for what a worker keeps in mind beside its partitions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Never

import structlog

from schemas import config
from stream.kafka import KafkaError, Record, consumer
from stream.kafka.admin import Admin

log = structlog.get_logger(__name__)

RETRY_S: Final = 5.0
"""Until the topic is read again from the start. Detection goes on meanwhile with what is known."""


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
