"""The API as a process would serve it: uvicorn, the real broker with a trainer, the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from console import serve
from schemas import config
from schemas.series import Series
from stream import history, migrations
from stream.clickhouse import Client
from stream.trainer import Trainer
from tests.support import ClickHouseAddress

START_MS = 1_760_000_000_000
STEP_MS = 60_000
SAMPLES = 3_000
SPIKE_AT = 2_500
METRICS = ("web_response", "throughput")
DEADLINE_S = 90.0


@pytest.fixture
def cfg(kafka: str, prefix: str, clickhouse: ClickHouseAddress) -> config.Config:
    topic = config.Topic
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=kafka),
        inputs=[config.Input(topic=f"{prefix}telemetry", partitions=2)],
        topics=config.Topics(
            **{
                name: topic(name=f"{prefix}{name}", partitions=2)
                for name in config.Topics.__struct_fields__
                if name != "replication_factor"
            }
        ),
        clickhouse=config.ClickHouse(
            host=clickhouse.host, port=clickhouse.port, database=clickhouse.database
        ),
        trainer=config.Trainer(group_id=f"{prefix}trainer", processes=1),
        metrics=config.Metrics(worker_port=0, sink_port=0, coordinator_port=0, trainer_port=0),
        console=config.Console(port=0, pages_port=0, find_wait_ms=60_000),
    )


def wave(metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A daily wave with noise and one spike."""
    noise = np.random.default_rng(len(metric)).normal(size=SAMPLES)
    values = 10 + np.sin(np.arange(SAMPLES) / 1440 * 2 * np.pi) + 0.1 * noise
    values[SPIKE_AT] += 8
    return values


def store(cfg: config.Config) -> None:
    """Two series of a service, as the sink writes them."""
    client = Client.connect(cfg.clickhouse, create=True)
    migrations.apply(client, cfg.clickhouse)
    times = pa.array([START_MS + n * STEP_MS for n in range(SAMPLES)], pa.timestamp("ms", "UTC"))
    nothing = pa.array(np.full(SAMPLES, np.nan, np.float32))
    for metric in METRICS:
        series = Series(metric, {"service": "shop"})
        columns = {
            "series_id": pa.array(np.full(SAMPLES, history.series_id(series.text()), np.uint64)),
            "ts": times,
            "value": pa.array(wave(metric)),
            **dict.fromkeys(("score", "level", "expected", "lower", "upper"), nothing),
            "state": pa.array(np.zeros(SAMPLES, np.uint8)),
            "alert": pa.array((np.arange(SAMPLES) == SPIKE_AT).astype(np.uint8)),
        }
        client.insert("telemetry", pa.table(columns))
        first, last = START_MS, START_MS + (SAMPLES - 1) * STEP_MS
        client.command(
            "INSERT INTO series SELECT {id:UInt64}, {text:String}, {metric:String}, map('service', 'shop'), "
            "fromUnixTimestamp64Milli({first:Int64}), fromUnixTimestamp64Milli({last:Int64})",
            {
                "id": history.series_id(series.text()),
                "text": series.text(),
                "metric": metric,
                "first": first,
                "last": last,
            },
        )
    client.close()


@pytest.fixture
async def api(cfg: config.Config) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the served API, with a trainer behind it."""
    await asyncio.to_thread(store, cfg)
    stop, ready = asyncio.Event(), asyncio.Event()
    urls: list[str] = []
    trainer = asyncio.create_task(Trainer(cfg).run(stop, lambda _: ready.set()))
    serving = asyncio.create_task(serve.run(cfg, stop, urls.append))
    async with asyncio.timeout(DEADLINE_S):
        while not (urls and ready.is_set()):
            for task in (trainer, serving):
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)
    try:
        async with httpx.AsyncClient(base_url=urls[0], timeout=DEADLINE_S) as client:
            yield client
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(trainer, serving), DEADLINE_S)


@pytest.fixture
def secured(cfg: config.Config) -> config.Config:
    return msgspec.structs.replace(cfg, console=msgspec.structs.replace(cfg.console, token="s3cret"))
