"""Where the state of partitions is kept between the lives of workers: a folder or an object store.

One object for each snapshot, ``TOPIC/PARTITION/NEXT_OFFSET-LINEAGE.snapshot``, that carries its own checksum:
there is no second object that could be lost or be older. Blocking; call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import fsspec

from stream.kafka import TopicPartition
from stream.worker.snapshot_file import Fault, Header, Snapshot, SnapshotError, decode, encode

KEPT: Final = 2
"""Snapshots of each partition: the newest, and the one before it should that one be damaged."""

_SUFFIX: Final = ".snapshot"
_TEMPORARY: Final = ".writing"


class Found(NamedTuple):
    """A snapshot by its name."""

    path: str
    next_offset: int
    lineage: str


class SnapshotStore:
    """Snapshots under one fsspec URL. Any error of the store is raised as it comes, mostly ``OSError``."""

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = root.rstrip("/")
        self._local = "file" in _protocols(self._fs)

    def find(self, partition: TopicPartition) -> list[Found]:
        """What there is of a partition, newest first; names alone are read."""
        folder = self._folder(partition)
        self._fs.invalidate_cache(folder)  # another worker may have written since
        try:
            paths: Sequence[str] = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        found = [_parsed(path) for path in paths if path.endswith(_SUFFIX)]
        return sorted((f for f in found if f is not None), key=lambda f: f.next_offset, reverse=True)

    def read(self, partition: TopicPartition, found: Found, config_hash: str) -> Snapshot:
        """A snapshot that is sound and belongs here; raises `SnapshotError`."""
        try:
            data = bytearray(self._fs.size(found.path))
            with self._fs.open(found.path, "rb") as file:
                del data[file.readinto(data) :]  # one copy: fresh memory is what takes the time
        except OSError as error:
            raise SnapshotError(Fault.UNREADABLE, repr(error)) from error
        snapshot = decode(data)
        header = snapshot.header
        of = (header.topic, header.partition, header.next_offset, header.lineage)
        if of != (*partition, found.next_offset, found.lineage):
            raise SnapshotError(Fault.FOREIGN, f"is of {of}")
        if header.config_hash != config_hash:
            raise SnapshotError(Fault.OTHER_CONFIG, f"is of configuration {header.config_hash}")
        return snapshot

    def write(self, snapshot: Snapshot) -> int:
        """Write it so that a reader finds all of it or nothing, remove older ones; returns its bytes."""
        header = snapshot.header
        partition = TopicPartition(header.topic, header.partition)
        pieces = encode(snapshot)
        path = f"{self._folder(partition)}/{header.next_offset:020d}-{header.lineage}{_SUFFIX}"
        if self._local:
            self._write_local(path, pieces)
        else:
            with self._fs.open(path, "wb") as file:  # an object appears when it is complete
                for piece in pieces:
                    file.write(piece)
        self._prune(partition, header)
        return sum(len(piece) for piece in pieces)

    def _write_local(self, path: str, pieces: Sequence[bytes | memoryview]) -> None:
        self._fs.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH120  # an fsspec path is a text
        temporary = f"{path}.{uuid.uuid4().hex[:8]}{_TEMPORARY}"
        try:
            with self._fs.open(temporary, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105  # as above
        except BaseException:
            with contextlib.suppress(OSError):
                self._fs.rm_file(temporary)
            raise

    def _prune(self, partition: TopicPartition, header: Header) -> None:
        """Keep the newest of this lineage, and those beyond, which an offset that was set back will reach;
        those of another lineage can never be used again.
        """
        found = self.find(partition)
        mine = [f for f in found if f.lineage == header.lineage and f.next_offset <= header.next_offset]
        old = [*mine[KEPT:], *(f for f in found if f.lineage != header.lineage)]
        for each in old:
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                self._fs.rm_file(each.path)

    def _folder(self, partition: TopicPartition) -> str:
        return f"{self._root}/{partition.topic}/{partition.partition}"


def _parsed(path: str) -> Found | None:
    name = path.rsplit("/", 1)[-1].removesuffix(_SUFFIX)
    offset, _, lineage = name.partition("-")
    return Found(path, int(offset), lineage) if offset.isdecimal() and lineage else None


def _protocols(fs: Any) -> Sequence[str]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
