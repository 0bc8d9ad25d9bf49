"""One engine everywhere: the worker on the real broker, `tocsin score` and `tocsin backtest` say the same."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas import config
from schemas.control import Mute
from schemas.event import AnomalyEvent
from schemas.journal import Muted
from schemas.score import ScoreBatch
from stream.control import commanding
from stream.files.backtest import replay
from stream.files.labelled import read_files
from stream.files.score import Choice, score_file
from stream.files.sources import Columns
from stream.formats.json_point import encode_point
from stream.kafka import Record, TopicPartition
from stream.worker import journal
from tests.integration.conftest import Kit, Sent

DATA = Path(__file__).parents[1] / "data" / "redlab-2-days.csv.gz"
METRICS = ("web_response", "throughput", "apdex", "error")
PLANTED = {
    (1200, "web_response"): 25.0,
    (1500, "throughput"): 900_000.0,
    (1800, "apdex"): -30.0,
    (2200, "error"): 60.0,
    (2400, "throughput"): 0.5,
}
FIRST, LATE, TWICE = 100, 700, 900
"""Rows sent at first; a row that comes five rows late, and one that comes again."""

MUTE_AT_MS = 1_000_000_000_000  # before all of it, so that it does not matter when the command arrives
FLOATS = ("score", "level", "expected", "lower", "upper")

POLICIES = [
    config.Policy(match="web_response", direction="above", min_duration_samples=2, alert_budget=0.5),
    config.Policy(
        match="throughput", timezone="Europe/Berlin", weekend=["monday"], country="DE", min_deviation=5.0
    ),
    config.Policy(match='ap*{host!="a"}', allowed_min=0.0, allowed_max=1.0, warm_up_samples=60),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two days of a real service with values planted, a late row and one that comes twice."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = [[row["timestamp"], *(row[name] for name in METRICS)] for row in csv.DictReader(file)]
    for (number, name), value in PLANTED.items():
        rows[number][1 + METRICS.index(name)] = str(value)
    rows.insert(LATE + 5, rows.pop(LATE))
    rows.insert(TWICE, rows[TWICE])
    path = tmp_path / "service.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["timestamp", *METRICS], *rows])
    return path


def rows_of(records: Sequence[Record]) -> dict[str, list[tuple[Any, ...]]]:
    """What `tocsin.scores` says of each series: time, value, the floats bit by bit, state, alert."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for record in records:
        batch = msgspec.msgpack.decode(record.value or b"", type=ScoreBatch)
        series = msgspec.msgpack.decode(batch.series)
        columns = [np.frombuffer(batch.ts_ms, "<i8"), np.frombuffer(batch.value, "<f8")]
        columns += [np.frombuffer(getattr(batch, name), "<u4") for name in FLOATS]
        columns += [np.frombuffer(batch.state, "u1"), np.frombuffer(batch.alert, "u1")]
        index = np.frombuffer(batch.index, "<u4").tolist()
        for i, *rest in zip(index, *(column.tolist() for column in columns), strict=True):
            found.setdefault(series[i], []).append(tuple(rest))
    return found


def bits(column: Any) -> list[int]:
    found: list[int] = np.asarray(column, np.float32).view("<u4").tolist()
    return found


def backtested(
    cfg: config.Config, table: Path
) -> tuple[dict[str, list[tuple[Any, ...]]], list[AnomalyEvent]]:
    said, events = {}, []
    for each in replay(cfg, read_files([str(table)], Columns(), None, None)):
        columns = [bits(getattr(each, name)) for name in FLOATS]
        alert = (each.anomaly_started_ms > 0).astype(int).tolist()
        ts_ms, values = each.series.ts_ms.tolist(), each.series.values.tolist()
        said[each.series.name] = list(zip(ts_ms, values, *columns, each.state.tolist(), alert, strict=True))
        events += each.events
    return said, events


def scored(cfg: config.Config, table: Path, metric: str) -> list[tuple[Any, ...]]:
    """As `backtested`, but without a state."""
    rows = [row for _, row in score_file(str(table), Choice(value=metric), cfg)]
    columns = [bits([getattr(row, name) for row in rows]) for name in FLOATS]
    return [
        (row.ts_ms, row.value, *floats, int(row.alert))
        for row, floats in zip(rows, zip(*columns, strict=True), strict=True)
    ]


async def sent_until_muted(kit: Kit, rows: Sequence[list[Sent]]) -> int:
    """Send row by row until every partition has the mute, which takes effect at the end of a batch."""
    places = [TopicPartition(kit.cfg.inputs[0].topic, number) for number in range(len(METRICS))]
    for number, row in enumerate(rows, 1):
        await kit.send(row)
        entries = [await journal.read(kit.cfg, place) for place in places]
        if all(any(isinstance(each, Muted) for each in found) for found in entries):
            return number
    raise AssertionError("no mute came into force")


def unmuted(events: Sequence[AnomalyEvent]) -> list[AnomalyEvent]:
    plain = (msgspec.structs.replace(each, muted_by=None) for each in events)
    return sorted(plain, key=lambda each: each.event_id)


async def test_worker_score_and_backtest_say_the_same_bit_for_bit_with_policies_and_a_mute(
    kit: Kit, table: Path
) -> None:
    engine = msgspec.structs.replace(kit.cfg.engine, policies=POLICIES)
    kit = Kit(msgspec.structs.replace(kit.cfg, engine=engine)).with_worker(max_batch_messages=97)
    replayed, expected_events = backtested(kit.cfg, table)
    series = [(name, replayed[name]) for name in METRICS]
    rows = [
        [Sent(encode_point(name, {}, *each[number][:2]), place) for place, (name, each) in enumerate(series)]
        for number in range(len(series[0][1]))
    ]
    mute = Mute(
        command_id="c", at_ms=MUTE_AT_MS, mute_id="m", matcher="error", start_ms=MUTE_AT_MS, end_ms=2**42
    )
    await kit.send([each for row in rows[:FIRST] for each in row])
    async with kit.worker():
        await commanding.send(kit.cfg, [mute])
        through = FIRST + await sent_until_muted(kit, rows[FIRST:LATE])
        await kit.send([each for row in rows[through:] for each in row])
        total = len(rows) * len(METRICS)
        records = await kit.read(
            kit.cfg.topics.scores.name, lambda r: sum(map(len, rows_of(r).values())) >= total
        )
        events = await kit.events(len(expected_events))

    live = rows_of(records)
    for name in METRICS:
        assert live[name] == replayed[name], name
        assert [(*row[:-2], row[-1]) for row in live[name]] == scored(kit.cfg, table, name), name
    assert {each.series for each in events} == set(METRICS)
    assert {each.muted_by for each in events if each.series != "error"} == {None}
    assert {each.muted_by for each in events if each.series == "error"} >= {"m"}
    assert unmuted(events) == unmuted(expected_events)
    states = {row[-2] for row in live["error"]}
    assert states == {0, 1, 3, 4}  # scored, warming up, late, duplicate
