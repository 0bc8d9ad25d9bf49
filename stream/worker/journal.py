"""The journal of a partition: writing entries beside a batch, reading them back before a replay."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from schemas import config
from schemas.journal import Began, Entry
from stream.kafka import Message, TopicPartition, consumer
from stream.kafka.following import FETCH_WAIT_MS, to_end

READ_TIMEOUT_S: Final = 30.0
"""For reading a partition of the journal to its end: kilobytes. A transaction of another input that hangs can
hold the end back until the broker aborts it; too short a time then costs another fence."""

_decode: Any = msgspec.json.Decoder(Entry).decode


def message(topic: str, entry: Entry) -> Message:
    """An entry for the transaction of its ``next_offset``."""
    return Message(topic, msgspec.json.encode(entry), entry.topic.encode(), partition=entry.partition)


def new_lineage() -> str:
    return uuid.uuid4().hex[:12]


def newest_beginning(entries: Sequence[Entry]) -> Began | None:
    return next((entry for entry in reversed(entries) if isinstance(entry, Began)), None)


async def read(cfg: config.Config, partition: TopicPartition) -> list[Entry]:
    """The committed entries of an input partition, in the order in which they were written."""
    place = TopicPartition(cfg.topics.journal.name, partition.partition)
    client = consumer(cfg.kafka, fetch_max_wait_ms=FETCH_WAIT_MS)
    key = partition.topic.encode()
    async with asyncio.timeout(READ_TIMEOUT_S):
        await client.start()
        try:
            return [_decode(record.value) async for record in to_end(client, place) if record.key == key]
        finally:
            await client.stop()
