"""What producers send: one JSON point, or many samples as columns."""

from __future__ import annotations

import msgspec

from schemas.series import Series


class Point(msgspec.Struct, frozen=True):
    """One sample as a JSON message: ``{"metric", "labels", "ts", "value"}``.

    ``ts`` is Unix time in seconds (int or float), in milliseconds (a number above 1e11), or ISO 8601 text
    (UTC when it names no zone). A ``value`` of ``NaN`` is not JSON; a gap is sent as no message at all.
    Unknown fields are ignored, so producers may carry their own.
    """

    metric: str
    ts: int | float | str
    value: int | float
    labels: dict[str, str] = {}

    def series(self) -> Series:
        return Series(self.metric, self.labels)


class ColumnBatch(msgspec.Struct, frozen=True):
    """Many samples in one message: MessagePack, a map of these fields. The fast path.

    ``series`` is a dictionary of canonical texts (see `schemas.series.Series`); sample *i* belongs to
    ``series[index[i]]``. The arrays are little-endian bytes: ``index`` uint32, ``ts_ms`` int64 (Unix time,
    milliseconds, UTC), ``value`` float64 (NaN is a gap), all of one length, in order of time per series.
    """

    series: msgspec.Raw  # list[str]; raw, because a reader knows a dictionary that it has seen by its bytes
    index: bytes
    ts_ms: bytes
    value: bytes
    v: int = 1
