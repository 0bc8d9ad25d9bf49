"""`tocsin score`: the engine of the worker over a CSV file, without Kafka."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import msgspec
import numpy as np

from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from stream.tables import TIMESTAMP_NAMES, Table

COLUMNS: Final = (
    "timestamp", "value", "score", "level", "expected", "lower", "upper", "alert", "anomaly_id",
)  # fmt: skip

CHUNK_ROWS: Final = 20_000
"""Rows scored at once; the result does not depend on it."""


class Choice(NamedTuple):
    """The columns of the input, found by their usual names where None, and the name of the series."""

    timestamp: str | None = None
    value: str | None = None
    series: str | None = None


class Row(NamedTuple):
    """A row of the output; NaN where there is nothing to say."""

    ts_ms: int
    value: float
    score: float
    level: float
    expected: float
    lower: float
    upper: float
    alert: bool
    anomaly_id: str


class _Input(NamedTuple):
    timestamp: str  # as it stands in the file
    value: str
    ts_ms: int
    number: float


def score_file(path: str, choice: Choice, cfg: config.Config) -> Iterator[tuple[tuple[str, str], Row]]:
    """Each row of the file with its score, in the order of the file.

    Yields the texts of timestamp and value as they stand in the file, and the `Row`. What is said of a row
    depends on the rows before it alone. A row whose time is not after the one before is scored as the worker
    would (late: not learned; duplicate: ignored); nothing is reordered, whatever ``admission`` says. Raises
    `UserError` naming the line that cannot be read.
    """
    with Table.open(path) as table:
        at_time = table.column(choice.timestamp, TIMESTAMP_NAMES, "--timestamp-column")
        at_value = table.column(choice.value, ("value",), "--value-column")
        scorer = _Scorer(choice.series or table.header[at_value], cfg)
        rows = (
            _Input(f[at_time], f[at_value], table.time(line, f[at_time]), table.value(line, f[at_value]))
            for line, f in table
        )
        while chunk := list(islice(rows, CHUNK_ROWS)):
            texts = [(row.timestamp, row.value) for row in chunk]
            yield from zip(texts, scorer.score(chunk), strict=True)


class _Scorer:
    def __init__(self, series: str, cfg: config.Config) -> None:
        self._series = [series]
        self._engine = Engine(cfg.engine, msgspec.structs.replace(cfg.admission, allowed_lateness_ms=0))
        self._ids: dict[int, str] = {}  # of anomalies, by their start

    def score(self, chunk: list[_Input]) -> Iterator[Row]:
        scored = self._engine.process(
            Samples(
                self._series,
                np.zeros(len(chunk), np.int64),
                np.array([row.ts_ms for row in chunk], np.int64),
                np.array([row.number for row in chunk], np.float64),
            )
        )
        self._ids |= {event.started_ms: event.anomaly_id for event in scored.events}
        columns = (scored.score, scored.level, scored.expected, scored.lower, scored.upper)
        started = scored.anomaly_started_ms.tolist()
        floats = zip(*(column.tolist() for column in columns), strict=True)
        for row, numbers, start in zip(chunk, floats, started, strict=True):
            score, level, expected, lower, upper = numbers
            alert, anomaly_id = bool(start), self._ids.get(start, "")
            yield Row(row.ts_ms, row.number, score, level, expected, lower, upper, alert, anomaly_id)


def write(rows: Iterator[tuple[tuple[str, str], Row]], out: TextIO) -> tuple[int, int]:
    """Write CSV with the `COLUMNS`; returns the number of rows and of anomalies."""
    writer = csv.writer(out, lineterminator="\n")
    count, anomalies = 0, set()
    first = list(islice(rows, 1))  # a file that cannot be read leaves no header behind
    writer.writerow(COLUMNS)
    for texts, row in chain(first, rows):
        numbers = [_text(x) for x in (row.score, row.level, row.expected, row.lower, row.upper)]
        writer.writerow([*texts, *numbers, int(row.alert), row.anomaly_id])
        count += 1
        if row.anomaly_id:
            anomalies.add(row.anomaly_id)
    return count, len(anomalies)


def write_file(rows: Iterator[tuple[tuple[str, str], Row]], path: Path) -> tuple[int, int]:
    """Write a file that appears only when it is complete."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            counts = write(rows, out)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return counts


def _text(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"
