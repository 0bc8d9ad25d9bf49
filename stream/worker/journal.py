"""The journal of a partition: writing entries beside a batch, reading them back before a replay."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from schemas import config
from schemas.journal import Began, Entry
from stream.kafka import End, Message, TopicPartition, consumer

READ_TIMEOUT_S: Final = 30.0
"""For reading a partition of the journal to its end: kilobytes. A transaction of another input that hangs can
hold the end back until the broker aborts it; too short a time then costs another fence."""

FETCH_WAIT_MS: Final = 10
"""Three answers without entries end the reading, each after this long; longer delays every restore."""

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
    async with asyncio.timeout(READ_TIMEOUT_S):
        await client.start()
        try:
            return await _read(client, place, partition)
        finally:
            await client.stop()


async def _read(client: Any, place: TopicPartition, partition: TopicPartition) -> list[Entry]:
    client.assign([place])  # without a group it begins at the earliest offset
    found: list[Entry] = []
    end, key = End(client, place), partition.topic.encode()
    # While a transaction of another input is open, entries of ours may lie behind it: wait.
    while True:
        batches = await client.getmany(timeout_ms=FETCH_WAIT_MS)
        for records in batches.values():
            found += [_decode(r.value) for r in records if r.key == key]
        if end.reached(got=bool(batches)):
            return found
