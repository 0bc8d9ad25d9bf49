"""Every query of docs/clickhouse.md runs on the real engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from schemas import config
from stream.store import migrations
from stream.store.clickhouse import Client

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clickhouse.md"


def test_the_queries_of_the_page_run(clickhouse: Any) -> None:
    cfg = config.ClickHouse(host=clickhouse.host, port=clickhouse.port, database=clickhouse.database)
    client = Client.connect(cfg)
    migrations.apply(client, cfg)
    series = 'web_response{service="redlab"}'
    client.command(
        "INSERT INTO series SELECT xxHash64({s:String}), {s:String}, 'web_response', "
        "map('service', 'redlab'), now() - INTERVAL 7 HOUR, now() - INTERVAL 7 HOUR",
        {"s": series},
    )
    client.command(
        "INSERT INTO telemetry (series_id, ts, value) "
        "SELECT xxHash64({s:String}), now() - INTERVAL 7 HOUR, 5",
        {"s": series},
    )
    client.command(
        "INSERT INTO anomalies (metric, series_id, series, started, anomaly_id, revision, status, detectors) "
        "SELECT 'web_response', xxHash64({s:String}), {s:String}, now() - INTERVAL 7 HOUR, 'ID', 1, 'open', "
        "[('large', 1, 1.5, '')]",
        {"s": series},
    )
    client.command(
        "INSERT INTO incidents (incident_id, revision, status, started, detected, members) "
        "SELECT 'I', 1, 'open', now(), now(), [('a', {s:String}, 'web_response', 'spike', 'warning', "
        "'above', 1.5, 9, 5, 4, 6, now(), NULL, 'why')]",
        {"s": series},
    )
    queries = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) >= 6
    empty = [query for query in queries if not client.rows(query)]
    client.close()
    assert not empty
