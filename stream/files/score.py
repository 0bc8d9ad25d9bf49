"""`tocsin score`: the engine of the worker over a CSV file, without Kafka."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import msgspec
import numpy as np

from detectors.batch import Artifact
from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from stream.errors import UserError
from stream.files.tables import TIMESTAMP_NAMES, Table
from stream.refresh.offline import Learner

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


class Summary(NamedTuple):
    """Of a file: rows, those with a score, anomalies, and rows whose time is not after all before them."""

    rows: int
    scored: int
    anomalies: int
    behind: int


class Given(NamedTuple):
    """A row of the input; ``number`` is NaN for a gap."""

    timestamp: str  # as it stands in the file
    value: str
    ts_ms: int
    number: float


class Model(NamedTuple):
    """What the one detector scores with, from the first row of ``from_ms`` or later on.

    Without an ``artifact`` one is fitted there, on the rows before it.
    """

    learner: Learner
    artifact: Artifact | None = None
    from_ms: int = -sys.maxsize


def read(path: str, choice: Choice) -> Iterator[Given]:
    """The rows in the order of the file; raises `UserError` naming the line that cannot be read."""
    with Table.open(path) as table:
        at_time, at_value = _places(table, choice)
        yield from _given(table, at_time, at_value)


def score_file(
    path: str, choice: Choice, cfg: config.Config, model: Model | None = None
) -> Iterator[tuple[tuple[str, str], Row]]:
    """Each row of the file with its score, in the order of the file.

    Yields the texts of timestamp and value as they stand in the file, and the `Row`. What is said of a row
    depends on the rows before it alone. A row whose time is not after the one before is scored as the worker
    would (late: not learned; duplicate: ignored); nothing is reordered, whatever ``admission`` says. Raises
    `UserError` naming the line that cannot be read, and where a model is not to be had.
    """
    with Table.open(path) as table:
        at_time, at_value = _places(table, choice)
        scorer = _Scorer(choice.series or table.header[at_value], cfg, model)
        rows = _given(table, at_time, at_value)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            texts = [(row.timestamp, row.value) for row in chunk]
            yield from zip(texts, scorer.score(chunk), strict=True)
        scorer.end()


def _places(table: Table, choice: Choice) -> tuple[int, int]:
    """Of the columns with times and values."""
    return (
        table.column(choice.timestamp, TIMESTAMP_NAMES, "--timestamp-column"),
        table.column(choice.value, ("value",), "--value-column"),
    )


def _given(table: Table, at_time: int, at_value: int) -> Iterator[Given]:
    for line, f in table:
        yield Given(f[at_time], f[at_value], table.time(line, f[at_time]), table.value(line, f[at_value]))


class _Scorer:
    def __init__(self, series: str, cfg: config.Config, model: Model | None) -> None:
        self._series = [series]
        self._engine = Engine(cfg.engine, msgspec.structs.replace(cfg.admission, allowed_lateness_ms=0))
        self._ids: dict[int, str] = {}  # of anomalies, by their start
        self._awaited = model  # until it is adopted
        self._history: list[Given] = []

    def score(self, chunk: list[Given]) -> Iterator[Row]:
        begin = 0
        if self._awaited is not None:
            begin = self._before(chunk, self._awaited)
            yield from self._score(chunk[:begin])
            if begin < len(chunk):
                self._adopt(self._awaited)
        yield from self._score(chunk[begin:])

    def end(self) -> None:
        """Raises `UserError` where the file was over before the model had anything to score."""
        if self._awaited is not None:
            raise UserError("no row is left to be scored with a model: the file ends before that time")

    def _before(self, chunk: list[Given], model: Model) -> int:
        """How many rows pass before the model is adopted, at least the first: the series is there with it."""
        least = 0 if self._history else 1
        late = (i for i, row in enumerate(chunk) if i >= least and row.ts_ms >= model.from_ms)
        begin = next(late, len(chunk))
        self._history += chunk[:begin]
        return begin

    def _adopt(self, model: Model) -> None:
        artifact, self._awaited = model.artifact, None
        if artifact is None:
            known = [row for row in self._history if row.ts_ms < model.from_ms]
            artifact = model.learner.fit([row.ts_ms for row in known], [row.number for row in known])
        try:
            self._engine.adopt(self._series[0], model.learner.detector.name, artifact)
        except ValueError as error:
            raise UserError(str(error)) from None

    def _score(self, chunk: list[Given]) -> Iterator[Row]:
        if not chunk:
            return
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


def write(rows: Iterator[tuple[tuple[str, str], Row]], out: TextIO) -> Summary:
    """Write CSV with the `COLUMNS`."""
    writer = csv.writer(out, lineterminator="\n")
    count = scored = behind = 0
    newest_ms, anomalies = -sys.maxsize, set()
    first = list(islice(rows, 1))  # a file that cannot be read leaves no header behind
    writer.writerow(COLUMNS)
    for texts, row in chain(first, rows):
        numbers = [_text(x) for x in (row.score, row.level, row.expected, row.lower, row.upper)]
        writer.writerow([*texts, *numbers, int(row.alert), row.anomaly_id])
        count += 1
        scored += not math.isnan(row.score)
        behind += row.ts_ms <= newest_ms
        newest_ms = max(newest_ms, row.ts_ms)
        if row.anomaly_id:
            anomalies.add(row.anomaly_id)
    return Summary(count, scored, len(anomalies), behind)


def write_file(rows: Iterator[tuple[tuple[str, str], Row]], path: Path) -> Summary:
    """Write a file that appears only when it is complete."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            summary = write(rows, out)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return summary


def _text(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"
