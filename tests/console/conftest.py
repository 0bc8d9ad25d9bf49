"""The API as a process would serve it: uvicorn, the real broker with a trainer, the real engine."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.async_api import Page, async_playwright

from console import serve
from schemas import config
from schemas.series import Series
from stream.local.process import free_port
from stream.refresh.trainer import Trainer
from stream.store import history, migrations
from stream.store.clickhouse import Client
from tests.console.browser import PATIENCE_MS, served
from tests.support import START_TIMEOUT_S, ClickHouseAddress, insert_samples, running

START_MS = 1_760_000_000_000
STEP_MS = 60_000
SAMPLES = 3_000
SPIKE_AT = 2_500
METRICS = ("web_response", "throughput")


@pytest.fixture
def cfg(kafka: str, prefix: str, clickhouse: ClickHouseAddress, tmp_path: Path) -> config.Config:
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
        snapshots=config.Snapshots(url=str(tmp_path / "snapshots")),
        trainer=config.Trainer(group_id=f"{prefix}trainer", processes=1),
        metrics=config.Metrics(worker_port=0, sink_port=0, coordinator_port=0, trainer_port=0),
        console=config.Console(port=0, pages_port=0, find_wait_ms=60_000, requests_per_minute=100_000),
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
    times = [START_MS + n * STEP_MS for n in range(SAMPLES)]
    for metric in METRICS:
        series = Series(metric, {"service": "shop"})
        alert = (np.arange(SAMPLES) == SPIKE_AT).astype(np.uint8)
        insert_samples(client, series.text(), times, wave(metric), alert)
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
    urls: list[str] = []
    async with (
        running(Trainer(cfg)),
        running(_Console(cfg, urls)),
        httpx.AsyncClient(base_url=urls[0], timeout=START_TIMEOUT_S) as client,
    ):
        yield client


class _Console:
    """The API, in the form of the other processes."""

    def __init__(self, cfg: config.Config, urls: list[str]) -> None:
        self._cfg, self._urls = cfg, urls

    async def run(self, stop: asyncio.Event, started: Callable[[str], None]) -> None:
        def known(url: str) -> None:
            self._urls.append(url)
            started(url)

        await serve.run(self._cfg, stop, known)


@pytest.fixture
async def address(api: httpx.AsyncClient, tmp_path: Path) -> AsyncIterator[str]:
    """Where the pages are."""
    port = free_port()
    options = ["--set", f"console.pages_port={port}", "--set", f"console.api_url={api.base_url}"]
    async with served(port, options, tmp_path) as url:
        yield url


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "install chromium: the pages are tested in it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        await browser.close()


@pytest.fixture
def file() -> dict[str, str | bytes]:
    """Two metrics and a label, to upload."""
    rows = zip(wave("web_response"), wave("throughput"), strict=True)
    lines = [f"{START_MS + n * STEP_MS},{a},{b},web-1" for n, (a, b) in enumerate(rows)]
    text = "\n".join(["when,response,throughput,host", *lines])
    return {"name": "shop.csv", "mimeType": "text/csv", "buffer": text.encode()}
