"""The process that scores: batches, what is let in, where its state is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from schemas.config.base import Ms, Name, Positive, Section, Text


class Worker(Section, frozen=True):
    """The process that scores."""

    group_id: Annotated[Name, Meta(description="Consumer group; also the prefix of transactional ids.")] = (
        "tocsin-worker"
    )
    batch_interval_ms: Annotated[
        Ms,
        Meta(
            description="A partition commits about this often; smaller is sooner, larger is cheaper. With "
            "more than a dozen partitions a worker takes 4 ms for each."
        ),
    ] = 50
    max_batch_messages: Annotated[Positive, Meta(description="Most messages in one transaction.")] = 5000
    max_batch_samples: Annotated[
        Positive,
        Meta(description="A batch is scored in slices of about 250 ms, at most of this size."),
    ] = 200_000
    fetch_max_bytes: Annotated[Positive, Meta(description="Most bytes of one fetch of one partition.")] = (
        4 * 1024 * 1024
    )
    delivery: Annotated[
        Literal["exactly_once", "at_least_once"],
        Meta(
            description="at_least_once sends without transactions: sooner, and after a crash some messages "
            "come twice, with the same event ids."
        ),
    ] = "exactly_once"
    transaction_timeout_ms: Annotated[
        Ms, Meta(description="The broker aborts a transaction older than this: above any pause of a worker.")
    ] = 60_000
    session_timeout_ms: Annotated[
        Ms,
        Meta(
            description="A worker silent for this long loses its partitions. Shorter recovers sooner from a "
            "crash; brokers refuse less than 6000 (`group.min.session.timeout.ms`)."
        ),
    ] = 6_000
    rebalance_timeout_ms: Annotated[
        Ms, Meta(description="Time to finish the open batch when partitions move.")
    ] = 30_000
    start_from: Annotated[
        Literal["earliest", "latest"], Meta(description="Where a group without committed offsets begins.")
    ] = "earliest"
    relearn_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="With another configuration, or when its history is gone, a partition learns from "
            "this many messages before its committed offset. (A crash repeats all that the snapshot lacks.)",
        ),
    ] = 20_000
    emit_scores: Annotated[
        Literal["all", "alerts", "none"],
        Meta(description="Which samples go to the scores topic, and so to ClickHouse."),
    ] = "all"


class Admission(Section, frozen=True):
    """What is let into the engine (see docs/architecture.md)."""

    max_future_ms: Annotated[
        Ms, Meta(description="A sample further ahead of Kafka's timestamp than this is a dead letter.")
    ] = 600_000
    allowed_lateness_ms: Annotated[
        Ms, Meta(description="Hold samples this long in event time to put them in order; 0 holds nothing.")
    ] = 0
    max_series_per_partition: Annotated[
        Positive, Meta(description="Beyond it the least recently seen series is forgotten.")
    ] = 100_000
    max_series_per_metric: Annotated[Positive, Meta(description="The same, for one metric name.")] = 100_000
    max_message_bytes: Positive = 8 * 1024 * 1024
    breaker_ratio: Annotated[
        float,
        Meta(
            gt=0, le=1, description="A partition pauses when more of its messages than this are dead letters."
        ),
    ] = 0.05
    breaker_window_ms: Annotated[Ms, Meta(description="The time over which that share is taken.")] = 60_000


class Snapshots(Section, frozen=True):
    """Where the state of partitions is kept."""

    url: Annotated[Text, Meta(description="An fsspec URL: a folder or an object store.")] = (
        ".tocsin/snapshots"
    )
    every_ms: Annotated[
        Ms,
        Meta(description="Each partition writes one this often: what a crash has to repeat. 0 writes none."),
    ] = 60_000
