"""Where the state of a partition is kept between the lives of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from stream.kafka import TopicPartition


class Snapshot(NamedTuple):
    """State of a partition after every message below ``next_offset``."""

    next_offset: int
    state: Mapping[str, NDArray[Any]]


class SnapshotStore(Protocol):
    """Keeps the newest snapshots of each partition."""

    async def load(self, partition: TopicPartition, at_most: int) -> Snapshot | None:
        """The newest sound snapshot whose ``next_offset`` is at most that, or None."""

    async def save(self, partition: TopicPartition, snapshot: Snapshot) -> None:
        """Keep a snapshot; its arrays are the store's from now on."""


class NoSnapshots:
    """Keeps nothing: a partition relearns from the messages before its committed offset."""

    async def load(self, partition: TopicPartition, at_most: int) -> Snapshot | None:  # noqa: ARG002
        return None

    async def save(self, partition: TopicPartition, snapshot: Snapshot) -> None:
        pass
