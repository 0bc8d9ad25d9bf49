"""What `tocsin produce` reads: CSV, JSON lines and exported timeslices, as chunks of samples or of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from detectors.protocol import Samples
from schemas.sample import Point
from stream.errors import UserError
from stream.files.tables import TIMESTAMP_NAMES, Meter, Table, open_bytes
from stream.formats.names import canonical, parse
from stream.formats.timeslice_rows import COLUMNS as TIMESLICE_COLUMNS
from stream.formats.timestamps import to_ms
from stream.worker.admission import RejectedError

Kind = Literal["csv", "jsonl", "timeslice"]

_APP_NAME: Final = TIMESLICE_COLUMNS.index("app_name")
_point = msgspec.json.Decoder(Point).decode


class Columns(NamedTuple):
    """How to read a CSV file; empty means: find it out."""

    timestamp: str | None = None
    values: Sequence[str] = ()
    metric: str | None = None  # the name of the metric, where there is one value column
    series: str | None = None  # the column with the metric's name or the series' canonical text
    label_columns: Sequence[str] = ()


class Lines(NamedTuple):
    """Rows to be sent as they are, each with the key that chooses its partition."""

    keys: list[bytes]
    rows: list[bytes]


Chunk = Samples | Lines


def kind_of(path: str) -> Kind:
    """The format of a file by its name; raises `UserError` where the name does not tell."""
    names = Path(path.lower().removesuffix(".gz"))
    found: dict[str, Kind] = {
        ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "timeslice",
    }  # fmt: skip
    if names.suffix not in found:
        raise UserError(f"{path}: the name does not tell the format; say --format csv, jsonl or timeslice")
    return found[names.suffix]


def read(
    path: str, kind: Kind, columns: Columns, labels: Mapping[str, str], chunk: int, meter: Meter
) -> Iterator[Chunk]:
    """The file in chunks of at least ``chunk`` samples or rows (the last is shorter)."""
    if kind == "csv":
        return read_csv(path, columns, labels, chunk, meter)
    if kind == "jsonl":
        return read_json_lines(path, labels, chunk, meter)
    return read_timeslices(path, chunk, meter)


class _Gather:
    """Collects samples until there are enough for a chunk; names are kept from chunk to chunk."""

    def __init__(self) -> None:
        self._places: dict[object, int] = {}
        self._series: list[str] = []
        self._clear()

    def _clear(self) -> None:
        self._index: list[int] = []
        self._ts_ms: list[int] = []
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._index)

    def place(self, key: object) -> int | None:
        """The place of a series that was named before, by whatever key it is known."""
        return self._places.get(key)

    def name(self, key: object, text: str) -> int:
        self._places[key] = len(self._series)
        self._series.append(text)
        return self._places[key]

    def add(self, place: int, ts_ms: int, value: float) -> None:
        self._index.append(place)
        self._ts_ms.append(ts_ms)
        self._values.append(value)

    def take(self) -> Samples:
        samples = Samples(
            self._series,
            np.array(self._index, np.int64),
            np.array(self._ts_ms, np.int64),
            np.array(self._values, np.float64),
        )
        self._clear()
        return samples


def read_csv(
    path: str, columns: Columns, labels: Mapping[str, str], chunk: int, meter: Meter
) -> Iterator[Samples]:
    """A wide file (a metric a column) or a long one (a column with the name of the series)."""
    with Table.open(path, meter) as table:
        layout = _Layout(table, columns, labels)
        gather = _Gather()
        for line, fields in table:
            ts_ms = table.time(line, fields[layout.time])
            for at in layout.values:
                key = (at, *(fields[c] for c in layout.naming))
                place = gather.place(key)
                if place is None:
                    place = gather.name(key, layout.series(line, fields, at))
                if layout.unused:
                    layout.require_later(line, place, ts_ms)
                gather.add(place, ts_ms, table.value(line, fields[at]))
            if len(gather) >= chunk:
                yield gather.take()
        if len(gather):
            yield gather.take()


class _Layout:
    """Which column of a CSV file is what."""

    def __init__(self, table: Table, columns: Columns, labels: Mapping[str, str]) -> None:
        self._table, self._labels = table, dict(labels)
        self.time = table.column(columns.timestamp, TIMESTAMP_NAMES, "--timestamp-column")
        self._label_at = [table.column(name, (), "--label-column") for name in columns.label_columns]
        self._name_at = self._find_name(columns)
        self.naming = [*self._label_at, *([] if self._name_at is None else [self._name_at])]
        self.values = self._find_values(columns)
        if columns.metric and len(self.values) > 1:
            names = ", ".join(table.header[at] for at in self.values)
            raise UserError(f"--metric names one series, but {table.path} has several value columns: {names}")
        self._metric = columns.metric
        used = {self.time, *self.naming, *self.values}
        self.unused = [] if columns.values else [n for at, n in enumerate(table.header) if at not in used]
        """Columns that nobody asked for, nor to do without."""
        self._newest_ms: dict[int, int] = {}  # by place

    def require_later(self, line: int, place: int, ts_ms: int) -> None:
        """Refuse rows that look like several series in one, which differ in a column that is not used."""
        if self._newest_ms.get(place, -1) >= ts_ms:
            raise self._table.error(
                line,
                "the time is not after that of the row before: do series differ in "
                f"{' or '.join(self.unused)}? Then name it with --label-column or --series-column; "
                "else say --value-column value",
            )
        self._newest_ms[place] = ts_ms

    def _find_name(self, columns: Columns) -> int | None:
        if columns.series is not None:
            return self._table.column(columns.series, (), "--series-column")
        lower = [name.lower() for name in self._table.header]
        if "value" in lower and not columns.values:
            return next((lower.index(name) for name in ("series", "metric") if name in lower), None)
        return None

    def _find_values(self, columns: Columns) -> list[int]:
        table = self._table
        if columns.values:
            return [table.column(name, (), "--value-column") for name in columns.values]
        lower = [name.lower() for name in table.header]
        if "value" in lower or self._name_at is not None:
            return [table.column(None, ("value",), "--value-column")]
        rest = [at for at in range(len(lower)) if at != self.time and at not in self._label_at]
        if not rest:
            raise UserError(f"{table.path} has no column with values: only {', '.join(table.header)}")
        return rest

    def series(self, line: int, fields: list[str], at: int) -> str:
        labels = self._labels | {self._table.header[c]: fields[c] for c in self._label_at}
        try:
            if self._name_at is not None and "{" in fields[self._name_at]:
                return parse(fields[self._name_at])
            return canonical(self._metric_of(fields, at), labels)
        except RejectedError as error:
            raise self._table.error(line, str(error)) from None

    def _metric_of(self, fields: list[str], at: int) -> str:
        if self._name_at is not None:
            return fields[self._name_at]
        if self._metric:
            return self._metric
        column = self._table.header[at]
        if column.lower() != "value" or self._table.path == "-":
            return column
        return Path(self._table.path).name.split(".")[0]  # a file of one series is named after it


def read_json_lines(path: str, labels: Mapping[str, str], chunk: int, meter: Meter) -> Iterator[Samples]:
    """One JSON point a line, as it would stand in a message (`schemas.sample.Point`)."""
    gather = _Gather()
    with open_bytes(path, meter) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                point = _point(line)
                key = (point.metric, *point.labels.items())
                place = gather.place(key)
                if place is None:
                    place = gather.name(key, canonical(point.metric, {**labels, **point.labels}))
                gather.add(place, to_ms(point.ts), float(point.value))
            except (
                msgspec.DecodeError,
                UnicodeDecodeError,
                ValueError,
                OverflowError,
                RejectedError,
            ) as error:
                raise UserError(f"{path}, line {number}: {error}") from None
            if len(gather) >= chunk:
                yield gather.take()
    if len(gather):
        yield gather.take()


def read_timeslices(path: str, chunk: int, meter: Meter) -> Iterator[Lines]:
    """Exported rows, sent as they are and keyed by application; the worker aggregates them."""
    keys: list[bytes] = []
    rows: list[bytes] = []
    with open_bytes(path, meter) as lines:
        for number, line in enumerate(lines, 1):
            row = line.rstrip(b"\r\n")
            if not row:
                continue
            fields = row.split(b"\t")
            if len(fields) != len(TIMESLICE_COLUMNS):
                wanted = len(TIMESLICE_COLUMNS)
                raise UserError(
                    f"{path}, line {number}: has {len(fields)} fields of the {wanted} of a timeslice"
                )
            keys.append(fields[_APP_NAME])
            rows.append(row)
            if len(rows) >= chunk:
                yield Lines(keys, rows)
                keys, rows = [], []
    if rows:
        yield Lines(keys, rows)
