"""The bytes of a snapshot: a header and raw arrays under one checksum. No I/O, no pickle.

Layout: `MAGIC`, SHA-256 of all that follows (32 bytes), length of the header (4 bytes, little-endian), the
header as JSON, then the arrays one after another at the offsets that the header names. The checksum covers
the header too: a flipped bit in ``next_offset`` would otherwise restore a sound state at a wrong place.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"TOCSINS1"
FORMAT: Final = 2
"""Of header and body; a snapshot of another number is skipped, and its partition replays."""

_DIGEST = slice(len(MAGIC), len(MAGIC) + 32)
_PREFIX = len(MAGIC) + 32 + 4


class Fault(enum.StrEnum):
    """Why a snapshot was not used, or not written; the ``reason`` label of the metric."""

    UNREADABLE = "unreadable"  # the store did not give it
    FOREIGN = "foreign"  # not a snapshot, of another partition, or with state that the engine refuses
    OTHER_FORMAT = "other_format"
    OTHER_CONFIG = "other_config"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    NOT_WRITTEN = "not_written"


class SnapshotError(Exception):
    """A snapshot that cannot be used."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class Place(msgspec.Struct, frozen=True):
    """Where an array lies in the body."""

    name: str
    dtype: Any  # as in the NPY format
    shape: list[int]
    offset: int
    size: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself.

    ``lineage`` and ``learned_from`` are those of `schemas.journal.Began`; ``artifacts`` names the fitted
    models that the state uses.
    """

    format: int = FORMAT
    topic: str
    partition: int
    next_offset: int
    config_hash: str
    lineage: str
    learned_from: int
    artifacts: list[str] = []
    body_bytes: int = 0
    arrays: list[Place] = []


class Snapshot(NamedTuple):
    """State of a partition after every message below ``header.next_offset``."""

    header: Header
    state: Mapping[str, NDArray[Any]]


def encode(snapshot: Snapshot) -> list[bytes | memoryview]:
    """The file in pieces, to be written in order; arrays are not copied. About 0.6 s a GB (the checksum)."""
    places, body, offset = [], list[memoryview](), 0
    for name, array in snapshot.state.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects: a snapshot is arrays of numbers")
        flat = np.ascontiguousarray(array)
        view = flat.reshape(-1).view(np.uint8).data if flat.nbytes else memoryview(b"")
        dtype = np.lib.format.dtype_to_descr(array.dtype)
        places.append(Place(name, dtype, list(array.shape), offset, flat.nbytes))
        body.append(view)
        offset += flat.nbytes
    head = msgspec.json.encode(msgspec.structs.replace(snapshot.header, body_bytes=offset, arrays=places))
    length = len(head).to_bytes(4, "little")
    digest = hashlib.sha256(length + head)
    for view in body:
        digest.update(view)
    return [MAGIC, digest.digest(), length, head, *body]


def decode(data: bytes | bytearray) -> Snapshot:
    """Read a file; the arrays are views of ``data``. Raises `SnapshotError`, and for nothing else."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        if data[: len(MAGIC) - 1] == MAGIC[:-1]:
            raise SnapshotError(Fault.OTHER_FORMAT, f"begins with {bytes(data[: len(MAGIC)])!r}")
        raise SnapshotError(Fault.FOREIGN, "does not begin as a snapshot does")
    if len(data) < _PREFIX:
        raise SnapshotError(Fault.TRUNCATED, f"ends after {len(data)} bytes")
    start = _PREFIX + int.from_bytes(data[_PREFIX - 4 : _PREFIX], "little")
    try:
        header = msgspec.json.decode(memoryview(data)[_PREFIX:start], type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = Fault.TRUNCATED if start > len(data) else Fault.CORRUPT
        raise SnapshotError(fault, f"header: {error}") from None
    if len(data) < start + header.body_bytes:
        raise SnapshotError(Fault.TRUNCATED, f"has {len(data) - start} of {header.body_bytes} bytes of state")
    if hashlib.sha256(memoryview(data)[_PREFIX - 4 :]).digest() != data[_DIGEST]:
        raise SnapshotError(Fault.CORRUPT, "the checksum does not match")
    if header.format != FORMAT:
        raise SnapshotError(Fault.OTHER_FORMAT, f"is of format {header.format}, this version reads {FORMAT}")
    return Snapshot(header, {place.name: _array(data, start, place) for place in header.arrays})


def _array(data: bytes | bytearray, start: int, place: Place) -> NDArray[Any]:
    descr = place.dtype if isinstance(place.dtype, str) else [_field(field) for field in place.dtype]
    dtype = np.lib.format.descr_to_dtype(cast("Any", descr))
    count = place.size // dtype.itemsize if dtype.itemsize else 0
    array: NDArray[Any] = np.frombuffer(data, dtype, count, start + place.offset)
    return array.reshape(place.shape)


def _field(field: list[Any]) -> tuple[Any, ...]:
    """A field of records, which JSON turned from a tuple into a list."""
    name, dtype, *shape = field
    inner = dtype if isinstance(dtype, str) else [_field(each) for each in dtype]
    return (name, inner, *(tuple(each) for each in shape))
