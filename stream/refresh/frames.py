"""Samples of several metrics on one time axis: what `/find`, the pages and the trainers compute on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream.errors import UserError
from stream.files.tables import TIMESTAMP_NAMES, Table
from stream.formats.timestamps import to_ms

_POINT: Final = "point"
"""The column of a minute in metric timeslices (see stream.formats.timeslice)."""


class Frame(NamedTuple):
    """Times in order, each once; a column of values for each metric, NaN where it has none."""

    ts_ms: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.ts_ms)

    def between(self, start_ms: int | None, end_ms: int | None) -> Frame:
        """Rows with ``start <= ts < end``."""
        low = 0 if start_ms is None else int(np.searchsorted(self.ts_ms, start_ms))
        high = len(self.ts_ms) if end_ms is None else int(np.searchsorted(self.ts_ms, end_ms))
        return Frame(self.ts_ms[low:high], {name: v[low:high] for name, v in self.columns.items()})


def ordered(ts_ms: NDArray[np.int64], columns: Mapping[str, NDArray[np.float64]]) -> Frame:
    """In order of time; of rows with one time the first wins, as in the engine."""
    unique, first = np.unique(ts_ms, return_index=True)
    return Frame(unique, {name: values[first] for name, values in columns.items()})


def from_arrow(table: pa.Table) -> Frame:
    """A result with one time column and numeric ones; raises `UserError` saying which column is missing."""
    at = _time_column(table)
    ts_ms = _times(table.column(at), at)
    columns = {
        name: _numbers(table.column(name))
        for name in table.column_names
        if name != at and _is_number(table.schema.field(name).type)
    }
    if not columns:
        raise UserError(f"the result has no column of numbers besides {at!r}: {_listed(table.column_names)}")
    return ordered(ts_ms, columns)


def from_csv(path: str, name: str, max_rows: int, time_column: str | None = None) -> Frame:
    """A CSV file with a header: a time column and columns of numbers, the rest left out.

    ``name`` is what people call the file; ``time_column`` else has one of the usual names.
    Raises `UserError` naming the line that cannot be read.
    """
    with Table.open(path, name=PurePath(name).name) as table:
        at = table.column(time_column, (*TIMESTAMP_NAMES, _POINT), "timestamp_column")
        rows: list[tuple[int, list[str]]] = []
        times: list[int] = []
        for line, fields in table:
            if len(rows) >= max_rows:
                raise UserError(f"{table.path} has more than {max_rows} rows: send a shorter range")
            times.append(table.time(line, fields[at]))
            rows.append((line, fields))
        if not rows:
            raise UserError(f"{table.path} has a header and no rows")
        columns = _csv_columns(table, at, rows)
    return ordered(np.array(times, np.int64), columns)


def _csv_columns(
    table: Table, at: int, rows: Sequence[tuple[int, list[str]]]
) -> dict[str, NDArray[np.float64]]:
    """The columns that are numbers; a column with a text in its first row is a label and left out."""
    columns = {}
    for place, title in enumerate(table.header):
        if place == at or not _reads(table, *rows[0], place):
            continue
        columns[title] = np.array([table.value(line, fields[place]) for line, fields in rows])
    if not columns:
        raise UserError(
            f"{table.path} has no column of numbers besides {table.header[at]!r}: {_listed(table.header)}"
        )
    return columns


def _reads(table: Table, line: int, fields: list[str], place: int) -> bool:
    try:
        table.value(line, fields[place])
    except UserError:
        return False
    return True


def _time_column(table: pa.Table) -> str:
    for field in table.schema:
        if pa.types.is_temporal(field.type):
            return str(field.name)
    lower = {name.lower(): name for name in table.column_names}
    for usual in (*TIMESTAMP_NAMES, _POINT, "ts_ms"):
        if usual in lower:
            return str(lower[usual])
    raise UserError(
        f"the result has no time: select a DateTime column, or name one {TIMESTAMP_NAMES[0]!r}; "
        f"it has {_listed(table.column_names)}"
    )


def _times(column: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    if column.null_count:
        raise UserError(f"column {name!r} has rows without a time")
    if pa.types.is_temporal(column.type):
        return np.asarray(column.cast(pa.timestamp("ms"), safe=False).to_numpy().astype(np.int64))
    try:
        return np.array([to_ms(each) for each in column.to_pylist()], np.int64)
    except (ValueError, TypeError) as error:
        raise UserError(f"column {name!r}: {error}; a time is a DateTime, ISO 8601 or Unix time") from None


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values = np.array(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    values[np.isinf(values)] = np.nan  # a division by zero in SQL: there is no value
    return values


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
