"""The console as it is served, for benchmarks: Kafka, ClickHouse with a month, trainer, API and pages."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from console.pages.client import Api
from schemas import config
from schemas.series import Series
from stream import topics
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.process import Child, answers, free_port
from stream.refresh.frames import Frame, from_csv
from stream.store import history, migrations
from stream.store.clickhouse import Client

TELEMETRY: Final = Path(__file__).resolve().parents[1] / "examples" / "redlab" / "telemetry.csv.gz"
START_TIMEOUT_S: Final = 180.0


class Stage(NamedTuple):
    """The processes that take part; ``children`` by name."""

    cfg: config.Config
    api: Api
    pages_url: str
    children: dict[str, Child]


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Kafka, ClickHouse with a month of four metrics, trainer, API and pages."""
    with LocalKafka(folder / "kafka") as kafka, LocalClickHouse(folder / "clickhouse") as store:
        cfg = config.Config(
            kafka=config.Kafka(bootstrap_servers=kafka.bootstrap),
            clickhouse=config.ClickHouse(host=store.host, port=store.port),
            snapshots=config.Snapshots(url=str(folder / "snapshots")),
            metrics=config.Metrics(trainer_port=free_port()),
            console=config.Console(port=free_port(), pages_port=free_port()),
        )
        asyncio.run(topics.ensure(cfg))
        _fill(cfg)
        settings = {
            "kafka.bootstrap_servers": cfg.kafka.bootstrap_servers,
            "clickhouse.port": store.port,
            "snapshots.url": cfg.snapshots.url,
            "metrics.trainer_port": cfg.metrics.trainer_port,
            "console.port": cfg.console.port,
            "console.pages_port": cfg.console.pages_port,
        }
        options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        urls = {
            "console": f"http://127.0.0.1:{cfg.console.port}/healthz",
            "pages": f"http://127.0.0.1:{cfg.console.pages_port}/_stcore/health",
            "trainer": f"http://127.0.0.1:{cfg.metrics.trainer_port}/metrics",
        }
        children = {name: Child(name, folder) for name in urls}
        try:
            for name, child in children.items():
                command = [sys.executable, "-m", "stream.cli", name, *options]
                child.start(command, ready=lambda url=urls[name]: answers(url), timeout_s=START_TIMEOUT_S)  # type: ignore[misc]
            api = Api(f"http://127.0.0.1:{cfg.console.port}")
            yield Stage(cfg, api, f"http://127.0.0.1:{cfg.console.pages_port}", children)
        finally:
            for child in children.values():
                child.stop(15.0)


def month() -> Frame:
    """The example: four metrics of a service by the minute."""
    return from_csv(str(TELEMETRY), TELEMETRY.name, 100_000)


def series_of(metric: str) -> str:
    return Series(metric, {"service": "redlab"}).text()


def _fill(cfg: config.Config) -> None:
    """The month of the example as the sink stores it."""
    frame = month()
    client = Client.connect(cfg.clickhouse, create=True)
    migrations.apply(client, cfg.clickhouse)
    nothing = pa.array(np.full(len(frame), np.nan, np.float32))
    for metric, values in frame.columns.items():
        text = series_of(metric)
        number = np.full(len(frame), history.series_id(text), np.uint64)
        columns = {
            "series_id": number,
            "ts": pa.array(frame.ts_ms, pa.timestamp("ms", "UTC")),
            "value": values,
            **dict.fromkeys(("score", "level", "expected", "lower", "upper"), nothing),
            "state": np.zeros(len(frame), np.uint8),
            "alert": np.zeros(len(frame), np.uint8),
        }
        client.insert("telemetry", pa.table(columns))
        client.command(
            "INSERT INTO series SELECT {id:UInt64}, {text:String}, {metric:String}, "
            "map('service', 'redlab'), "
            "fromUnixTimestamp64Milli({first:Int64}), fromUnixTimestamp64Milli({last:Int64})",
            {
                "id": int(number[0]),
                "text": text,
                "metric": metric,
                "first": int(frame.ts_ms[0]),
                "last": int(frame.ts_ms[-1]),
            },
        )
    client.close()


def cpu_s(pid: int) -> float:
    """Of a process and its descendants that live."""
    total, found = 0.0, [pid]
    for each in found:  # grows meanwhile
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total
