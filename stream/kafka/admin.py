"""Topics and consumer groups: what there is, and making more topics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError, for_code

from schemas import config
from stream.kafka.clients import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_MS, TopicPartition, connection

COORDINATOR_TIMEOUT_S: Final = 10.0
"""For a coordinator to be there. Too short fails the first look at a new or restarted cluster."""


class Group(NamedTuple):
    """``state`` is Kafka's: Stable, PreparingRebalance, CompletingRebalance, Empty or Dead (never seen)."""

    state: str
    members: int
    owners: dict[TopicPartition, str]


class Admin:
    """Topics: create, list. Groups: offsets, members."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, kafka: config.Kafka) -> AsyncIterator[Admin]:
        client = AIOKafkaAdminClient(request_timeout_ms=REQUEST_TIMEOUT_MS, **connection(kafka))
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.start()
        try:
            yield cls(client)
        finally:
            await client.close()

    async def topics(self) -> dict[str, int]:
        """Number of partitions of each topic."""
        names = await self._client.list_topics()
        described = await self._client.describe_topics(names)
        return {topic["topic"]: len(topic["partitions"]) for topic in described}

    async def partitions(self, topic: str) -> list[TopicPartition]:
        """Those of a topic; none where it does not exist."""
        return [TopicPartition(topic, number) for number in range((await self.topics()).get(topic, 0))]

    async def committed(self, group_id: str) -> dict[TopicPartition, int]:
        """The next offset of each partition in which a group has committed one."""
        coordinator = await self._coordinator(group_id)
        found = await self._client.list_consumer_group_offsets(group_id, coordinator)
        return {TopicPartition(*place): each.offset for place, each in found.items() if each.offset >= 0}

    async def describe(self, group_id: str) -> Group:
        """A group as its coordinator sees it; raises `KafkaError`."""
        coordinator = await self._coordinator(group_id)
        (answer,) = await self._client.describe_consumer_groups([group_id], coordinator)
        (code, _, state, _, _, members, *_rest) = answer.groups[0]
        if code:
            raise for_code(code)(f"group {group_id}")
        owners: dict[TopicPartition, str] = {}
        for _id, client, host, _metadata, assignment, *_more in members:
            # Between two generations a member has none; a member that was assigned by hand never has.
            for place in (
                ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else ()
            ):
                owners[TopicPartition(*place)] = f"{client} at {host.lstrip('/')}"
        return Group(state, len(members), owners)

    async def _coordinator(self, group_id: str) -> int:
        """The broker of a group. A new cluster makes its topic of offsets when it is first asked."""
        deadline = time.monotonic() + COORDINATOR_TIMEOUT_S
        while True:
            try:
                return int(await self._client.find_coordinator(group_id))
            except GroupCoordinatorNotAvailableError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def create(self, name: str, partitions: int, replicas: int, options: dict[str, str]) -> bool:
        """Create a topic; False where it exists. Raises `KafkaError` for any other refusal."""
        response = await self._client.create_topics(
            [NewTopic(name, partitions, replicas, topic_configs=options)]
        )
        for _topic, code, *message in response.topic_errors:
            error = for_code(code)
            if error.__name__ == "TopicAlreadyExistsError":
                return False
            if code:
                raise error(f"topic {name}: {message[0] if message else error.__name__}")
        return True

    async def grow(self, name: str, partitions: int) -> None:
        """Raise the number of partitions; a number that is reached already is refused with `KafkaError`."""
        response = await self._client.create_partitions({name: NewPartitions(partitions)})
        for _topic, code, *message in response.topic_errors:
            if code:
                raise for_code(code)(f"topic {name}: {message[0] if message else code}")
