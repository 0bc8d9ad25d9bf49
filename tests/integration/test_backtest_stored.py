"""`tocsin backtest --series`: what is stored in ClickHouse gives the scores that the file gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from schemas import config
from stream.cli import app
from stream.errors import UserError
from stream.files import backtest
from stream.files.labelled import Labelled, Windows, read_range
from stream.store import history, migrations
from stream.store.clickhouse import Client

START_MS = 1_760_000_000_000
NAMES = ['web{host="a"}', 'web{host="b"}', "other"]


@pytest.fixture
def stored(chdb_dsn: str) -> tuple[config.ClickHouse, np.ndarray, np.ndarray]:
    cfg = config.ClickHouse(dsn=chdb_dsn, database=chdb_dsn.rpartition("=")[2])
    ts_ms = START_MS + 60_000 * np.arange(600, dtype=np.int64)
    values = np.random.default_rng(3).normal(100, 1, 600)
    values[40], values[500] = np.nan, 300.0
    client = Client.connect(cfg)
    migrations.apply(client, cfg)
    moment = pa.array(ts_ms, pa.timestamp("ms", "UTC"))
    for name in NAMES:
        number = history.series_id(name)
        ids = np.full(600, number, np.uint64)
        client.insert("telemetry", pa.table({"series_id": ids, "ts": moment, "value": values}))
        client.insert(
            "series",
            pa.table({"series_id": pa.array([number], pa.uint64()), "series": [name], "metric": [name]}),
        )
    client.close()
    return cfg, ts_ms, values


def test_a_stored_range_is_scored_as_the_same_samples_from_elsewhere(stored, tmp_path: Path) -> None:
    cfg, ts_ms, values = stored
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({name: [[int(ts_ms[500]), int(ts_ms[505])]] for name in NAMES}))
    client = Client.connect(cfg)
    found = read_range(client, "web*", START_MS, int(ts_ms[-1]) + 1, Windows(labels))
    assert [each.name for each in found] == NAMES[:2]
    with pytest.raises(UserError, match="no series in ClickHouse matches 'wab'"):
        read_range(client, "wab", START_MS, START_MS + 1, None)
    client.close()
    runs = backtest.replay(config.Config(), found)
    direct = backtest.replay(config.Config(), [Labelled(name, "", ts_ms, values, None) for name in NAMES[:2]])
    for one, other in zip(runs, direct, strict=True):
        np.testing.assert_array_equal(one.score, other.score)
    measures = backtest.measure("stored", runs)
    assert (measures.found, measures.segments) == (2, 2)


def test_the_command_replays_a_range(stored, tmp_path: Path) -> None:
    cfg, ts_ms, _ = stored
    keys = [f"clickhouse.dsn={cfg.dsn}", f"clickhouse.database={cfg.database}"]
    span = ["--from", str(START_MS), "--to", str(int(ts_ms[-1]) + 1)]
    sets = [part for key in keys for part in ("--set", key)]
    told = CliRunner().invoke(app, ["backtest", "--series", "other", *span, *sets, "--json"])
    assert told.exit_code == 0, told.output
    numbers = json.loads(told.stdout)["configurations"][0]
    assert (numbers["series"], numbers["samples"], numbers["f1"]) == (1, 600, None)
