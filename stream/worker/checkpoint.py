"""One commit of one partition: what a batch made and the offset it reached, in one Kafka transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

from stream.kafka import KafkaError, Message, TopicPartition

ABORT_TIMEOUT_S: Final = 2.0
"""For an abort that only spares readers the wait for the next fence, which aborts in any case."""


class Transactions(Protocol):
    """What a checkpoint needs of `stream.kafka.TransactionalProducer`."""

    async def begin(self) -> None: ...
    async def send(self, messages: Sequence[Message]) -> None: ...
    async def send_offset(self, group_id: str, partition: TopicPartition, next_offset: int) -> None: ...
    async def flush(self) -> None: ...
    async def commit(self) -> None: ...
    async def abort(self) -> None: ...


class Checkpoint:
    """Built from a batch, committed once.

    ``commit`` raises where anything is in doubt: the messages may or may not be there. The producer must
    then be stopped, not used again, and the committed offset read after the next fence.
    """

    def __init__(
        self,
        group_id: str,
        partition: TopicPartition,
        next_offset: int,
        *,
        events: Sequence[Message] = (),
        scores: Sequence[Message] = (),
        dead_letters: Sequence[Message] = (),
        journal: Sequence[Message] = (),
    ) -> None:
        self._group_id = group_id
        self._partition = partition
        self._next_offset = next_offset
        self._outputs = (events, scores, dead_letters, journal)

    async def commit(self, producer: Transactions, timeout_s: float) -> None:
        """Run the steps; ``timeout_s`` is one budget for all.

        With a budget above the transaction's own timeout the broker would have aborted it already.
        """
        async with asyncio.timeout(timeout_s):
            # 1. Begin.
            await producer.begin()
            try:
                # 2. Hand over anomalies, scores, dead letters, journal; they travel during step 3.
                for messages in self._outputs:
                    if messages:
                        await producer.send(messages)
                # 3. The offset, in the same transaction.
                await producer.send_offset(self._group_id, self._partition, self._next_offset)
                # 4. All delivered? aiokafka would commit without a message that failed.
                await producer.flush()
            except BaseException:
                await _abort(producer)
                raise
            # 5. Commit. From here an error leaves it open whether the transaction took place.
            await producer.commit()


async def _abort(producer: Transactions) -> None:
    with contextlib.suppress(KafkaError, TimeoutError, AssertionError):  # a fatal state cannot abort
        async with asyncio.timeout(ABORT_TIMEOUT_S):
            await producer.abort()
