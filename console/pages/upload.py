"""CSV files that people upload: which columns there are, and their samples."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd

from stream.errors import UserError
from stream.files.tables import TIMESTAMP_NAMES, Table
from stream.refresh.frames import Frame, from_csv


def columns(content: bytes, name: str) -> tuple[list[str], str | None]:
    """The header, and the column of it that looks like the time; raises `UserError`."""
    with _stored(content) as path, Table.open(path, name=name) as table:
        first = next(iter(table), None)
        if first is None:
            raise UserError(f"{name} has a header and no rows")
        usual = next((each for each in table.header if each.lower() in TIMESTAMP_NAMES), None)
        return table.header, usual


def frame(content: bytes, name: str, time_column: str, max_rows: int) -> Frame:
    """Its samples; raises `UserError` that names the line which cannot be read."""
    with _stored(content) as path:
        return from_csv(path, name, max_rows, time_column)


def written(samples: Frame, names: Sequence[str]) -> bytes:
    """The same as a file for the API."""
    table = pd.DataFrame({"timestamp": samples.ts_ms} | {name: samples.columns[name] for name in names})
    return str(table.to_csv(index=False)).encode()


def joined(series: dict[str, Frame]) -> Frame:
    """Frames of one column each on one axis of time; NaN where one has no sample."""
    times = np.unique(np.concatenate([each.ts_ms for each in series.values()]))
    joined = {}
    for name, each in series.items():
        column = np.full(len(times), np.nan)
        column[np.searchsorted(times, each.ts_ms)] = each.columns[name]
        joined[name] = column
    return Frame(times, joined)


@contextmanager
def _stored(content: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=".csv") as copy:
        copy.write(content)
        copy.flush()
        yield copy.name
