"""What the worker says about every sample: the records of `tocsin.scores`."""

from __future__ import annotations

import enum

import msgspec


class SampleState(enum.IntEnum):
    """What became of a sample in the engine."""

    SCORED = 0
    WARMING_UP = 1  # learned, but the detectors are not ready to judge
    GAP = 2  # NaN: counted, neither learned nor scored
    LATE = 3  # older than the newest sample of its series: scored, not learned
    DUPLICATE = 4  # same series and time as an earlier sample: ignored, the first one wins


class ScoreBatch(msgspec.Struct, frozen=True):
    """The scores of many samples as columns: MessagePack, as `schemas.sample.ColumnBatch`.

    ``score``, ``level``, ``expected``, ``lower`` and ``upper`` are little-endian float32 (NaN where there is
    none), ``state`` uint8 (`SampleState`), ``alert`` uint8 (1 while an anomaly is open on the series).
    Score 1.0 is the alert threshold. A batch may be empty: then a header alone counts, which says how far the
    input was read.
    """

    series: msgspec.Raw  # list[str]
    index: bytes
    ts_ms: bytes
    value: bytes
    score: bytes
    level: bytes
    expected: bytes
    lower: bytes
    upper: bytes
    state: bytes
    alert: bytes
    v: int = 1
