"""Members of a consumer group: the worker's consumer, and a subscription for others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import aiokafka
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from schemas import config
from stream.kafka.clients import (
    CONNECT_TIMEOUT_S,
    RETRY_BACKOFF_MS,
    STOP_TIMEOUT_S,
    End,
    Record,
    TopicPartition,
    consumer,
)

FETCH_WAIT_MS: Final = 50
"""A fetch without data ends after this long. A partition that had unread messages when it began joins the
next one, so this is added to its delay; a shorter time makes an idle worker ask more often."""

PREFETCH_BACKOFF_S: Final = 0.01
"""How long messages that a busy partition has not taken yet hold back the fetch of the others. aiokafka's
100 ms would add that to the delay of every partition; none at all would fetch them one by one."""


class Rebalance(Protocol):
    """What a worker does when its partitions change."""

    async def revoked(self, partitions: Iterable[TopicPartition], *, lost: bool) -> None:
        """Give the partitions up; ``lost`` says that others may own them already."""

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Take the partitions; they are paused."""


OFFSETS_TIMEOUT_S: Final = 15.0
"""For asking where a partition stands; aiokafka itself asks for ever. Shorter than a broker's restart makes
partitions begin their recovery anew in the middle of it."""


class WorkerConsumer:
    """The consumer of a worker: partitions arrive paused, and each is fetched by its own task.

    A partition's task calls `seek`, `resume`, and then `fetch` of its own partition alone, so that no batch
    can cross a seek. Offsets are committed by the transactional producers, never here.
    """

    def __init__(self, kafka: config.Kafka, worker: config.Worker, rebalance: Rebalance) -> None:
        self._rebalance = rebalance
        self._failed: Exception | None = None
        self._client = consumer(
            kafka,
            group_id=worker.group_id,
            session_timeout_ms=worker.session_timeout_ms,
            heartbeat_interval_ms=max(1, worker.session_timeout_ms // 10),
            rebalance_timeout_ms=worker.rebalance_timeout_ms,
            auto_offset_reset=worker.start_from,
            max_partition_fetch_bytes=worker.fetch_max_bytes,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            partition_assignment_strategy=(StickyPartitionAssignor,),
            check_crcs=False,  # TCP has checked them; 4 % of the CPU of a worker
        )

    async def start(self, topics: Sequence[str]) -> None:
        self._client.subscribe(topics=list(topics), listener=_Listener(self))
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._client.start()
        self._client._fetcher._prefetch_backoff = PREFETCH_BACKOFF_S  # noqa: SLF001  # no option sets it

    async def stop(self) -> None:
        """Leave the group, so that others need not wait for the session to time out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._client.stop()

    async def fetch(self, partition: TopicPartition, timeout_ms: int, max_records: int) -> list[Record]:
        """Messages of one partition, possibly none.

        While the group rebalances this waits for its end, whatever the timeout; cancel it to stop.
        """
        batches = await self._client.getmany(
            aiokafka.TopicPartition(*partition), timeout_ms=timeout_ms, max_records=max_records
        )
        for records in batches.values():
            return list(records)
        return []

    def pause(self, partition: TopicPartition) -> None:
        if self._is_mine(partition):
            self._client.pause(aiokafka.TopicPartition(*partition))

    def resume(self, partition: TopicPartition) -> None:
        self._client.resume(aiokafka.TopicPartition(*partition))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._client.seek(aiokafka.TopicPartition(*partition), offset)

    async def committed(self, partition: TopicPartition) -> int | None:
        async with asyncio.timeout(OFFSETS_TIMEOUT_S):
            offset: int | None = await self._client.committed(aiokafka.TopicPartition(*partition))
        return offset

    async def commit(self, partition: TopicPartition, next_offset: int) -> None:
        """For at-least-once delivery; refused when the group has given the partition to another."""
        await self._client.commit({aiokafka.TopicPartition(*partition): next_offset})

    def end_of(self, partition: TopicPartition, floor: int) -> End:
        return End(self._client, partition, floor)

    async def position(self, partition: TopicPartition) -> int:
        """The next offset to fetch; beyond it lie no messages that have been fetched."""
        async with asyncio.timeout(OFFSETS_TIMEOUT_S):
            offset: int = await self._client.position(aiokafka.TopicPartition(*partition))
        return offset

    def check(self) -> None:
        """Raise what keeps this consumer from ever working, such as a missing authorization."""
        if self._failed is not None:
            raise self._failed
        metadata = self._client._client._sync_task  # noqa: SLF001  # aiokafka does not look whether it lives
        if metadata is not None and metadata.done():
            raise KafkaError("the task that keeps the metadata of the consumer has ended") from (
                None if metadata.cancelled() else metadata.exception()
            )
        self._client._coordinator.check_errors()  # noqa: SLF001  # aiokafka checks it in getmany only

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The first offset that is still there, and the one that comes after the newest."""
        key = aiokafka.TopicPartition(*partition)
        async with asyncio.timeout(OFFSETS_TIMEOUT_S):
            first = await self._client.beginning_offsets([key])
            last = await self._client.end_offsets([key])
        return first[key], last[key]

    def end(self, partition: TopicPartition) -> int | None:
        """The offset after the newest message, as of the last fetch."""
        if not self._is_mine(partition):
            return None
        end: int | None = self._client.highwater(aiokafka.TopicPartition(*partition))
        return end

    def _is_mine(self, partition: TopicPartition) -> bool:
        return partition in self._client.assignment()

    async def on_revoked(self, partitions: Iterable[TopicPartition]) -> None:
        # aiokafka tells of a lost membership as of a revocation; the generation tells them apart.
        coordinator = self._client._coordinator  # noqa: SLF001
        lost = coordinator is not None and coordinator.generation < 0
        with self._fatal():
            await self._rebalance.revoked([TopicPartition(*p) for p in partitions], lost=lost)

    async def on_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        mine = [TopicPartition(*p) for p in partitions]
        with self._fatal():
            for partition in mine:
                self.pause(partition)
            await self._rebalance.assigned(mine)

    @contextlib.contextmanager
    def _fatal(self) -> Iterator[None]:
        """Where a listener raises, aiokafka logs it and goes on, with partitions that nobody works on:
        `check` ends the worker instead, and the group gives them to another.
        """
        try:
            yield
        except Exception as error:
            self._failed = error
            raise


class _Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    def __init__(self, owner: WorkerConsumer) -> None:
        self._owner = owner

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._owner.on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._owner.on_assigned(assigned)


def subscribe(
    client: Any,
    topics: Sequence[str],
    on_revoked: Callable[[], Awaitable[None]],
    on_assigned: Callable[[], None] = lambda: None,
) -> None:
    """Subscribe an unstarted `consumer`; the group waits for ``on_revoked`` before partitions move, also at
    the first join. Afterwards every position is the committed one again, and ``on_assigned`` is called.
    """
    client.subscribe(topics=list(topics), listener=_Moves(on_revoked, on_assigned))


class _Moves(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # as above
    def __init__(self, on_revoked: Callable[[], Awaitable[None]], on_assigned: Callable[[], None]) -> None:
        self._on_revoked, self._on_assigned = on_revoked, on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        await self._on_revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self._on_assigned()
