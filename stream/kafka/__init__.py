"""Kafka clients, made from the configuration: the only package that imports aiokafka.

Other modules take from here the clients, the few types that travel with them (`TopicPartition`, `Record`) and
the errors they may meet (`KafkaError`, `ProducerFenced`).
"""

from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from stream.kafka import uvloop_connection
from stream.kafka.admin import Admin
from stream.kafka.clients import (
    STOP_TIMEOUT_S,
    End,
    Message,
    Record,
    TopicPartition,
    connection,
    consumer,
    producer,
    quiet,
    stop,
)
from stream.kafka.group import Rebalance, WorkerConsumer, subscribe
from stream.kafka.transactions import (
    BATCH_BYTES,
    IdempotentProducer,
    Producer,
    TransactionalProducer,
    settle,
)
from stream.kafka.turn import Turn

__all__ = [
    "BATCH_BYTES",
    "STOP_TIMEOUT_S",
    "Admin",
    "End",
    "IdempotentProducer",
    "KafkaConnectionError",
    "KafkaError",
    "Message",
    "Producer",
    "ProducerFenced",
    "Rebalance",
    "Record",
    "TopicPartition",
    "TransactionalProducer",
    "Turn",
    "WorkerConsumer",
    "connection",
    "consumer",
    "producer",
    "quiet",
    "settle",
    "stop",
    "subscribe",
]

uvloop_connection.install()
