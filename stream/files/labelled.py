"""Telemetry to be replayed, with labels where there are some: files of people, or a range of ClickHouse."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import Samples
from stream.errors import UserError
from stream.files.sources import Columns, kind_of, read
from stream.files.tables import TIMESTAMP_NAMES, Meter, Table, parse_time
from stream.formats.names import canonical
from stream.store import history
from stream.store.clickhouse import Client

LABEL_NAMES: Final = ("label", "labels", "is_anomaly", "anomaly")
_TRUE: Final = frozenset({"1", "true", "yes", "1.0"})
_FALSE: Final = frozenset({"0", "false", "no", "0.0", "", "nan"})
_CHUNK: Final = 1 << 20  # samples; all are kept anyway


class Labelled(NamedTuple):
    """One series in the order of its file; NaN is a gap, ``labels`` is None where nobody labelled it."""

    name: str  # canonical text
    source: str  # file, or ClickHouse
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    labels: NDArray[np.bool_] | None


class Windows:
    """Labelled times by file or series, as in the Numenta benchmark: ``{"file.csv": [["from", "to"]]}``.

    Both ends are inside; a single time instead of a pair is a point.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: is not JSON: {error.msg}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text at byte {error.start}") from None
        if not isinstance(found, dict):
            raise UserError(
                f'{path}: expected an object such as {{"file.csv": [["2024-01-01", "2024-01-02"]]}}'
            )
        self._spans = {key: [self._span(key, span) for span in spans or []] for key, spans in found.items()}

    def find(self, series: str, source: str) -> list[tuple[int, int]]:
        """The spans of a series, named by its text, or by the last parts of its file's path."""
        parts = PurePath(source).parts
        names = [series, *("/".join(parts[-depth:]) for depth in range(len(parts), 0, -1))]
        names += [name.removesuffix(".gz").removesuffix(".csv") for name in names[1:]]
        for name in names:
            if name in self._spans:
                return self._spans[name]
        near = difflib.get_close_matches(PurePath(source).name, self._spans, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"{self._path} has no labels for {source} (series {series}){hint}; "
            "an empty list says that nothing is anomalous there"
        )

    def _span(self, key: str, span: Any) -> tuple[int, int]:
        first, last = (span, span) if isinstance(span, str | int | float) else (None, None)
        if isinstance(span, list) and len(span) == 2:
            first, last = span
        try:
            start, end = parse_time(str(first)), parse_time(str(last))
        except ValueError as error:
            raise UserError(f"{self._path}, labels of {key!r}: {error}, in {span!r}") from None
        if end < start:
            raise UserError(f"{self._path}, labels of {key!r}: {last} is before {first}")
        return start, end


def read_files(
    paths: Sequence[str], columns: Columns, label_column: str | None, windows: Windows | None
) -> list[Labelled]:
    """Read all series of all files; 17 bytes a sample in memory. Raises `UserError` with file and line."""
    found = [each for path in paths for each in _read_file(path, columns, label_column, windows)]
    names = [each.name for each in found]
    if len(set(names)) < len(names):  # files of one series each are often all called the same
        found = [each._replace(name=_with_file(each)) for each in found]
    return found


def _read_file(
    path: str, columns: Columns, label_column: str | None, windows: Windows | None
) -> list[Labelled]:
    kind = kind_of(path)
    if kind == "timeslice":
        raise UserError(f"{path}: timeslices are aggregated by the worker; replay the series from ClickHouse")
    labels = None
    if kind == "csv":
        columns, labels = _label_column(path, columns, label_column)
    elif label_column:
        raise UserError(f"{path}: --label-column is for CSV; JSON lines take --labels")
    series: list[str] = []
    parts: list[tuple[Any, Any, Any]] = []
    for chunk in read(path, kind, columns, {}, _CHUNK, Meter()):
        if isinstance(chunk, Samples):  # Lines are of timeslices alone
            series = list(chunk.series)
            parts.append(chunk[1:])
    if not parts:
        raise UserError(f"{path} has no samples")
    index, ts_ms, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    if labels is not None:
        labels = np.repeat(labels, len(index) // len(labels))  # a row may hold several values
    names = list(dict.fromkeys(series))  # a dictionary may name one series twice
    index = np.array([names.index(name) for name in series])[index]
    found = []
    for i, name in enumerate(names):
        rows = index == i
        found.append(
            Labelled(name, path, ts_ms[rows], values[rows], None if labels is None else labels[rows])
        )
    return [_with_windows(each, windows) for each in found]


def _with_windows(each: Labelled, windows: Windows | None) -> Labelled:
    if windows is None:
        return each
    labels = np.zeros(len(each.ts_ms), np.bool_)
    for first, last in windows.find(each.name, each.source):
        labels |= (each.ts_ms >= first) & (each.ts_ms <= last)
    return each._replace(labels=labels)


def _with_file(each: Labelled) -> str:
    """The name with the file as one more label."""
    metric, _, rest = each.name.partition("{")
    if rest:
        raise UserError(f"{each.source}: the series {each.name} stands in another file, too; join the files")
    return canonical(metric, {"file": each.source})


def _label_column(
    path: str, columns: Columns, wanted: str | None
) -> tuple[Columns, NDArray[np.bool_] | None]:
    """Labels row by row, and the columns without the one they stand in."""
    with Table.open(path) as table:
        lower = [name.lower() for name in table.header]
        if wanted is not None:
            at = table.column(wanted, (), "--label-column")
        elif (usual := [lower.index(name) for name in LABEL_NAMES if name in lower]) and "value" in lower:
            at = usual[0]
        else:
            return columns, None
        labels = [_label(table, line, fields[at]) for line, fields in table]
        if not columns.values and "value" not in lower and columns.series is None:
            skip = {at, table.column(columns.timestamp, TIMESTAMP_NAMES, "--timestamp-column")}
            rest = [name for i, name in enumerate(table.header) if i not in skip]
            columns = columns._replace(values=rest)
    return columns, np.array(labels, np.bool_)


def _label(table: Table, line: int, text: str) -> bool:
    text = text.strip().lower()
    if text not in _TRUE and text not in _FALSE:
        raise table.error(line, f"{text[:40]!r} is not a label; a label is 1 or 0, true or false, or empty")
    return text in _TRUE


def read_range(
    client: Client, pattern: str, start_ms: int, end_ms: int, windows: Windows | None
) -> list[Labelled]:
    """Series of ClickHouse whose canonical text matches, with ``start_ms <= ts < end_ms``."""
    named = [str(name) for (name,) in client.rows("SELECT any(series) FROM series GROUP BY series_id")]
    matching = sorted(name for name in named if name == pattern or fnmatchcase(name, pattern))
    if not matching:
        near = difflib.get_close_matches(pattern, named, n=3, cutoff=0.3)
        raise UserError(
            f"no series in ClickHouse matches {pattern!r}" + (f"; there is {near}" if near else "")
        )
    found = history.read(client, matching, start_ms, end_ms)
    series = [Labelled(name, "ClickHouse", *got, None) for name, got in found.items() if len(got.ts_ms)]
    if not series:
        raise UserError(f"{len(matching)} series match {pattern!r}, but have no samples in that range")
    return [_with_windows(each, windows) for each in series]
