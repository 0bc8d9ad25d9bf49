"""Every query of every dashboard answers, on the real engines with real data in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.dashboards import Query, Range, dashboards, expand_promql, expand_sql, queries, variables
from schemas import config
from schemas.control import Change, Label, Mute
from stream import observe
from stream.control import commanding
from stream.files.sources import Columns, Lines, read
from stream.files.tables import Meter
from stream.formats.json_point import encode_point
from stream.local.monitoring import Monitoring
from stream.refresh.coordinator import Coordinator
from stream.store.sink import SinkLoop
from tests.support import running as started

DATA = Path(__file__).parents[1] / "data" / "redlab-2-days.csv.gz"
SPIKE = 500.0


class Message(msgspec.Struct):
    value: bytes | None
    partition: int
    key: bytes | None = None


def telemetry() -> tuple[list[Message], Range]:
    """Two days of a real service; the last response time is a spike, so that an anomaly stays open."""
    messages, times = [], []
    for chunk in read(str(DATA), "csv", Columns(), {"service": "it's"}, 1000, Meter()):
        assert not isinstance(chunk, Lines)
        for index, ts_ms, value in zip(
            chunk.series_index.tolist(), chunk.ts_ms.tolist(), chunk.values.tolist(), strict=True
        ):
            metric = re.split(r"[{]", chunk.series[index])[0]
            messages.append(Message(encode_point(metric, {"service": "it's"}, ts_ms, value), index % 4))
            times.append(ts_ms)
    point = encode_point("web_response", {"service": "it's"}, max(times) + 60_000, SPIKE)
    web = next(m.partition for m in messages if m.value and b"web_response" in m.value)
    messages += [Message(point, web), Message(b"not a point", 0)]
    return messages, Range(min(times) // 1000, max(times) // 1000 + 120, 600)


@contextlib.asynccontextmanager
async def running(
    kit: Any, clickhouse: Any
) -> AsyncIterator[tuple[dict[str, str], Range, config.ClickHouse]]:
    """Worker, sink and coordinator that have done all of it, a mute, a verdict; where their metrics are."""
    store = config.ClickHouse(host=clickhouse.host, port=clickhouse.port, database=clickhouse.database)
    kit.cfg = msgspec.structs.replace(
        kit.cfg,
        clickhouse=store,
        sink=config.Sink(group_id=f"{kit.cfg.worker.group_id}-sink", batch_interval_ms=200),
        metrics=config.Metrics(worker_port=0, sink_port=0, coordinator_port=0),
        # Sooner than the telemetry is through: a snapshot is made at the end of a batch.
        snapshots=msgspec.structs.replace(kit.cfg.snapshots, every_ms=100),
        incidents=config.Incidents(group_id=f"{kit.cfg.worker.group_id}-incidents"),
        refresh=config.Refresh(group_id=f"{kit.cfg.worker.group_id}-coordinator"),
    )
    messages, span = telemetry()
    await kit.send(messages[:-2])
    async with (
        started(SinkLoop(kit.cfg)) as sink,
        started(Coordinator(kit.cfg)) as coordinator,
        kit.worker() as worker,
    ):
        await eventually(lambda: count(store, "telemetry_dedup") >= len(messages) - 2)
        await kit.send(messages[-2:])
        open_ = "anomalies_latest WHERE status != 'close'"
        await eventually(lambda: count(store, open_) and count(store, "telemetry_dedup") >= len(messages) - 1)
        await told(kit.cfg)
        await eventually(lambda: count(store, "incidents_latest WHERE status != 'close'"))
        await eventually(lambda: all(count(store, table) for table in ("labels", "mutes", "changes")))
        processes = {"worker": worker, "sink": sink, "coordinator": coordinator}
        yield {name: each.metrics_url for name, each in processes.items()}, span, store


async def told(cfg: config.Config) -> None:
    """A mute, a change, and verdicts on two anomalies."""
    sql = "SELECT anomaly_id, series, toUnixTimestamp64Milli(started) AS at FROM anomalies_latest LIMIT 2"
    found = await asyncio.to_thread(observe.query, cfg.clickhouse, sql)
    at_ms = int(found[0]["at"])
    labels = [
        Label(
            command_id=f"c{verdict}", at_ms=at_ms, by="ann", why="known", anomaly_id=row["anomaly_id"],
            series=row["series"], verdict=verdict, started_ms=int(row["at"]), detectors=["large"],
        )
        for row, verdict in zip(found, ("false", "expected"), strict=True)
    ]  # fmt: skip
    mute = Mute(command_id="c2", at_ms=at_ms, mute_id="m", matcher="other", start_ms=at_ms, end_ms=None)
    change = Change(change_id="d", at_ms=at_ms, labels={"service": "it's"}, title="2.1", mute_minutes=0)
    await commanding.send(cfg, [*labels, mute])
    await commanding.tell(cfg, change)


def count(store: config.ClickHouse, table: str) -> int:
    with contextlib.suppress(OSError):  # no tables yet
        return observe.count(store, "count()", table)
    return 0


async def eventually(what: Callable[[], Any], deadline_s: float = 90.0) -> Any:
    deadline = time.monotonic() + deadline_s
    while not (found := await asyncio.to_thread(what)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    return found


def ask_prometheus(url: str, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as reply:
        found: list[Any] = json.load(reply)["data"]["result"]
    return found


def choose(store: config.ClickHouse, dashboard: dict[str, Any], span: Range) -> dict[str, list[str]]:
    """What Grafana would: all where many may be chosen, else the series of the spike or the first."""
    chosen: dict[str, list[str]] = {}
    for name, sql, multi in variables(dashboard):
        rows = observe.query(store, expand_sql(sql, span, chosen))
        values = [str(next(iter(row.values()))) for row in rows]
        assert values, f"variable {name} of {dashboard['uid']} has no values"
        wanted = [value for value in values if value.startswith("web_response")] or values
        chosen[name] = values if multi else wanted[:1]
    return chosen


def run_sql(store: config.ClickHouse, span: Range) -> tuple[int, list[str]]:
    """How many queries there were, and what was wrong."""
    asked, wrong = 0, []
    for dashboard in dashboards():
        chosen = choose(store, dashboard, span)
        for query in queries(dashboard):
            if query.language == "sql":
                asked += 1
                wrong += _trouble(store, query, span, chosen)
    return asked, wrong


def _trouble(store: config.ClickHouse, query: Query, span: Range, chosen: dict[str, list[str]]) -> list[str]:
    try:
        rows = observe.query(store, expand_sql(query.text, span, chosen))
    except OSError as error:
        return [f"{query.dashboard} {query.where}: {error}"]
    told = [value for row in rows for value in row.values() if value not in (None, "", 0)]
    return [] if told else [f"{query.dashboard} {query.where}: empty"]


@pytest.mark.slow
async def test_every_query_of_every_dashboard_answers(kit: Any, clickhouse: Any, tmp_path: Path) -> None:
    async with running(kit, clickhouse) as (urls, span, store):
        asked, wrong = await asyncio.to_thread(run_sql, store, span)
        assert asked >= 22
        assert not wrong
        monitoring = Monitoring(tmp_path, urls, interval="1s")
        await asyncio.to_thread(monitoring.start)
        try:
            left = [q for d in dashboards() for q in queries(d) if q.language == "promql"]
            assert len(left) >= 20
            deadline = time.monotonic() + 60
            while left and time.monotonic() < deadline:
                await asyncio.sleep(1)  # of scrapes
                left = [
                    q
                    for q in left
                    if not await asyncio.to_thread(
                        ask_prometheus, monitoring.prometheus_url, expand_promql(q.text, 10)
                    )
                ]
            assert not left
        finally:
            await asyncio.to_thread(monitoring.stop)
