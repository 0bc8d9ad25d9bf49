"""Kafka clients, made from the configuration: the only module that imports aiokafka.

Other modules take from here the clients, the few types that travel with them (`TopicPartition`, `Record`) and
the errors they may meet (`KafkaError`, `ProducerFenced`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import aiokafka
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced, for_code

from schemas import config

__all__ = [
    "Admin",
    "KafkaConnectionError",
    "KafkaError",
    "Message",
    "ProducerFenced",
    "Record",
    "TopicPartition",
    "TransactionalProducer",
    "WorkerConsumer",
    "consumer",
    "producer",
    "quiet",
    "subscribe",
]

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_MS: Final = 20_000
"""One request to a broker. Shorter than a broker's restart breaks transactions that would have survived it;
longer than the session timeout keeps a partition waiting for a dead broker."""

CONNECT_TIMEOUT_S: Final = 30.0
"""Connecting and, for a transactional producer, fencing: the broker first ends the previous owner's open
transaction. Too short and a slow coordinator (just restarted) is taken for a failure, and retried."""

STOP_TIMEOUT_S: Final = 5.0
"""Closing a client whose broker may be gone. What is not flushed by then is aborted by the broker, or by the
next fence, so a shorter time costs nothing but a log line; a longer one delays recovery."""

FETCH_WAIT_MS: Final = 50
"""A fetch without data ends after this long. A partition that had unread messages when it began joins the
next one, so this is added to its delay; a shorter time makes an idle worker ask more often."""

PREFETCH_BACKOFF_S: Final = 0.01
"""How long messages that a busy partition has not taken yet hold back the fetch of the others. aiokafka's
100 ms would add that to the delay of every partition; none at all would fetch them one by one."""

RETRY_BACKOFF_MS: Final = 20
"""A transaction that begins while the last one completes is refused and tried again after this long; the
default of 100 ms puts 137 ms into the p99 of every transaction."""

COMPRESSION: Final = "snappy"
"""aiokafka compresses lz4 at level 9, in the event loop: 110 MB/s, to 65 % of a batch of scores, and more than
half of a worker's CPU. Snappy takes it to 67 % at 3.7 GB/s, zstd to 55 % at 0.7 GB/s."""

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""Largest message that our producers agree to send: a dead letter carries a whole input message."""

BATCH_BYTES: Final = 1_000_000
"""Largest record batch that is filled with further messages: just below a broker's default limit."""


class TopicPartition(NamedTuple):
    """Equal to, and hashed as, aiokafka's own."""

    topic: str
    partition: int


class Record(Protocol):
    """A message as a consumer gives it; ``timestamp`` is Kafka's, in milliseconds."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Message(NamedTuple):
    """A message to send; without a ``partition`` the key chooses it."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def quiet() -> None:
    """Drop aiokafka's warnings of retries that are the ordinary course of transactions.

    A broker that still completes the last transaction answers a produce request of the next one with
    NotEnoughReplicas, and the request is sent again: several times a second under load.
    """
    logging.getLogger("aiokafka.producer.sender").addFilter(
        lambda record: "NotEnoughReplicasError" not in record.getMessage()
    )


def consumer(kafka: config.Kafka, *topics: str, group_id: str | None = None, **options: Any) -> Any:
    """An unstarted ``AIOKafkaConsumer`` that reads committed messages only and commits nothing by itself.

    ``options`` are aiokafka's, and win. `stream.worker` uses `WorkerConsumer`.
    """
    defaults: dict[str, Any] = {
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    return aiokafka.AIOKafkaConsumer(
        *topics, group_id=group_id, **connection(kafka), **{**defaults, **options}
    )


def producer(kafka: config.Kafka, **options: Any) -> Any:
    """An unstarted idempotent ``AIOKafkaProducer``; ``options`` are aiokafka's, and win."""
    defaults: dict[str, Any] = {
        "enable_idempotence": True,
        "compression_type": COMPRESSION,
        "max_request_size": MAX_REQUEST_BYTES,
        "max_batch_size": 256 * 1024,
        "linger_ms": 5,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    return aiokafka.AIOKafkaProducer(**connection(kafka), **{**defaults, **options})


def connection(kafka: config.Kafka) -> dict[str, Any]:
    """Options of every aiokafka client: address, name and security."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    return options


def _ssl_context(kafka: config.Kafka) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=kafka.ssl_cafile or None)
    if kafka.ssl_certfile:
        context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile or None)
    return context


class Rebalance(Protocol):
    """What a worker does when its partitions change."""

    async def revoked(self, partitions: Iterable[TopicPartition], *, lost: bool) -> None:
        """Give the partitions up; ``lost`` says that others may own them already."""

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Take the partitions; they are paused."""


class WorkerConsumer:
    """The consumer of a worker: partitions arrive paused, and each is fetched by its own task.

    A partition's task calls `seek`, `resume`, and then `fetch` of its own partition alone, so that no batch
    can cross a seek. Offsets are committed by the transactional producers, never here.
    """

    def __init__(self, kafka: config.Kafka, worker: config.Worker, rebalance: Rebalance) -> None:
        self._rebalance = rebalance
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
        offset: int | None = await self._client.committed(aiokafka.TopicPartition(*partition))
        return offset

    async def position(self, partition: TopicPartition) -> int:
        """The next offset to fetch; beyond it lie no messages that have been fetched."""
        offset: int = await self._client.position(aiokafka.TopicPartition(*partition))
        return offset

    def check(self) -> None:
        """Raise what keeps this consumer from ever working, such as a missing authorization."""
        self._client._coordinator.check_errors()  # noqa: SLF001  # aiokafka checks it in getmany only

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The first offset that is still there, and the one that comes after the newest."""
        key = aiokafka.TopicPartition(*partition)
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
        await self._rebalance.revoked([TopicPartition(*p) for p in partitions], lost=lost)

    async def on_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        mine = [TopicPartition(*p) for p in partitions]
        for partition in mine:
            self.pause(partition)
        await self._rebalance.assigned(mine)


class _Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    def __init__(self, owner: WorkerConsumer) -> None:
        self._owner = owner

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._owner.on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._owner.on_assigned(assigned)


def subscribe(client: Any, topics: Sequence[str], on_revoked: Callable[[], Awaitable[None]]) -> None:
    """Subscribe an unstarted `consumer`; the group waits for ``on_revoked`` before partitions move, also at
    the first join. Afterwards every position is the committed one again.
    """
    client.subscribe(topics=list(topics), listener=_Revoked(on_revoked))


class _Revoked(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # as above
    def __init__(self, on_revoked: Callable[[], Awaitable[None]]) -> None:
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        await self._on_revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None: ...


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
