"""The topics that Tocsin reads and writes: what they are, and making those that are missing."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from schemas import config
from stream.kafka import Admin

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Of the topics that we create: a dead letter holds a whole input message."""

VISIBLE_TIMEOUT_S: Final = 15.0
"""A new topic is created by the controller and then told to the brokers; a client that asks in between is
told that it does not exist. Too short fails the first start on a slow machine."""


class Wanted(NamedTuple):
    """A topic as it should be."""

    name: str
    partitions: int
    options: dict[str, str]


class TopicStatus(NamedTuple):
    """A topic as it was found by `ensure`; ``partitions`` is what it has."""

    name: str
    partitions: int
    created: bool


def wanted(cfg: config.Config) -> list[Wanted]:
    """The topics of a configuration: inputs first, then those that Tocsin writes."""
    size = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    inputs = [Wanted(i.topic, i.partitions, size) for i in cfg.inputs]
    outputs = [
        Wanted(
            topic.name,
            topic.partitions,
            {
                **size,
                "retention.ms": str(topic.retention_ms),
                "cleanup.policy": "compact" if topic.compacted else "delete",
            },
        )
        for topic in (
            cfg.topics.anomalies,
            cfg.topics.scores,
            cfg.topics.deadletters,
            cfg.topics.artifacts,
            cfg.topics.requests,
            cfg.topics.results,
            cfg.topics.replies,
            cfg.topics.incidents,
            cfg.topics.control,
            cfg.topics.changes,
        )
    ]
    return [*inputs, *outputs, _journal(cfg)]


def _journal(cfg: config.Config) -> Wanted:
    """A partition for each partition of the inputs; its entries last as long as those are replayed."""
    topic = cfg.topics.journal
    partitions = max(topic.partitions, *(source.partitions for source in cfg.inputs))
    return Wanted(
        topic.name, partitions, {"retention.ms": str(topic.retention_ms), "cleanup.policy": "delete"}
    )


async def grow(cfg: config.Config, name: str, partitions: int) -> None:
    """See that a topic has at least so many partitions, and that brokers know them."""
    async with Admin.connect(cfg.kafka) as admin:
        if (await admin.topics()).get(name, 0) >= partitions:
            return
        await admin.grow(name, partitions)
        await _visible(admin, {name: partitions})


async def ensure(cfg: config.Config) -> list[TopicStatus]:
    """Create the topics that are missing and wait until brokers know them; existing ones stay as they are."""
    async with Admin.connect(cfg.kafka) as admin:
        existing = await admin.topics()
        created = set()
        for topic in wanted(cfg):
            if topic.name not in existing and await admin.create(
                topic.name, topic.partitions, cfg.topics.replication_factor, topic.options
            ):
                created.add(topic.name)
        existing = await _visible(admin, {topic.name: 1 for topic in wanted(cfg)})
    return [TopicStatus(t.name, existing[t.name], t.name in created) for t in wanted(cfg)]


async def describe(cfg: config.Config) -> dict[str, int | None]:
    """Number of partitions of each topic of the configuration, None where it is missing."""
    async with Admin.connect(cfg.kafka) as admin:
        existing = await admin.topics()
    return {topic.name: existing.get(topic.name) for topic in wanted(cfg)}


async def _visible(admin: Admin, least: dict[str, int]) -> dict[str, int]:
    async with asyncio.timeout(VISIBLE_TIMEOUT_S):
        while True:
            existing = await admin.topics()
            if all(existing.get(name, 0) >= count for name, count in least.items()):
                return existing
            await asyncio.sleep(0.05)
