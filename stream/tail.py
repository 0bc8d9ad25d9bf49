"""`tocsin tail`: the anomalies on the topic, as lines for people or as the JSON that subscribers get."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import msgspec
import typer

from schemas import config
from schemas.event import AnomalyEvent, Direction, Severity
from stream import kafka
from stream.errors import UserError
from stream.files.produce import no_broker
from stream.kafka import TopicPartition

_WAIT_MS: Final = 300
"""Of one fetch; the time it takes to notice that there is no more, or that we are to stop."""

_decode = msgspec.json.Decoder(AnomalyEvent).decode

COLORS: Final = {Severity.INFO: "cyan", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}


class Told(NamedTuple):
    """An event, and the bytes in which it was sent."""

    event: AnomalyEvent
    raw: bytes


async def read(
    cfg: config.Config, *, last: int | None, follow: bool, series: str = "*"
) -> AsyncGenerator[Told, None]:
    """Committed events in the order of each partition, joined by the time they were detected.

    ``last`` is how many of those that are there to tell first (None: all); with ``follow`` never ends.
    ``series`` is a pattern as of shells. Raises `UserError` when there is no broker or no topic.
    """
    topic = cfg.topics.anomalies.name
    partitions = [TopicPartition(topic, number) for number in range(await _partitions(cfg, topic))]
    consumer = kafka.consumer(cfg.kafka, fetch_max_wait_ms=_WAIT_MS)
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await _begin(consumer, partitions, ends, last)
        there = _until(consumer, partitions, ends)
        kept = [told async for told in there if fnmatchcase(told.event.series, series)]
        kept.sort(key=lambda t: (t.event.detected_ms, t.event.series, t.event.revision))
        for told in kept if last is None else kept[max(0, len(kept) - last) :]:
            yield told
        while follow:
            for told in await _fetch(consumer):
                if fnmatchcase(told.event.series, series):
                    yield told
    finally:
        await consumer.stop()


async def _partitions(cfg: config.Config, topic: str) -> int:
    try:
        async with kafka.Admin.connect(cfg.kafka) as admin:
            found = (await admin.topics()).get(topic)
    except (kafka.KafkaError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error
    if found is None:
        raise UserError(f"Kafka has no topic {topic!r}: `tocsin topics create` or the first worker makes it")
    return found


async def _begin(
    consumer: Any, partitions: list[TopicPartition], ends: dict[Any, int], last: int | None
) -> None:
    """Seek; ``last`` events lie in about twice as many offsets, for each transaction leaves a marker."""
    firsts = await consumer.beginning_offsets(partitions)
    for partition in partitions:
        back = ends[partition] if last is None else 4 * last + 64 if last else 0
        consumer.seek(partition, max(firsts[partition], ends[partition] - back))


async def _until(
    consumer: Any, partitions: list[TopicPartition], ends: dict[Any, int]
) -> AsyncIterator[Told]:
    """Events before ``ends``. An open transaction hides what lies behind it: a quiet fetch ends it too."""
    while True:
        found = await _fetch(consumer)
        for told in found:
            yield told
        positions = [await consumer.position(partition) for partition in partitions]
        # The last offset of a partition is a marker, over which the position does not move.
        if all(at >= ends[p] - 1 for at, p in zip(positions, partitions, strict=True)) and not found:
            return
        if not found and all([await _is_hidden(consumer, p, ends[p]) for p in partitions]):
            return


async def _is_hidden(consumer: Any, partition: TopicPartition, end: int) -> bool:
    position = await consumer.position(partition)
    stable = consumer.last_stable_offset(partition)
    return bool(position >= end - 1 or (stable is not None and position >= stable - 1))


async def _fetch(consumer: Any) -> list[Told]:
    batches = await consumer.getmany(timeout_ms=_WAIT_MS)
    return [Told(_decode(r.value), r.value) for records in batches.values() for r in records if r.value]


def line(event: AnomalyEvent) -> str:
    """One line: when, how bad, what happened, where, how much."""
    number = f"{short(event.actual)} (expected {short(event.expected)}, band {band(event)})"
    ended = f", ended {time_text(event.ended_ms)}" if event.ended_ms is not None else ""
    return (
        f"{time_text(event.started_ms)}  {event.severity:<8} {event.status:<6} {event.kind:<7} "
        f"{event.series}  {number}  score {event.score:.2f}, peak {event.peak_score:.2f}{ended}"
    )


def band(event: AnomalyEvent) -> str:
    return f"{short(event.lower)} to {short(event.upper)}"


def short(number: float | None) -> str:
    """Four digits; a dash for none."""
    return "-" if number is None else f"{number:.4g}"


def time_text(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def arrow(event: AnomalyEvent) -> str:
    return {Direction.ABOVE: "↑", Direction.BELOW: "↓", Direction.BOTH: "↕"}[event.direction]


async def show(
    cfg: config.Config, *, last: int | None, follow: bool, series: str, as_json: bool, color: bool
) -> int:
    """Print events as they come; returns how many."""
    count = 0
    async with contextlib.aclosing(read(cfg, last=last, follow=follow, series=series)) as events:
        async for told in events:
            text = told.raw.decode() if as_json else line(told.event)
            typer.echo(typer.style(text, fg=COLORS[told.event.severity]) if color else text)
            count += 1
    return count


def run(
    cfg: config.Config, *, last: int | None, follow: bool, series: str, as_json: bool, color: bool
) -> int:
    return asyncio.run(show(cfg, last=last, follow=follow, series=series, as_json=as_json, color=color))
