"""The transactional producer of a partition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final

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


class TransactionalProducer:
    """One transactional id, fenced by `start`; after an error in a transaction only good for `stop`."""

    def __init__(self, kafka: config.Kafka, transactional_id: str, timeout_ms: int) -> None:
        self._client = producer(
            kafka,
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
        )
        self._deliveries: list[asyncio.Future[Any]] = []

    async def start(self) -> None:
        """Connect and fence: an open transaction of an earlier owner of the id is aborted.

        When this returns, no offset of that owner can be committed any more.
        """
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._client.start()

    async def begin(self) -> None:
        self._deliveries = []
        await self._client.begin_transaction()

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

    async def send_offset(self, group_id: str, partition: TopicPartition, next_offset: int) -> None:
        offsets = {aiokafka.TopicPartition(*partition): next_offset}
        await self._client.send_offsets_to_transaction(offsets, group_id)

    async def flush(self) -> None:
        """Wait until every message is delivered; raises the first failure.

        aiokafka commits a transaction although a message in it has failed, so nothing may be committed
        before this returns.
        """
        deliveries, self._deliveries = self._deliveries, []
        for delivery in deliveries:
            await delivery

    async def commit(self) -> None:
        await self._client.commit_transaction()

    async def abort(self) -> None:
        await self._client.abort_transaction()

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
        """Look at the futures that a failed producer leaves, or asyncio logs each as never retrieved."""
        waiter = self._client._txn_manager._transaction_waiter  # noqa: SLF001
        if waiter is not None and waiter.done():
            _retrieve(waiter)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
