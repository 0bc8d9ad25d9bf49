"""The Live page: what workers say is on it within seconds, and what people answer reaches the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from playwright.async_api import Page, expect

from schemas import config
from schemas.control import Label
from stream import kafka as clients
from stream.formats.columnar import encode_columnar
from stream.formats.names import canonical
from stream.store.sink import SinkLoop
from stream.worker.worker import Worker
from tests.console.test_control import SERIES, commands, insert_anomaly
from tests.support import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MINUTE_MS = 60_000
HISTORY = 1_500
NAME = canonical("latency", {"service": "till"})
BAND_END = (
    """() => new Date(document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range[1]).getTime()"""
)


@pytest.fixture
def cfg(cfg: config.Config, prefix: str) -> config.Config:
    """With a worker and a sink, too."""
    return msgspec.structs.replace(
        cfg,
        inputs=[msgspec.structs.replace(cfg.inputs[0], format="columnar")],
        worker=config.Worker(group_id=f"{prefix}worker"),
        sink=config.Sink(group_id=f"{prefix}sink", batch_interval_ms=200),
    )


async def produce(cfg: config.Config, ts_ms: Sequence[int], values: Sequence[float]) -> None:
    producer = clients.producer(cfg.kafka)
    await producer.start()
    message = encode_columnar(
        [NAME], np.zeros(len(ts_ms), np.int64), np.array(ts_ms, np.int64), np.array(values, np.float64)
    )
    await producer.send_and_wait(cfg.inputs[0].topic, message, partition=0)
    await producer.stop()


async def test_an_anomaly_is_on_the_page_seconds_after_it_was_produced_and_its_band_goes_on(
    page: Page, address: str, cfg: config.Config
) -> None:
    now_ms = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
    times = [now_ms + (n - HISTORY) * MINUTE_MS for n in range(HISTORY)]
    values = 10 + 0.1 * np.random.default_rng(3).normal(size=HISTORY)
    async with running(Worker(cfg)), running(SinkLoop(cfg)):
        await produce(cfg, times, values.tolist())
        await page.goto(f"{address}/live")
        await expect(page.get_by_text("No anomalies yet")).to_be_visible()
        began = time.monotonic()
        await produce(cfg, [now_ms], [40.0])
        await expect(page.get_by_test_id("stDataFrame")).to_contain_text("latency")
        seconds = time.monotonic() - began
        print(f"on the page after {seconds:.1f} s")
        assert seconds < 30  # about 4 on an idle machine, of which the page waits 3
        await expect(page.get_by_test_id("stPlotlyChart").locator("g.points path.point")).not_to_have_count(0)
        seen = await page.evaluate(BAND_END)
        later = [now_ms + (1 + n) * MINUTE_MS for n in range(8)]
        await produce(cfg, later, [10.0] * len(later))
        await page.wait_for_function(f"seen => ({BAND_END})() > seen", arg=seen)


async def test_an_anomaly_is_seen_previewed_labelled_and_muted(
    page: Page, address: str, cfg: config.Config
) -> None:
    await asyncio.to_thread(insert_anomaly, cfg)
    await page.goto(f"{address}/live")
    await expect(page.get_by_text("shop is slow")).to_be_visible()
    await expect(page.get_by_test_id("stDataFrame")).to_contain_text("far above")
    await page.get_by_text("What “nothing was wrong” would change").click()
    await expect(page.get_by_test_id("stCode")).to_contain_text(
        "no alert budget can be proposed"
    )  # no samples
    assert await commands(cfg) == []
    await page.get_by_role("button", name="It was one").click()
    await expect(page.get_by_text("Sent: It was one")).to_be_visible()
    await page.get_by_role("button", name="Mute for an hour").click()
    await expect(page.get_by_text("Sent: Mute for an hour")).to_be_visible()
    mute, label = sorted(await commands(cfg), key=lambda each: isinstance(each, Label))
    assert (label.anomaly_id, label.verdict) == ("a1", "true")
    assert mute.matcher == SERIES
