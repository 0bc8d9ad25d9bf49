"""Messages of our topics as Arrow tables, one for each table of ClickHouse. Pure: no I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from schemas.event import AnomalyEvent
from schemas.series import Series
from stream.control.muting import MAX_TS_MS
from stream.store import sink_records
from stream.store.sink_records import Row

I64 = NDArray[np.int64]

MAX_DICTIONARIES: Final = 1024
"""Dictionaries of messages remembered, the least recently seen forgotten first; one of a thousand names holds
8 KB."""

SEEN_AGAIN_MS: Final = 3_600_000
"""A series is written again when it was seen this much later (event time) than ClickHouse knows. Shorter
makes last_seen fresher and the table `series` busier."""

_MS: Final = pa.timestamp("ms", "UTC")
_LABELS: Final = pa.map_(pa.string(), pa.string())

SERIES_SCHEMA: Final = pa.schema(
    [
        ("series_id", pa.uint64()),
        ("series", pa.string()),
        ("metric", pa.string()),
        ("labels", _LABELS),
        ("first_seen", _MS),
        ("last_seen", _MS),
    ]
)
ANOMALIES_SCHEMA: Final = pa.schema(
    [
        ("metric", pa.string()),
        ("series_id", pa.uint64()),
        ("started", _MS),
        ("anomaly_id", pa.string()),
        ("revision", pa.uint32()),
        ("series", pa.string()),
        ("labels", _LABELS),
        ("event_id", pa.string()),
        ("status", pa.string()),
        ("kind", pa.string()),
        ("severity", pa.string()),
        ("direction", pa.string()),
        ("score", pa.float64()),
        ("peak_score", pa.float64()),
        ("actual", pa.float64()),
        ("expected", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        ("detected", _MS),
        ("ended", _MS),
        ("samples", pa.uint32()),
        (
            "detectors",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("version", pa.uint32()),
                        ("score", pa.float64()),
                        ("artifact", pa.string()),
                    ]
                )
            ),
        ),
        ("reason", pa.string()),
        ("muted_by", pa.string()),
        ("contributions", pa.map_(pa.string(), pa.float64())),
    ]
)


class UnreadableError(Exception):
    """A message that is not what its topic promises."""


class _Wire(msgspec.Struct, gc=False):
    """`schemas.score.ScoreBatch` whose arrays are views of the message."""

    series: msgspec.Raw
    index: memoryview
    ts_ms: memoryview
    value: memoryview
    score: memoryview
    level: memoryview
    expected: memoryview
    lower: memoryview
    upper: memoryview
    state: memoryview
    alert: memoryview
    v: int = 1


_FLOATS: Final = ("score", "level", "expected", "lower", "upper")
_BYTES: Final = {"index": 4, "ts_ms": 8, "value": 8, **dict.fromkeys(_FLOATS, 4), "state": 1, "alert": 1}
_scores = msgspec.msgpack.Decoder(_Wire).decode
_texts = msgspec.msgpack.Decoder(list[str]).decode
_event = msgspec.json.Decoder(AnomalyEvent).decode


class SeriesBook:
    """Numbers series in the order seen and knows since when and until when ClickHouse has them.

    About 200 bytes a series beside its text.
    """

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._texts: list[str] = []
        self._ids: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._first_ms: I64 = np.zeros(0, np.int64)
        self._last_ms: I64 = np.zeros(0, np.int64)
        self._dictionaries: OrderedDict[bytes, I64] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def number(self, text: str) -> int:
        found = self._number_of.get(text)
        if found is None:
            found = self._number_of[text] = len(self._texts)
            self._texts.append(text)
        return found

    def dictionary(self, raw: msgspec.Raw) -> I64:
        """The numbers of the names of a message; a dictionary seen before costs a hash of its bytes."""
        digest = xxhash.xxh3_128_digest(raw)
        known = self._dictionaries.get(digest)
        if known is not None:
            self._dictionaries.move_to_end(digest)
            return known
        names = np.array([self.number(text) for text in _texts(raw)], np.int64)
        self._dictionaries[digest] = names
        if len(self._dictionaries) > MAX_DICTIONARIES:
            self._dictionaries.popitem(last=False)
        return names

    def ids(self, numbers: I64) -> NDArray[np.uint64]:
        self._grow()
        return self._ids[numbers]

    def due(self, numbers: I64, ts_ms: I64) -> Seen:
        """The series that ClickHouse must be told of, given that these were seen at these times."""
        self._grow()
        first = np.full(len(self), np.iinfo(np.int64).max)
        last = np.full(len(self), -1, np.int64)
        np.minimum.at(first, numbers, ts_ms)
        np.maximum.at(last, numbers, ts_ms)
        told = (last >= 0) & ((first < self._first_ms) | (last >= self._last_ms + SEEN_AGAIN_MS))
        places = np.flatnonzero(told)
        return Seen(places, first[places], last[places])

    def written(self, seen: Seen) -> None:
        self._first_ms[seen.numbers] = np.minimum(self._first_ms[seen.numbers], seen.first_ms)
        self._last_ms[seen.numbers] = np.maximum(self._last_ms[seen.numbers], seen.last_ms)

    def rows(self, seen: Seen) -> pa.Table:
        texts = [self._texts[number] for number in seen.numbers.tolist()]
        parsed = [Series.of(text) for text in texts]
        columns = [
            pa.array(self._ids[seen.numbers]),
            texts,
            [series.metric for series in parsed],
            [list(series.labels.items()) for series in parsed],
            pa.array(seen.first_ms, _MS),
            pa.array(seen.last_ms, _MS),
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SERIES_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SERIES_SCHEMA)

    def _grow(self) -> None:
        """Bring the arrays to the length of the texts; called for each batch, so in steps of many."""
        new = self._texts[len(self._ids) :]
        if new:
            ids = np.array([xxhash.xxh64_intdigest(text.encode()) for text in new], np.uint64)
            self._ids = np.concatenate([self._ids, ids])
            self._first_ms = np.concatenate([self._first_ms, np.full(len(new), np.iinfo(np.int64).max)])
            self._last_ms = np.concatenate([self._last_ms, np.full(len(new), -SEEN_AGAIN_MS)])


class Seen(NamedTuple):
    """Series of a `SeriesBook` and when they were seen."""

    numbers: I64
    first_ms: I64
    last_ms: I64


class Batch:
    """Rows on their way to ClickHouse: some 60 bytes a sample, in arrays that are views of the messages."""

    def __init__(self, book: SeriesBook) -> None:
        self._book = book
        self._parts: list[tuple[I64, _Wire]] = []
        self._events: list[AnomalyEvent] = []
        self._records: list[Row] = []
        self._samples = 0

    @property
    def rows(self) -> int:
        return self._samples + len(self._events) + len(self._records)

    def add_scores(self, message: bytes) -> None:
        """A message of `tocsin.scores`; raises `UnreadableError`, and then nothing of it is added."""
        try:
            wire = _scores(message)
            names = self._book.dictionary(wire.series)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableError(str(error)) from None
        numbers = names[_checked(wire, len(names))]
        self._parts.append((numbers, wire))
        self._samples += len(numbers)

    def add_event(self, message: bytes) -> None:
        """A message of `tocsin.anomalies`; raises `UnreadableError`."""
        try:
            event = _event(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableError(str(error)) from None
        _check_event(event)
        self._book.number(event.series)
        self._events.append(event)

    def add_record(self, read: Callable[[bytes], Row | None], message: bytes) -> None:
        """A message that ``read``, of `sink_records`, makes a row of; raises `UnreadableError`."""
        try:
            row = read(message)
        except sink_records.WRONG as error:
            raise UnreadableError(str(error)) from None
        if row is not None:
            self._records.append(row)

    def tables(self) -> Tables:
        """The rows; series before what speaks of them."""
        numbers, ts_ms = self._columns("ts_ms", "<i8")
        named = np.array([self._book.number(event.series) for event in self._events], np.int64)
        starts = np.array([event.started_ms for event in self._events], np.int64)
        seen = self._book.due(np.concatenate([numbers, named]), np.concatenate([ts_ms, starts]))
        found = {
            "series": self._book.rows(seen),
            "anomalies": self._anomalies(named),
            "telemetry": self._telemetry(numbers, ts_ms),
        }
        for name, schema in sink_records.TABLES.items():
            rows = [row.values for row in self._records if row.table == name]
            found[name] = pa.Table.from_pylist(rows, schema=schema)
        return Tables(seen, {name: table for name, table in found.items() if table.num_rows})

    def written(self, seen: Seen) -> None:
        """Note that ClickHouse has the series of `tables`."""
        self._book.written(seen)

    def _columns(self, name: str, kind: str) -> tuple[I64, NDArray[Any]]:
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros(0, kind)
        return np.concatenate([numbers for numbers, _ in self._parts]), self._column(name, kind)

    def _column(self, name: str, kind: str) -> NDArray[Any]:
        return np.concatenate([np.frombuffer(getattr(wire, name), kind) for _, wire in self._parts])

    def _telemetry(self, numbers: I64, ts_ms: I64) -> pa.Table:
        if not self._parts:
            return pa.table({})
        return pa.table(
            {
                "series_id": self._book.ids(numbers),
                "ts": pa.array(ts_ms, _MS),
                "value": self._column("value", "<f8"),
                **{name: self._column(name, "<f4") for name in _FLOATS},
                "state": self._column("state", "u1"),
                "alert": self._column("alert", "u1"),
            }
        )

    def _anomalies(self, numbers: I64) -> pa.Table:
        ids = self._book.ids(numbers).tolist()
        rows = [_row(event, series_id) for event, series_id in zip(self._events, ids, strict=True)]
        return pa.Table.from_pylist(rows, schema=ANOMALIES_SCHEMA)


class Tables(NamedTuple):
    """A batch as rows, by table; ``seen`` goes to `Batch.written` once they are there."""

    seen: Seen
    by_name: dict[str, pa.Table]


def _checked(wire: _Wire, names: int) -> NDArray[np.uint32]:
    """The index of a message that has arrays of one length and times that ClickHouse can hold."""
    if wire.v != 1:
        raise UnreadableError(f"version {wire.v}; this sink knows 1")
    count = len(wire.state)
    for name, size in _BYTES.items():
        if len(getattr(wire, name)) != count * size:
            raise UnreadableError(f"{name} has not {size} bytes for each of {count} samples")
    index: NDArray[np.uint32] = np.frombuffer(wire.index, "<u4")
    ts_ms = np.frombuffer(wire.ts_ms, "<i8")
    if count and int(index.max()) >= names:
        raise UnreadableError(f"index {int(index.max())} of a dictionary of {names}")
    if count and not (int(ts_ms.min()) >= 0 and int(ts_ms.max()) <= MAX_TS_MS):
        raise UnreadableError("a time is outside 1970 to 2299")
    return index


def _check_event(event: AnomalyEvent) -> None:
    times = (event.started_ms, event.detected_ms, event.ended_ms or 0)
    if not all(0 <= ts_ms <= MAX_TS_MS for ts_ms in times):
        raise UnreadableError("a time is outside 1970 to 2299")
    counts = (event.revision, event.samples, *(spoke.version for spoke in event.detectors))
    if not all(0 <= number < 2**32 for number in counts):
        raise UnreadableError("a count or a version is not an unsigned 32-bit number")


def _row(event: AnomalyEvent, series_id: int) -> dict[str, Any]:
    """The columns that are not fields of the same name, beside those that are."""
    row = {name: getattr(event, name) for name in event.__struct_fields__}
    for name in ("started", "detected", "ended"):
        row[name] = row.pop(f"{name}_ms")
    row["series_id"] = series_id
    row["labels"], row["contributions"] = list(event.labels.items()), list(event.contributions.items())
    row["detectors"] = [
        {"name": s.name, "version": s.version, "score": s.score, "artifact": s.artifact or ""}
        for s in event.detectors
    ]
    for name in ("status", "kind", "severity", "direction"):
        row[name] = str(row[name])
    return row
