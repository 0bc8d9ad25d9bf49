"""How far consumer groups are behind: ends, committed offsets and owners of partitions, as Kafka has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from schemas import config
from stream.kafka import TopicPartition, consumer, stop
from stream.kafka.admin import Admin


class Place(NamedTuple):
    """A partition: offsets ``begin`` to ``end`` are there, ``committed`` is the group's next one, if any."""

    topic: str
    partition: int
    begin: int
    end: int
    committed: int | None
    owner: str | None

    @property
    def lag(self) -> int:
        """Offsets that wait; in a topic that is written in transactions their markers count, too."""
        return max(0, self.end - max(self.begin, self.committed or 0))


class GroupLag(NamedTuple):
    """A group with every partition of its topics; ``state`` as `stream.kafka.admin.Group` has it."""

    group_id: str
    state: str
    members: int
    places: list[Place]


async def of(kafka: config.Kafka, groups: Mapping[str, Sequence[str]]) -> list[GroupLag]:
    """Of groups by id, with the topics that each reads; a topic that does not exist has no partitions.

    Raises `KafkaError` or ``TimeoutError`` when there is no broker.
    """
    client = consumer(kafka)
    async with Admin.connect(kafka) as admin:
        counts = await admin.topics()
        await client.start()
        try:
            return [
                await _group(admin, client, name, _places(counts, topics)) for name, topics in groups.items()
            ]
        finally:
            await stop(client)


def _places(counts: Mapping[str, int], topics: Sequence[str]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]


async def _group(admin: Admin, client: Any, name: str, places: list[TopicPartition]) -> GroupLag:
    begins, ends = await client.beginning_offsets(places), await client.end_offsets(places)
    committed, group = await admin.committed(name), await admin.describe(name)
    found = [
        Place(*place, begins[place], ends[place], committed.get(place), group.owners.get(place))
        for place in places
    ]
    return GroupLag(name, group.state, group.members, found)
