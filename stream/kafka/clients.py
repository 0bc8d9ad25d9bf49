"""Unstarted aiokafka clients, made from the configuration, and the types that travel with them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import aiokafka
from aiokafka.errors import KafkaError

from schemas import config
from stream.addresses import brokers

REQUEST_TIMEOUT_MS: Final = 20_000
"""One request to a broker. Shorter than a broker's restart breaks transactions that would have survived it;
longer than the session timeout keeps a partition waiting for a dead broker."""

CONNECT_TIMEOUT_S: Final = 30.0
"""Connecting and, for a transactional producer, fencing: the broker first ends the previous owner's open
transaction. Too short and a slow coordinator (just restarted) is taken for a failure, and retried."""

STOP_TIMEOUT_S: Final = 5.0
"""Closing a client whose broker may be gone. What is not flushed by then is aborted by the broker, or by the
next fence, so a shorter time costs nothing but a log line; a longer one delays recovery."""

RETRY_BACKOFF_MS: Final = 20
"""A transaction that begins while the last one completes is refused and tried again after this long; the
default of 100 ms puts 137 ms into the p99 of every transaction."""

COMPRESSION: Final = "snappy"
"""aiokafka compresses lz4 at level 9, in the event loop: 110 MB/s, to 65 % of a batch of scores, and more
than half of a worker's CPU. Snappy takes it to 67 % at 3.7 GB/s, zstd to 55 % at 0.7 GB/s."""

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""Largest message that our producers agree to send: a dead letter carries a whole input message."""


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
    """A message to send; without a ``partition`` the key chooses it, without a value the key is deleted."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class End:
    """Tells when a reader of committed messages has seen all that there is.

    The position does not tell: it stays before markers and aborted messages at the end of a partition. Two
    answers of the broker that gave nothing, while no transaction is open, do. (One may have been on its way
    when the reader moved.)

    A broker that has just been restarted may answer a fetch as if the partition were shorter than it is, but
    not when it is asked for its end: ``floor`` is that answer.
    """

    def __init__(self, client: Any, partition: TopicPartition, floor: int) -> None:
        self._client = client
        self._partition = aiokafka.TopicPartition(*partition)
        self._floor = floor
        self._newest = self._polled()
        self._empty = 0

    def reached(self, *, got: bool) -> bool:
        """Ask after each fetch; ``got`` says that it gave messages."""
        polled = self._polled()
        if got:
            self._empty = 0
        elif polled > self._newest:
            self._empty += 1
        self._newest = polled
        stable = self._client.last_stable_offset(self._partition)
        end = self._client.highwater(self._partition)
        return self._empty > 2 and stable is not None and end is not None and stable >= end >= self._floor

    def _polled(self) -> int:
        return self._client.last_poll_timestamp(self._partition) or 0


async def stop(*clients: Any) -> None:
    """Stop each within `STOP_TIMEOUT_S`, whether or not its broker is there."""
    for client in clients:
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await client.stop()


def quiet() -> None:
    """Drop aiokafka's warnings of retries that are in the ordinary course of things.

    A broker that still completes the last transaction answers a produce request of the next one with
    NotEnoughReplicas, and the request is sent again: several times a second under load. One that starts
    makes the topic of offsets first, and has no coordinator for a group until then.
    """
    for name, error in (
        ("aiokafka.producer.sender", "NotEnoughReplicasError"),
        ("aiokafka.consumer.group_coordinator", "GroupCoordinatorNotAvailableError"),
    ):
        logging.getLogger(name).addFilter(partial(_other_than, error))


def _other_than(error: str, record: logging.LogRecord) -> bool:
    return error not in record.getMessage()


def consumer(kafka: config.Kafka, *topics: str, group_id: str | None = None, **options: Any) -> Any:
    """An unstarted ``AIOKafkaConsumer`` that reads committed messages only and commits nothing by itself.

    ``options`` are aiokafka's, and win. `stream.worker.worker` uses `WorkerConsumer`.
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
        "bootstrap_servers": brokers(kafka.bootstrap_servers),
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
