"""Which of several processes may work: the one that a consumer group gives a certain partition."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Self

import aiokafka
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from schemas import config
from stream.kafka.clients import CONNECT_TIMEOUT_S, consumer, stop

NO_POLL_LIMIT_MS: Final = 2**31 - 1
"""Nothing is read here, so that nothing is late in reading."""


class Turn:
    """A member of the group while it is entered; `mine` when the first partition of the topic is its own.

    The group keeps its member until that one leaves or is silent for the session timeout. A process that was
    stopped for longer learns of it late, so what it writes must be fenced all the same.
    """

    def __init__(self, kafka: config.Kafka, group_id: str, topic: str, session_timeout_ms: int) -> None:
        """``topic`` must exist; nothing is read from it or committed."""
        self._topic = topic
        self._mine = False
        self.joined = False
        """Whether the group has said whose turn it is."""
        self._client: Any = consumer(
            kafka,
            group_id=group_id,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(1, session_timeout_ms // 10),
            max_poll_interval_ms=NO_POLL_LIMIT_MS,
            partition_assignment_strategy=(_sticky(),),
        )

    @property
    def mine(self) -> bool:
        """Raises ``KafkaError`` when the group cannot be joined."""
        self._client._coordinator.check_errors()  # noqa: SLF001  # aiokafka checks it in getmany only
        return self._mine

    async def __aenter__(self) -> Self:
        self._client.subscribe(topics=[self._topic], listener=_Listener(self))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._client.start()
        except BaseException:
            await stop(self._client)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._mine = False
        await stop(self._client)

    def revoked(self) -> None:
        """Each change of the group begins so; it is over for a member that was thrown out."""
        if self._client._coordinator.generation < 0:  # noqa: SLF001
            self._mine = False

    def assigned(self, partitions: Iterable[Any]) -> None:
        """Each change of the group ends so."""
        mine = list(partitions)
        self._client.pause(*mine)
        self.joined = True
        self._mine = aiokafka.TopicPartition(self._topic, 0) in mine


def _sticky() -> type[Any]:
    """A class of its own for each member: aiokafka keeps what a member has on its assignor's class, and
    another one in the process would claim that too.
    """
    return type("Sticky", (StickyPartitionAssignor,), {})


class _Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:  # noqa: ARG002
        self._turn.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._turn.assigned(assigned)
