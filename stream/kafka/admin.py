"""Topics: what there is, and making more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import for_code

from schemas import config
from stream.kafka.clients import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_MS, TopicPartition, connection


class Admin:
    """Topics: create, list, offsets."""

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
