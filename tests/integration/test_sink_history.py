"""Telemetry read back as arrays, over HTTP and embedded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from schemas import config
from stream.store import history, migrations
from stream.store.clickhouse import Client

START_MS = 1_760_000_000_000


@pytest.mark.parametrize("way", ["http", "embedded"])
def test_samples_come_back_in_order_once_and_with_their_gaps(
    way: str, request: pytest.FixtureRequest
) -> None:
    if way == "embedded":
        dsn = request.getfixturevalue("chdb_dsn")
        cfg = config.ClickHouse(dsn=dsn, database=dsn.rpartition("=")[2])
    else:
        address = request.getfixturevalue("clickhouse")
        cfg = config.ClickHouse(host=address.host, port=address.port, database=address.database)
    client = Client.connect(cfg)
    migrations.apply(client, cfg)
    names = ["a", 'b{x="1"}', "c"]
    ts_ms = START_MS + np.arange(5000, dtype=np.int64) * 60_000
    values = np.arange(5000, dtype=np.float64)
    values[7] = np.nan
    for name in names[:2]:
        ids = np.full(5000, history.series_id(name), np.uint64)
        rows = {"series_id": ids, "ts": pa.array(ts_ms, pa.timestamp("ms", "UTC")), "value": values}
        for _ in range(2):
            client.insert("telemetry", pa.table(rows))
    found = history.read(client, names, int(ts_ms[5]), int(ts_ms[4000]))
    client.close()
    assert list(found) == names
    for name in names[:2]:
        np.testing.assert_array_equal(found[name].ts_ms, ts_ms[5:4000])
        np.testing.assert_array_equal(found[name].values, values[5:4000])
    assert len(found["c"].ts_ms) == 0
