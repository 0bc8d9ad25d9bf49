"""`python -m bench.sink`: rows a second through one sink process, bytes a row, and what panels wait for.

A backlog of scores is sent to a real broker first; then a sink works it off into the real engine: over HTTP
(`stream.local.clickhouse`, a process of its own, as a server would be) and embedded in the sink. The scores
follow a day and carry noise, so that they compress as real ones do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from detectors.protocol import Scored
from schemas import config
from stream import kafka, topics
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.process import free_port
from stream.output import encode_scores
from stream.store.clickhouse import Client

SERIES: Final = 1000
MINUTES_PER_MESSAGE: Final = 10
FIRST_MS: Final = 1_760_054_400_000  # midnight UTC
STALL_S: Final = 60.0
PROGRAM: Final = (
    "import sys, msgspec; from schemas.config import Config; from stream.store import sink; "
    "sink.main(msgspec.json.decode(sys.stdin.buffer.read(), type=Config))"
)

QUERIES: Final = {
    "one series, a day": "SELECT ts, value, score, lower, upper FROM telemetry_dedup "
    "WHERE series_id = {id:UInt64} AND toDate(ts) = '2025-10-10'",
    "50 series, a day, by hour": "SELECT series_id, hour, value_avg, score_max FROM telemetry_hourly "
    "WHERE hour >= '2025-10-10 00:00:00' AND hour < '2025-10-11 00:00:00' "
    "AND series_id IN (SELECT series_id FROM series_latest ORDER BY series_id LIMIT 50)",
    "all series, an hour": "SELECT series_id, max(score) FROM telemetry_dedup "
    "WHERE ts >= '2025-10-10 05:00:00' AND ts < '2025-10-10 06:00:00' GROUP BY series_id",
}


class CpuMeter:
    """CPU time and memory of a process, as the kernel tells them."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def seconds(self) -> float:
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        return int((self._folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Result(msgspec.Struct):
    """What was measured for one way to ClickHouse."""

    name: str
    rows: int
    rows_per_s: float
    sink_cores: float
    sink_rss_mb: float
    bytes_per_row: float
    queries_ms: dict[str, float]


def messages(minutes: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Scores of all series, some minutes at a time."""
    names = [f'cpu_seconds{{host="host-{i:04}",region="eu"}}' for i in range(SERIES)]
    base = rng.lognormal(3, 1, SERIES)
    for start in range(0, minutes, MINUTES_PER_MESSAGE):
        count = min(MINUTES_PER_MESSAGE, minutes - start)
        minute = np.repeat(np.arange(start, start + count), SERIES)
        expected = np.tile(base, count) * (1 + 0.3 * np.sin(minute / 1440 * 2 * np.pi))
        noise = rng.standard_normal(len(minute))
        score = (np.abs(noise) * 0.3).astype(np.float32)
        scored = Scored(
            series=names,
            series_index=np.tile(np.arange(SERIES), count),
            ts_ms=FIRST_MS + minute * 60_000,
            values=np.round(expected * (1 + 0.05 * noise), 3),
            score=score,
            level=score * np.float32(0.5),
            expected=expected.astype(np.float32),
            lower=(expected * 0.8).astype(np.float32),
            upper=(expected * 1.2).astype(np.float32),
            state=np.zeros(len(minute), np.uint8),
            anomaly_started_ms=np.where(score > 1.2, FIRST_MS, 0),
            events=[],
        )
        yield from encode_scores(scored, "all")


async def preload(cfg: config.Config, samples: int) -> int:
    await topics.ensure(cfg)
    producer = kafka.producer(cfg.kafka, max_batch_size=kafka.BATCH_BYTES)
    await producer.start()
    minutes = max(1, samples // SERIES)
    for number, message in enumerate(messages(minutes, np.random.default_rng(1))):
        partition = number % cfg.topics.scores.partitions
        await producer.send(cfg.topics.scores.name, message, partition=partition)
    await producer.stop()
    return minutes * SERIES


@contextmanager
def sink_process(cfg: config.Config) -> Iterator[subprocess.Popen[bytes]]:
    """`tocsin sink` with its configuration on standard input."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE)
    try:
        if process.stdin is not None:
            process.stdin.write(msgspec.json.encode(cfg))
            process.stdin.close()
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def wait_for_rows(cfg: config.Config, count: int) -> int:
    """Wait until ClickHouse has acknowledged so many samples; raises when nothing moves."""
    newest, moved = -1, time.monotonic()
    while True:
        rows = _acknowledged(cfg)
        if rows >= count:
            return rows
        if rows > newest:
            newest, moved = rows, time.monotonic()
        if time.monotonic() - moved > STALL_S:
            raise RuntimeError(f"the sink stands at {newest} of {count} rows")
        time.sleep(0.02)


def _acknowledged(cfg: config.Config) -> int:
    url = f"http://{cfg.metrics.host}:{cfg.metrics.sink_port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            page = response.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0
    found = re.search(r'^tocsin_sink_rows_total\{table="telemetry"\} (\S+)$', page, re.MULTILINE)
    return int(float(found[1])) if found else 0


def drain(cfg: config.Config, name: str, total: int) -> Result:
    """Work the backlog off; the rate is taken from a tenth of it to all of it."""
    with sink_process(cfg) as process:
        first = wait_for_rows(cfg, total // 10)
        cpu = CpuMeter(process.pid)
        began_s, began_cpu_s = time.monotonic(), cpu.seconds()
        last = wait_for_rows(cfg, total)
        wall_s, cpu_s = time.monotonic() - began_s, cpu.seconds() - began_cpu_s
        rss_mb = cpu.rss_bytes() / 1e6
    return Result(name, total, (last - first) / wall_s, cpu_s / wall_s, rss_mb, 0.0, {})


def look(cfg: config.Config, result: Result) -> None:
    """Bytes a row once merged, and the best of five times of each query."""
    client = Client.connect(cfg.clickhouse)
    try:
        client.command("OPTIMIZE TABLE telemetry FINAL")
        stored = client.rows(
            "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts "
            "WHERE active AND table = 'telemetry' AND database = {database:String}",
            {"database": cfg.clickhouse.database},
        )[0]
        if stored[0] != result.rows:
            raise RuntimeError(f"{stored[0]} rows are stored, {result.rows} were sent")
        result.bytes_per_row = stored[1] / stored[0]
        some_id = client.rows("SELECT max(series_id) FROM series_latest")[0][0]
        for name, sql in QUERIES.items():
            times = []
            for _ in range(5):
                began_s = time.perf_counter()
                if not client.rows(sql, {"id": some_id}):
                    raise RuntimeError(f"nothing found: {name}")
                times.append(time.perf_counter() - began_s)
            result.queries_ms[name] = 1000 * min(times)
    finally:
        client.close()


def measure(samples: int, ways: list[str]) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as broker:
        cfg = configure(broker.bootstrap, config.ClickHouse())
        total = asyncio.run(preload(cfg, samples))
        if "http" in ways:
            with LocalClickHouse(Path(folder) / "clickhouse") as server:
                address = config.ClickHouse(host=server.host, port=server.port)
                results.append(one_way(broker.bootstrap, "http", address, total))
        if "embedded" in ways:
            address = config.ClickHouse(dsn=f"chdb://{folder}/embedded")
            results.append(one_way(broker.bootstrap, "embedded", address, total))
    return results


def one_way(bootstrap: str, name: str, address: config.ClickHouse, total: int) -> Result:
    cfg = configure(bootstrap, address, group_id=f"bench-{name}")
    result = drain(cfg, name, total)
    look(cfg, result)
    return result


def configure(bootstrap: str, address: config.ClickHouse, **sink: Any) -> config.Config:
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=bootstrap),
        clickhouse=address,
        sink=config.Sink(**sink),
        metrics=config.Metrics(sink_port=free_port()),
    )


def show(results: list[Result]) -> None:
    table = Table(title="One sink process, backlog of scores")
    for column in ("ClickHouse", "rows", "rows/s", "sink cores", "sink MB", "bytes/row", *QUERIES):
        table.add_column(column, justify="left" if column == "ClickHouse" else "right")
    for r in results:
        times = (f"{r.queries_ms[name]:.0f} ms" for name in QUERIES)
        numbers = (f"{r.rows:,}", f"{r.rows_per_s:,.0f}", f"{r.sink_cores:.2f}", f"{r.sink_rss_mb:.0f}")
        table.add_row(r.name, *numbers, f"{r.bytes_per_row:.1f}", *times)
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    parser.add_argument("--samples", type=int, default=5_000_000, help="size of the backlog")
    parser.add_argument("--way", action="append", choices=("http", "embedded"), help="both when not given")
    args = parser.parse_args()
    results = measure(args.samples, args.way or ["http", "embedded"])
    show(results)
    if args.json:
        print(json.dumps(msgspec.to_builtins(results)))


if __name__ == "__main__":
    main()
