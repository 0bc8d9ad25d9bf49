"""Kafka, and the topics on it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from schemas.config.base import Name, Positive, Section, Text


class Kafka(Section, frozen=True):
    """How to reach Kafka."""

    bootstrap_servers: Annotated[Text, Meta(description="Comma-separated host:port.")] = "127.0.0.1:9092"
    client_id: Annotated[Name, Meta(description="Name shown in the broker's logs and quotas.")] = "tocsin"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str = ""
    sasl_password: Annotated[str, Meta(description="Use ${ENV} or sasl_password_file.")] = ""
    ssl_cafile: Annotated[str, Meta(description="CA certificates (PEM); the system's when empty.")] = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""


class Topic(Section, frozen=True):
    """A topic that `tocsin topics create` makes when it is missing."""

    name: Name
    partitions: Positive = 8
    retention_ms: Annotated[int, Meta(ge=-1, description="-1 keeps for ever.")] = 7 * 86_400_000
    compacted: bool = False


class Input(Section, frozen=True):
    """A topic with telemetry and the format of its messages."""

    topic: Name = "telemetry"
    format: Annotated[Text, Meta(description="Name of an entry point in the group tocsin.formats.")] = "auto"
    options: Annotated[dict[str, Any], Meta(description="Options of the format.")] = {}
    partitions: Annotated[Positive, Meta(description="Used when tocsin creates the topic.")] = 64


class Topics(Section, frozen=True):
    """Names of the topics that Tocsin writes."""

    anomalies: Topic = Topic(name="tocsin.anomalies", partitions=8, retention_ms=30 * 86_400_000)
    scores: Topic = Topic(name="tocsin.scores", partitions=8, retention_ms=86_400_000)
    deadletters: Topic = Topic(name="tocsin.deadletters", partitions=1, retention_ms=14 * 86_400_000)
    journal: Annotated[
        Topic,
        Meta(description="Its retention must outlast that of the inputs; it grows with their partitions."),
    ] = Topic(name="tocsin.journal", partitions=64, retention_ms=-1)
    artifacts: Annotated[
        Topic, Meta(description="Fitted models; the newest of each series and detector is kept.")
    ] = Topic(name="tocsin.artifacts", partitions=8, retention_ms=-1, compacted=True)
    requests: Annotated[Topic, Meta(description="Work for trainers.")] = Topic(
        name="tocsin.requests", partitions=16
    )
    replies: Annotated[Topic, Meta(description="What models have found for the console.")] = Topic(
        name="tocsin.replies", partitions=4, retention_ms=3_600_000
    )
    results: Annotated[Topic, Meta(description="What became of the requests.")] = Topic(
        name="tocsin.results", partitions=4
    )
    incidents: Annotated[
        Topic, Meta(description="The newest revision of each incident of the last days.")
    ] = Topic(name="tocsin.incidents", partitions=1, retention_ms=-1, compacted=True)
    control: Annotated[Topic, Meta(description="Commands: mutes, labels, refreshes.")] = Topic(
        name="tocsin.control", partitions=1, retention_ms=-1, compacted=True
    )
    changes: Annotated[Topic, Meta(description="What others write: deployments and other changes.")] = Topic(
        name="tocsin.changes", partitions=1, retention_ms=30 * 86_400_000
    )
    replication_factor: Annotated[int, Meta(ge=1, le=16, description="Of topics that tocsin creates.")] = 1
