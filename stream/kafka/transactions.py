"""The producer of a partition: transactional, or for at-least-once delivery an idempotent one."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final, Protocol

import aiokafka
import structlog
from aiokafka.errors import KafkaError

from schemas import config
from stream.kafka.clients import (
    CONNECT_TIMEOUT_S,
    RETRY_BACKOFF_MS,
    STOP_TIMEOUT_S,
    Message,
    TopicPartition,
    producer,
)

log = structlog.get_logger(__name__)

BATCH_BYTES: Final = 1_000_000
"""Largest record batch that is filled with further messages: just below a broker's default limit."""


SETTLE_TIMEOUT_MS: Final = 10_000
"""After which the broker aborts what a member that died while it settled has left open."""


class Producer(abc.ABC):
    """Sends a batch's messages and commits its offset; after an error only good for `stop`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._deliveries: list[asyncio.Future[Any]] = []

    async def start(self) -> None:
        """Connect and, with transactions, fence: what an earlier owner of the id has open is aborted.

        When this returns, no offset of that owner can be committed any more.
        """
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._client.start()

    @abc.abstractmethod
    async def settle(self, group_id: str, partition: TopicPartition) -> None:
        """Wait until the group's coordinator knows all that was committed, where that can be told."""

    @abc.abstractmethod
    async def begin(self) -> None: ...

    @abc.abstractmethod
    async def send_offset(self, group_id: str, partition: TopicPartition, next_offset: int) -> None: ...

    @abc.abstractmethod
    async def commit(self) -> None: ...

    @abc.abstractmethod
    async def abort(self) -> None: ...

    async def send(self, messages: Iterable[Message]) -> None:
        """Hand the messages over; `flush` waits for their delivery."""
        for message in messages:
            delivery = await self._client.send(
                message.topic,
                value=message.value,
                key=message.key,
                partition=message.partition,
                headers=list(message.headers),
            )
            delivery.add_done_callback(_retrieve)
            self._deliveries.append(delivery)

    async def flush(self) -> None:
        """Wait until every message is delivered; raises the first failure.

        aiokafka commits a transaction although a message in it has failed, so nothing may be committed
        before this returns.
        """
        deliveries, self._deliveries = self._deliveries, []
        for delivery in deliveries:
            await delivery

    async def partitions(self, topic: str) -> int:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return len(await self._client.partitions_for(topic))

    async def stop(self) -> None:
        """Close within a deadline, whatever the state; an open transaction is left for the next fence."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._client.stop()
        except (TimeoutError, KafkaError) as error:
            log.warning("producer did not stop cleanly", error=repr(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._client.client.close()
        finally:
            self._retrieve_failures()

    def _retrieve_failures(self) -> None:
        for delivery in self._deliveries:
            if delivery.done():
                _retrieve(delivery)


class TransactionalProducer(Producer):
    """One transactional id, fenced by `start`."""

    def __init__(self, kafka: config.Kafka, transactional_id: str, timeout_ms: int) -> None:
        client = producer(
            kafka,
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
        )
        super().__init__(client)

    async def settle(self, group_id: str, partition: TopicPartition) -> None:
        """Write an offset and take it back.

        For up to 2.5 s after its restart a coordinator (Kafka 4.1) says of each partition that nothing was
        committed, without an error. It acknowledges a write only when all that was written before counts.
        """
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self.begin()
            await self.send_offset(group_id, partition, 0)
            await self.abort()

    async def begin(self) -> None:
        self._deliveries = []
        await self._client.begin_transaction()

    async def send_offset(self, group_id: str, partition: TopicPartition, next_offset: int) -> None:
        offsets = {aiokafka.TopicPartition(*partition): next_offset}
        await self._client.send_offsets_to_transaction(offsets, group_id)

    async def commit(self) -> None:
        await self._client.commit_transaction()

    async def abort(self) -> None:
        await self._client.abort_transaction()

    def _retrieve_failures(self) -> None:
        """Look at the futures that a failed producer leaves, or asyncio logs each as never retrieved."""
        waiter = self._client._txn_manager._transaction_waiter  # noqa: SLF001
        if waiter is not None and waiter.done():
            _retrieve(waiter)


async def settle(kafka: config.Kafka, group_id: str, partition: TopicPartition) -> None:
    """`TransactionalProducer.settle` for a member of a group that has no producer, and owns the partition."""
    producing = TransactionalProducer(
        kafka, f"{group_id}-{partition.topic}-{partition.partition}", SETTLE_TIMEOUT_MS
    )
    try:
        await producing.start()
        await producing.settle(group_id, TopicPartition(*partition))
    finally:
        await producing.stop()


class OffsetCommitter(Protocol):
    """Commits offsets as the member of the group that owns the partition."""

    async def commit(self, partition: TopicPartition, next_offset: int) -> None: ...


class IdempotentProducer(Producer):
    """No transaction: the offset is committed, by the consumer, after all messages were acknowledged.

    A crash in between sends them again, with the same event ids. The group refuses an offset of a worker that
    has lost the partition, but what that worker sent before stays.
    """

    def __init__(self, kafka: config.Kafka, committer: OffsetCommitter) -> None:
        super().__init__(
            producer(kafka, retry_backoff_ms=RETRY_BACKOFF_MS, max_batch_size=BATCH_BYTES, linger_ms=0)
        )
        self._committer = committer
        self._reached: tuple[TopicPartition, int] | None = None

    async def settle(self, group_id: str, partition: TopicPartition) -> None:
        """Nothing can be written and taken back here."""

    async def begin(self) -> None:
        self._deliveries, self._reached = [], None

    async def send_offset(self, group_id: str, partition: TopicPartition, next_offset: int) -> None:  # noqa: ARG002
        self._reached = (partition, next_offset)

    async def commit(self) -> None:
        if self._reached is not None:
            await self._committer.commit(*self._reached)

    async def abort(self) -> None:
        """What was sent stays: it will be there again."""


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
