"""What counts as open in ClickHouse when nobody tells of it any more."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from schemas import config
from stream.store import migrations
from stream.store.clickhouse import Client
from tests.support import ClickHouseAddress

NOW = datetime(2026, 5, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def anomaly(name: str, heard: datetime, stored: date, status: str = "open") -> dict[str, Any]:
    times = {"started": heard - DAY, "detected": heard, "ended": heard if status == "close" else None}
    return {"anomaly_id": name, "metric": "cpu", "series": "cpu", "revision": 1, "status": status,
            "reason": "cpu was 9.", "stored": stored, **times}  # fmt: skip


def test_an_anomaly_of_which_nothing_is_heard_for_days_is_not_open_and_says_so(
    clickhouse: ClickHouseAddress,
) -> None:
    cfg = config.ClickHouse(host=clickhouse.host, port=clickhouse.port, database=clickhouse.database)
    client = Client.connect(cfg)
    migrations.apply(client, cfg)
    today = datetime.now(UTC).date()
    told = [
        anomaly("lost", NOW - 4 * DAY, today - DAY),
        anomaly("replayed now", NOW - 4 * DAY, today),
        anomaly("goes on", NOW - 2 * DAY, today - DAY),
        anomaly("closed", NOW - 9 * DAY, today - DAY, "close"),
    ]
    client.insert("anomalies", pa.Table.from_pylist(told))
    client.insert("series", pa.table({"series_id": pa.array([1], pa.uint64()), "last_seen": [NOW]}))
    rows = client.rows("SELECT anomaly_id, status, ended, reason FROM anomalies_latest ORDER BY anomaly_id")
    client.close()
    assert {name: status for name, status, *_ in rows} == {
        "lost": "close", "replayed now": "open", "goes on": "open", "closed": "close",
    }  # fmt: skip
    assert rows[2][2:] == (
        (NOW - 4 * DAY).replace(tzinfo=None),
        "Closed by itself: nothing was heard of it after 2026-05-05 00:00 UTC. cpu was 9.",
    )
    assert rows[0][3] == "cpu was 9."
