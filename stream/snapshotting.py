"""When a partition's state is copied and written: at a commit boundary, staggered, one write at a time."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog
import xxhash

from stream.kafka import TopicPartition
from stream.report import PartitionReport
from stream.snapshot_file import Fault, Snapshot
from stream.snapshots import SnapshotStore

log = structlog.get_logger(__name__)

RETRY_S: Final = 10.0
"""After a commit that failed with a copy in hand. Shorter copies for nothing while a broker is away; longer
adds to what a crash has to replay."""

BUSY_S: Final = 1.0
"""While another partition writes. Longer leaves the store idle where many partitions share a worker."""


class Saver:
    """Writes the snapshots of a worker, one at a time: each holds a copy of a partition's state in memory."""

    def __init__(self, store: SnapshotStore, every_s: float) -> None:
        self.store = store
        self.every_s = every_s
        self.free = True
        self._writing: set[asyncio.Task[None]] = set()

    def start(self, snapshot: Snapshot, report: PartitionReport) -> None:
        """Write in the background; the caller took the turn by setting ``free`` to False."""
        task = asyncio.create_task(self._write(snapshot, report))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def stop(self, timeout_s: float) -> None:
        """Wait a while for the write at hand; one that is cut off leaves nothing that a reader would take."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=timeout_s)

    async def _write(self, snapshot: Snapshot, report: PartitionReport) -> None:
        header, began = snapshot.header, time.monotonic()
        bound = log.bind(topic=header.topic, partition=header.partition, offset=header.next_offset)
        try:
            size_bytes = await asyncio.to_thread(self.store.write, snapshot)
        except Exception as error:  # noqa: BLE001  # a store of any make: detection goes on without it
            report.snapshot_failed(Fault.NOT_WRITTEN)
            bound.warning("snapshot not written", error=repr(error))
        else:
            report.snapshot_written(size_bytes)
            report.snapshot_step("write", time.monotonic() - began)
            bound.debug("snapshot written", bytes=size_bytes)
        finally:
            self.free = True


class Schedule:
    """The times of one partition's snapshots; the first one comes at a share of the period of its own."""

    def __init__(self, saver: Saver, partition: TopicPartition, now_s: float) -> None:
        self._saver = saver
        share = xxhash.xxh32_intdigest(f"{partition.topic}/{partition.partition}".encode()) / 2**32
        self._due_s = now_s + saver.every_s * share

    def take_turn(self, now_s: float) -> bool:
        """Whether to copy the state now; the caller then owes `Saver.start`, or `give_back`."""
        saver = self._saver
        if not saver.every_s or now_s < self._due_s:
            return False
        if not saver.free:
            self._due_s = now_s + BUSY_S
            return False
        saver.free = False
        self._due_s = now_s + saver.every_s
        return True

    def give_back(self, now_s: float) -> None:
        """The copy came to nothing: its commit failed."""
        self._saver.free = True
        self._due_s = now_s + min(RETRY_S, self._saver.every_s)
