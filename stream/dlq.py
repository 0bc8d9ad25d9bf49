"""Dead letters: reading them back, and sending what they hold to its topic again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

import msgspec

from schemas import config
from schemas.deadletter import DeadLetter
from stream.kafka import producer
from stream.kafka.following import committed

REPLAYED_HEADER: Final = "tocsin-dlq"

_decode = msgspec.msgpack.Decoder(DeadLetter).decode


class Stored(NamedTuple):
    """A dead letter and its own place; ``name`` is what a person types."""

    partition: int
    offset: int
    letter: DeadLetter

    @property
    def name(self) -> str:
        return f"{self.partition}/{self.offset}"


async def read(cfg: config.Config) -> AsyncIterator[Stored]:
    """All committed dead letters that the topic still holds, partition by partition."""
    async for record in committed(cfg.kafka, cfg.topics.deadletters.name):
        if record.value is not None:
            yield Stored(record.partition, record.offset, _decode(record.value))


async def replay(cfg: config.Config, wanted: Callable[[Stored], bool]) -> tuple[int, int]:
    """Send whole messages to their topics and partitions again; returns how many were sent, and skipped.

    A letter about a part of a message is skipped: the rest of it has been scored. So is one that was cut. The
    letters stay where they are; a second replay sends them again, and samples that come twice are duplicates.
    """
    # All are read before one is sent: a message that fails again is a new letter, and would be sent for ever.
    chosen = [stored async for stored in read(cfg) if wanted(stored)]
    sent = skipped = 0
    client = producer(cfg.kafka)
    await client.start()
    try:
        for stored in chosen:
            letter = stored.letter
            if letter.position is not None or "(only the first" in letter.error or not letter.raw:
                skipped += 1
                continue
            await client.send_and_wait(
                letter.topic,
                value=letter.raw,
                key=letter.key,
                partition=letter.partition,
                headers=[(REPLAYED_HEADER, stored.name.encode())],
            )
            sent += 1
    finally:
        await client.stop()
    return sent, skipped
