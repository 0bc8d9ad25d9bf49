"""When a partition's state is copied and written: at a commit boundary, staggered, one write at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final

import structlog
import xxhash

from detectors.buffer import Buffer
from stream.kafka import TopicPartition
from stream.worker.report import PartitionReport
from stream.worker.snapshot_file import Fault, Snapshot
from stream.worker.snapshots import SnapshotStore

log = structlog.get_logger(__name__)

RETRY_S: Final = 10.0
"""After a commit that failed with a copy in hand. Shorter copies for nothing while a broker is away; longer
adds to what a crash has to replay."""

BUSY_S: Final = 1.0
"""While another partition writes. Longer leaves the store idle where many partitions share a worker."""

HEADROOM: Final = 1.25
"""Of the memory for copies over what is needed now; less, and every few new series it is made anew."""

SMALL_BYTES: Final = 8_000_000
"""A copy of this size is made into fresh memory, in 8 ms or so; larger ones wait for room to be made."""


class Saver:
    """Writes the snapshots of a worker, one at a time, from one `Buffer` that holds a partition's state."""

    def __init__(self, store: SnapshotStore, every_s: float) -> None:
        self.store = store
        self.every_s = every_s
        self.free = True
        self.buffer = Buffer()
        self._working: set[asyncio.Task[None]] = set()

    def start(self, snapshot: Snapshot, report: PartitionReport) -> None:
        """Write in the background; the caller took the turn by setting ``free`` to False."""
        self._in_background(self._write(snapshot, report))

    def has_room(self, size_bytes: int) -> bool:
        """Whether a copy of this size is made at the speed of memory, for whoever has taken the turn.

        If not, the room is made in the background, and the turn is given back when it is there.
        """
        if size_bytes <= max(self.buffer.size, SMALL_BYTES):
            return True
        self._in_background(self._grow(int(size_bytes * HEADROOM)))
        return False

    async def stop(self, timeout_s: float) -> None:
        """Wait a while for the write at hand; one that is cut off leaves nothing that a reader would take."""
        if self._working:
            await asyncio.wait(self._working, timeout=timeout_s)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _grow(self, size_bytes: int) -> None:
        try:
            await asyncio.to_thread(self.buffer.reserve, size_bytes)
        finally:
            self.free = True

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

    def wait(self, now_s: float) -> None:
        """There is no room for a copy yet: try again soon."""
        self._due_s = now_s + BUSY_S

    def give_back(self, now_s: float) -> None:
        """The copy came to nothing: its commit failed."""
        self._saver.free = True
        self._due_s = now_s + min(RETRY_S, self._saver.every_s)
