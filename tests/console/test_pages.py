"""The pages as people use them: a real Chromium, the served API with a trainer behind it."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from playwright.async_api import Page, expect

from schemas import config
from schemas.request import Cancel, Request
from stream.kafka.following import committed
from stream.local.process import free_port
from stream.refresh import artifacts
from tests.console.browser import choice, downloaded, find, served, settled, upload
from tests.console.conftest import SAMPLES, START_MS
from tests.console.test_api import SPIKE, SPIKE_TEXT
from tests.console.test_control import SERIES, artifact
from tests.console.test_pipeline import letter, send

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

RANGES = """() => Object.entries(document.querySelector('.js-plotly-plot')._fullLayout)
    .filter(([name]) => /^xaxis/.test(name)).map(([, axis]) => axis.range.map(Number.isFinite(axis.range[0])
    ? Number : text => new Date(text).getTime()))"""
"""Of every axis of time, in milliseconds."""


def flagged(table: bytes) -> list[dict[str, str]]:
    """Rows of a downloaded table that are anomalous."""
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert len(rows) == SAMPLES
    return [row for row in rows if row["anomaly"] == "1"]


async def test_a_file_is_uploaded_asked_about_seen_and_downloaded(
    page: Page, address: str, file: dict[str, str | bytes]
) -> None:
    await page.goto(address)
    await upload(page, file)
    await find(page)
    marks = page.get_by_test_id("stPlotlyChart").locator("g.points path.point")
    await expect(marks.first).to_be_visible()
    await zoom_is_linked(page)

    await choice(page, "Table").click()
    await expect(page.get_by_test_id("stDataFrame")).to_contain_text(f"{SPIKE:%Y-%m-%d %H:%M:%S}")
    found = flagged(await downloaded(page, "Download CSV"))
    assert SPIKE_TEXT in [row["timestamp"] for row in found]
    with zipfile.ZipFile(io.BytesIO(await downloaded(page, "Download all as ZIP"))) as archive:
        assert sorted(archive.namelist()) == ["response-default.csv", "throughput-default.csv"]
        for name in archive.namelist():
            assert SPIKE_TEXT in [row["timestamp"] for row in flagged(archive.read(name))]

    await choice(page, "Statistics").click()
    await expect(page.get_by_text("Coefficient of variation").first).to_be_visible()
    await choice(page, "Analysis").click()
    await expect(page.get_by_role("heading", name="Stationarity")).to_be_visible()
    await expect(page.get_by_text(re.compile(r"^2[34](\.\d)? h$"))).to_be_visible()


async def zoom_is_linked(page: Page) -> None:
    """Dragging over one metric zooms all of them to the same time."""
    before = await page.evaluate(RANGES)
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    box = await plot.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 60)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 62, steps=5)
    await page.mouse.up()
    await page.wait_for_function(f"before => ({RANGES})()[0][0] > before", arg=before[0][0])
    after = await page.evaluate(RANGES)
    assert len(after) == 4  # value and level of two metrics
    assert all(each == after[0] for each in after)
    assert after[0][1] - after[0][0] < 0.5 * (before[0][1] - before[0][0])


async def test_telemetry_is_asked_about_in_russian_by_two_models_side_by_side(
    page: Page, address: str
) -> None:
    await page.goto(f"{address}/?lang=ru")
    await page.get_by_role("combobox", name="Модели").click()
    await page.get_by_role("option", name="large").click()
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Найти аномалии").click()
    await expect(page.get_by_text("Полоса и уровень модели")).to_be_visible()
    await choice(page, "Сравнение").click()
    await expect(page.get_by_role("heading", name="Согласие")).to_be_visible()
    await choice(page, "English").click()
    await expect(page.get_by_role("heading", name="Agreement")).to_be_visible()
    await expect(page.get_by_role("heading", name="Side by side")).to_be_visible()


async def test_all_metrics_of_a_service_are_looked_at_together(page: Page, address: str) -> None:
    await page.goto(address)
    await choice(page, "Together").first.click()
    await expect(page.get_by_role("combobox", name="All metrics with the label")).to_have_value(
        "service = shop"
    )
    await find(page)
    await expect(page.get_by_test_id("stPlotlyChart").locator("g.points path.point").first).to_be_visible()
    await choice(page, "Together").last.click()
    await expect(
        page.get_by_role("heading", name="What multidimensional says of all metrics")
    ).to_be_visible()
    episodes = page.get_by_test_id("stDataFrame").first
    await expect(episodes).to_contain_text(f"{SPIKE:%Y-%m-%d %H:%M:%S}")
    await expect(episodes).to_contain_text(re.compile(r"web_response.* \d+%"))
    await choice(page, "Table").click()
    spike = next(
        row for row in flagged(await downloaded(page, "Download CSV")) if row["timestamp"] == SPIKE_TEXT
    )
    shares = [float(spike[name]) for name in spike if name.startswith("contribution.")]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(1.0, abs=1e-4)


async def test_the_rows_of_a_query_are_drawn_and_asked_about(page: Page, address: str) -> None:
    await page.goto(address)
    await choice(page, "SQL").click()
    sql = page.get_by_role("textbox", name="SELECT with a time column")
    await sql.fill("SELECT now() AS t, file('/etc/passwd') AS x")
    await page.get_by_role("button", name="Run the query").click()
    await expect(page.get_by_role("alert")).to_contain_text("the function file is not allowed here")
    await sql.fill(
        "SELECT ts AS timestamp, value AS seconds FROM telemetry_dedup "
        f"WHERE series_id = xxHash64('{SERIES}')"
    )
    await page.get_by_role("button", name="Run the query").click()
    await expect(page.locator(".js-plotly-plot")).to_be_visible()
    await find(page)
    await choice(page, "Table").click()
    await expect(page.get_by_test_id("stDataFrame")).to_contain_text(f"{SPIKE:%Y-%m-%d %H:%M:%S}")


async def test_a_file_without_times_is_explained(page: Page, address: str) -> None:
    await page.goto(address)
    await upload(page, {"name": "bad.csv", "mimeType": "text/csv", "buffer": b"when,load\nyesterday,1\n"})
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("bad.csv, line 2: 'yesterday' is not ISO 8601")


async def requests(cfg: config.Config) -> list[Any]:
    """What the trainers were asked."""
    records = [each async for each in committed(cfg.kafka, cfg.topics.requests.name)]
    return [msgspec.msgpack.decode(each.value or b"", type=Request) for each in records]


async def test_work_that_takes_long_is_shown_and_can_be_cancelled(
    page: Page, address: str, api: httpx.AsyncClient, cfg: config.Config
) -> None:
    await page.goto(address)
    await find(page, "aer")  # a fit takes longest
    await expect(page.get_by_text(re.compile(r"^aer · .* · \d+%$")).first).to_be_visible()
    await expect(page.get_by_role("progressbar").first).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_text("Models are at work")).to_have_count(0)
    await expect(page.get_by_text("Choose models on the left")).to_be_visible()
    assert any(isinstance(each, Cancel) for each in await requests(cfg))


async def test_a_model_is_adopted_and_another_comes_back(
    page: Page, address: str, cfg: config.Config
) -> None:
    older, newer = artifact(START_MS), artifact(START_MS + 1000)
    for each in (older, newer):
        await asyncio.to_thread(artifacts.store_of(cfg).put, each)
        await artifacts.publish(cfg, each, serving=each is older)

    async def serving(expected: str) -> None:
        async with asyncio.timeout(60):
            while expected not in [
                s.manifest.artifact_id for s in await artifacts.on_topic(cfg) if s.serving
            ]:
                continue

    await page.goto(f"{address}/models")
    for row, button, then in (
        (1, "Adopt", newer.manifest.artifact_id),
        (0, "Roll back", older.manifest.artifact_id),
    ):
        table = page.get_by_test_id("stDataFrame")
        await expect(table).to_contain_text("waits" if row else "in use")
        await settled(page)
        await table.click(position={"x": 16, "y": 52 + 35 * row})  # the box that chooses a row
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_text(f"Sent: {button}")).to_be_visible()
        await serving(then)
        await page.reload()


async def test_the_pipeline_shows_lag_and_what_could_not_be_read_in_both_languages(
    page: Page, address: str, cfg: config.Config
) -> None:
    await page.goto(f"{address}/pipeline")
    await expect(page.get_by_text("Every message could be read")).to_be_visible()
    await send(cfg, cfg.inputs[0].topic, [b"1", b"2", b"3"])
    await send(cfg, cfg.topics.deadletters.name, [letter(7, b"<b>no</b> JSON \x00")])
    await expect(page.get_by_test_id("stMetric").filter(has_text="Waiting")).to_contain_text("3")
    await page.get_by_role("button", name="Look again").click()
    letters = page.get_by_test_id("stDataFrame").last
    await expect(letters).to_contain_text("telemetry/3/7")
    await letters.click(position={"x": 16, "y": 52})  # the box that chooses a row
    await expect(page.get_by_test_id("stCode")).to_contain_text("<b>no</b> JSON \\x00")
    await page.get_by_role("link", name="Pipeline").wait_for()
    await choice(page, "Русский").click()
    await expect(page.get_by_role("heading", name="Недоставленные сообщения")).to_be_visible()
    await expect(page.get_by_role("link", name="Конвейер")).to_be_visible()


async def test_a_page_without_an_api_says_what_to_start(page: Page, tmp_path: Path) -> None:
    port = free_port()
    options = [
        "--set",
        f"console.pages_port={port}",
        "--set",
        f"console.api_url=http://127.0.0.1:{free_port()}",
    ]
    async with served(port, options, tmp_path) as url:
        await page.goto(url)
        await expect(page.get_by_role("alert")).to_contain_text("tocsin console")


async def test_a_port_that_is_taken_is_told(address: str) -> None:
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "stream.cli", "pages", "--set", f"console.pages_port={port}"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert f"Port {port} for the pages is in use" in said.decode()
