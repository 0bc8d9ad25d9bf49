"""Dead letters: reading them back, and sending what they hold to its topic again."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from schemas import config
from schemas.deadletter import DeadLetter
from stream.kafka import Record, TopicPartition, producer
from stream.kafka.following import FETCH_WAIT_MS, between, committed, reader

REPLAYED_HEADER: Final = "tocsin-dlq"

MOST_SCANNED: Final = 20_000
"""Offsets that one page looks at. More makes a page of a rare reason slower, fewer makes more empty pages."""

_decode = msgspec.msgpack.Decoder(DeadLetter).decode


class Stored(NamedTuple):
    """A dead letter and its own place; ``name`` is what a person types."""

    partition: int
    offset: int
    letter: DeadLetter
    timestamp_ms: int  # when it was set aside

    @property
    def name(self) -> str:
        return f"{self.partition}/{self.offset}"


async def read(cfg: config.Config) -> AsyncIterator[Stored]:
    """All committed dead letters that the topic still holds, partition by partition."""
    async for record in committed(cfg.kafka, cfg.topics.deadletters.name):
        letter = _letter(record)
        if letter is not None:
            yield letter


def _letter(record: Record) -> Stored | None:
    """None of a record without a value."""
    if record.value is None:
        return None
    return Stored(record.partition, record.offset, _decode(record.value), record.timestamp)


class Page(NamedTuple):
    """Some letters, the newest first; ``before`` is where the next page ends in each partition, None on the
    last page.
    """

    letters: list[Stored]
    before: dict[int, int] | None


async def newest(
    cfg: config.Config, limit: int, before: Mapping[int, int], wanted: Callable[[DeadLetter], bool]
) -> Page:
    """The newest wanted letters, at most ``limit``, below the offsets ``before`` by partition.

    A page looks at `MOST_SCANNED` offsets: with few of the wanted it is short, or empty, and not the last.
    """
    async with reader(cfg.kafka, cfg.topics.deadletters.name, FETCH_WAIT_MS) as (client, places):
        begins, ends = await client.beginning_offsets(places), await client.end_offsets(places)
        heads = {p: min(max(begins[p], before.get(p.partition, ends[p])), ends[p]) for p in places}
        found: list[Stored] = []
        scanned = 0
        while len(found) < limit and scanned < MOST_SCANNED and any(heads[p] > begins[p] for p in places):
            span = max(4 * limit, 100)
            ranges = {p: (max(begins[p], heads[p] - span), heads[p]) for p in places}
            scanned += sum(end - first for first, end in ranges.values())
            heads = {p: first for p, (first, _) in ranges.items()}
            async for record in between(client, ranges):
                letter = _letter(record)
                if letter is not None and wanted(letter.letter):
                    found.append(letter)
    # Of one partition by offset, or the next page would repeat or leave out: clocks of producers differ.
    found.sort(key=lambda each: each.offset, reverse=True)
    partitions = [[each for each in found if each.partition == place.partition] for place in places]
    found = list(heapq.merge(*partitions, key=lambda each: -each.timestamp_ms))
    for each in found[limit:]:  # not shown yet: the next page begins with it
        place = TopicPartition(cfg.topics.deadletters.name, each.partition)
        heads[place] = max(heads[place], each.offset + 1)
    rest = {place.partition: head for place, head in heads.items()}
    return Page(found[:limit], rest if any(heads[p] > begins[p] for p in places) else None)


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
