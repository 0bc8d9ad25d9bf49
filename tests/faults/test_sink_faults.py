"""ClickHouse away for long, deaf after an insert, slow, read-only, full: no row lost, none doubled."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.local.clickhouse import LocalClickHouse
from stream.local.process import free_port
from tests.faults.http_proxy import HttpProxy
from tests.integration.test_health import _ask
from tests.integration.test_sink import DEADLINE_S, Bench, Metric, Sent, _producer, bench, scores

__all__ = ["bench"]

PROGRAM = (
    "import sys, msgspec; from schemas.config import Config; from stream.store import sink; "
    "sink.main(msgspec.json.decode(sys.stdin.buffer.read(), type=Config))"
)
FAILURES = "tocsin_sink_insert_failures_total"
MB = 1024 * 1024


async def _until(condition: Callable[[], Any]) -> None:
    began = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() - began < DEADLINE_S
        await asyncio.sleep(0.1)


def _ready(url: str) -> tuple[int, dict[str, str]]:
    status, said = _ask(url.replace("/metrics", "/readyz"))
    return status, said["problems"]


def _through(bench: Bench, proxy: HttpProxy) -> Bench:
    address = msgspec.structs.replace(bench.cfg.clickhouse, port=proxy.port)
    return Bench(msgspec.structs.replace(bench.cfg, clickhouse=address))


@contextlib.asynccontextmanager
async def _refusing(bench: Bench, how: str) -> AsyncIterator[None]:
    """The engine's own check of a setting of the table, as an operator would make it refuse."""
    name, value = how.split("=")
    await bench.select(f"ALTER TABLE telemetry MODIFY SETTING {name} = {value}")
    try:
        yield
    finally:
        await bench.select(f"ALTER TABLE telemetry RESET SETTING {name}")


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("min_free_disk_bytes_to_perform_insert=1000000000000000000", "not_enough_space"),
        ("table_readonly=1", "table_is_permanently_read_only"),
    ],
)
async def test_a_table_that_refuses_rows_loses_none_and_the_cause_is_named_once(
    bench: Bench, metric: Metric, capsys: pytest.CaptureFixture[str], how: str, cause: str
) -> None:
    async with bench.sink() as sink:
        first = await bench.send(0, 5)
        await bench.wait_for(first)
        await _until(lambda: _ready(sink.metrics_url) == (200, {}))
        async with _refusing(bench, how):
            await bench.send(5, 10)
            await _until(lambda: metric(sink.metrics_url, FAILURES).get(f'cause="{cause}"', 0) >= 3)
            status, problems = await asyncio.to_thread(_ready, sink.metrics_url)
            assert (status, list(problems)) == (503, ["clickhouse"])
            assert cause.upper() in problems["clickhouse"] or "enough free space" in problems["clickhouse"]
            assert _ask(sink.metrics_url.replace("/metrics", "/healthz"))[0] == 200
            assert metric(sink.metrics_url, "tocsin_sink_clickhouse_up") == {"": 0}
        await bench.wait_for(Sent(1500, 30))
        await _until(lambda: _ready(sink.metrics_url) == (200, {}))
        assert set(metric(sink.metrics_url, FAILURES)) == {f'cause="{cause}"'}
    out = capsys.readouterr().out
    assert out.count("ClickHouse is away") == out.count("ClickHouse is back") == 1, out
    assert cause in out


async def test_a_user_without_the_right_to_write_is_waited_for(
    bench: Bench, metric: Metric, local_clickhouse: LocalClickHouse
) -> None:
    async with HttpProxy(local_clickhouse.port) as proxy, _through(bench, proxy).sink() as sink:
        await bench.wait_for(await bench.send(0, 5))
        proxy.readonly = True
        await bench.send(5, 10)
        await _until(lambda: metric(sink.metrics_url, FAILURES).get('cause="readonly"', 0) >= 3)
        assert (await asyncio.to_thread(_ready, sink.metrics_url))[0] == 503
        proxy.readonly = False
        await bench.wait_for(Sent(1500, 30))


async def test_an_insert_whose_reply_is_lost_doubles_nothing_under_the_views(
    bench: Bench, metric: Metric, local_clickhouse: LocalClickHouse
) -> None:
    async with HttpProxy(local_clickhouse.port) as proxy, _through(bench, proxy).sink() as sink:
        await bench.wait_for(await bench.send(0, 5))
        for table in ("telemetry", "anomalies"):  # so that rows that came twice still lie there twice
            await bench.select(f"SYSTEM STOP MERGES {table}")
        proxy.lose = {b"telemetry", b"anomalies", b"series"}
        await bench.send(5, 20)
        rows = "tocsin_sink_rows_total"  # acknowledged ones, so each insert whose reply was lost came again
        await _until(lambda: metric(sink.metrics_url, rows).get('table="anomalies"', 0) >= 50)
        await bench.wait_for(Sent(2500, 50))
        assert not proxy.lose
        _, stored = await bench.counts()
        hours = (await bench.select("SELECT sum(samples) FROM telemetry_hourly"))[0][0]
        failures = metric(sink.metrics_url, FAILURES)
    assert failures == {'cause="unreachable"': 3}
    assert stored.samples > 2500, "the insert whose reply was lost was applied"
    assert stored.revisions > 50
    assert hours == 2500


async def test_a_slow_clickhouse_is_no_failure(
    bench: Bench, metric: Metric, local_clickhouse: LocalClickHouse
) -> None:
    async with HttpProxy(local_clickhouse.port) as proxy, _through(bench, proxy).sink() as sink:
        await bench.wait_for(await bench.send(0, 5))
        proxy.delay_s = 0.7
        await bench.send(5, 45)
        await bench.wait_for(Sent(5000, 100))
        assert proxy.delayed >= 5
        assert not metric(sink.metrics_url, FAILURES)
        assert (await asyncio.to_thread(_ready, sink.metrics_url)) == (200, {})


async def test_memory_stays_flat_while_clickhouse_is_away_and_the_topic_grows(
    bench: Bench, metric: Metric, local_clickhouse: LocalClickHouse, tmp_path: Path
) -> None:
    cfg = msgspec.structs.replace(
        bench.cfg, metrics=msgspec.structs.replace(bench.cfg.metrics, sink_port=free_port())
    )
    url = f"http://127.0.0.1:{cfg.metrics.sink_port}/metrics"
    first = await bench.send(0, 5)
    with (tmp_path / "sink.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
        )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(cfg))
    process.stdin.close()
    try:
        await bench.wait_for(first)
        await asyncio.to_thread(local_clickhouse.stop)
        await _grow(bench, 5, 10)
        await _until(lambda: _count(metric, url) >= 3)
        before = _resident_bytes(process.pid)
        sent_bytes = await _grow(bench, 15, 150)
        tries = await asyncio.to_thread(_count, metric, url)
        await _until(lambda: _count(metric, url) >= tries + 5)
        grown = _resident_bytes(process.pid) - before
        print(f"topic grew by {sent_bytes / MB:.0f} MB, the sink by {grown / MB:.1f} MB")
        assert sent_bytes > 100 * MB
        assert grown < 20 * MB
        assert _ready(url)[0] == 503
        await asyncio.to_thread(local_clickhouse.start)
        await bench.wait_for(Sent(500 + 160 * 20_000, 10))
    finally:
        if not local_clickhouse.child.alive:
            await asyncio.to_thread(local_clickhouse.start)
        process.terminate()
        await process.wait()


async def _grow(bench: Bench, first: int, messages: int) -> int:
    """Send scores only, 20 000 samples a message and 10 ms apart; the bytes sent."""
    size = 0
    async with _producer(bench.cfg) as producer:
        for number in range(first, first + messages):
            value = scores(number + 1000, 20_000, 10)  # far from the times of what was sent before
            size += len(value)
            await producer.send(bench.cfg.topics.scores.name, value, partition=number % 3)
    return size


def _count(metric: Metric, url: str) -> float:
    return sum(metric(url, FAILURES).values())


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")
