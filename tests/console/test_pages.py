"""The pages as people use them: a real Chromium, the served API with a trainer behind it."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from schemas import config
from schemas.control import Label
from stream.local.process import Child, answers, free_port
from tests.console.conftest import SAMPLES, START_MS, STEP_MS, wave
from tests.console.test_api import SPIKE
from tests.console.test_control import SERIES, commands, insert_anomaly
from tests.console.test_pipeline import letter, send
from tests.support import START_TIMEOUT_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SHOTS = os.environ.get("TOCSIN_SHOTS")
"""A folder for pictures of the pages, for docs/img."""

PATIENCE_MS = 120_000
"""For what takes a second on an idle machine: the trainer's first answer waits for its compiled kernels."""

expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def served(port: int, options: list[str], folder: Path) -> AsyncIterator[str]:
    """`tocsin pages` as a process of its own."""
    pages, url = Child("pages", folder), f"http://127.0.0.1:{port}"
    await asyncio.to_thread(
        pages.start,
        [sys.executable, "-m", "stream.cli", "pages", *options],
        ready=lambda: answers(f"{url}/_stcore/health"),
        timeout_s=START_TIMEOUT_S,
    )
    try:
        yield url
    finally:
        await asyncio.to_thread(pages.stop, START_TIMEOUT_S)


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
    rows = zip(wave("web_response"), wave("throughput"), strict=True)
    lines = [f"{START_MS + n * STEP_MS},{a},{b},web-1" for n, (a, b) in enumerate(rows)]
    text = "\n".join(["when,response,throughput,host", *lines])
    return {"name": "shop.csv", "mimeType": "text/csv", "buffer": text.encode()}


async def shot(page: Page, name: str) -> None:
    if SHOTS:
        await page.mouse.move(0, 0)
        await page.wait_for_timeout(600)  # what fades in
        await page.screenshot(path=Path(SHOTS) / f"{name}.png")


def choice(page: Page, name: str) -> Locator:
    """A button of a segmented control."""
    return page.get_by_role("radio", name=name, exact=True).or_(
        page.get_by_role("button", name=name, exact=True)
    )


async def upload(page: Page, file: dict[str, str | bytes]) -> None:
    await choice(page, "CSV file").click()
    await page.locator("input[type=file]").set_input_files(file)


async def downloaded(page: Page, button: str) -> bytes:
    async with page.expect_download() as download:
        await page.get_by_role("button", name=button).click()
    path = await (await download.value).path()
    return await asyncio.to_thread(path.read_bytes)


async def test_a_file_is_uploaded_asked_about_seen_and_downloaded(
    page: Page, address: str, file: dict[str, str | bytes]
) -> None:
    await page.goto(address)
    await upload(page, file)
    await page.get_by_role("button", name="Find anomalies").click()
    marks = page.get_by_test_id("stPlotlyChart").locator("g.points path.point")
    await expect(marks.first).to_be_visible()
    await shot(page, "console-explore")

    await choice(page, "Table").click()
    await expect(page.get_by_test_id("stDataFrame")).to_contain_text(f"{SPIKE:%Y-%m-%d %H:%M:%S}")
    rows = list(csv.DictReader(io.StringIO((await downloaded(page, "Download CSV")).decode())))
    assert len(rows) == SAMPLES
    flagged = [row["timestamp"] for row in rows if row["anomaly"] == "1"]
    assert SPIKE.isoformat(timespec="milliseconds").replace("+00:00", "Z") in flagged
    with zipfile.ZipFile(io.BytesIO(await downloaded(page, "Download all as ZIP"))) as archive:
        assert sorted(archive.namelist()) == ["response-default.csv", "throughput-default.csv"]

    await choice(page, "Statistics").click()
    await expect(page.get_by_text("Coefficient of variation").first).to_be_visible()
    await expect(page.get_by_role("heading", name="All metrics together")).to_be_visible()
    await choice(page, "Analysis").click()
    await expect(page.get_by_role("heading", name="Stationarity")).to_be_visible()
    await expect(page.get_by_text(re.compile(r"^2[34](\.\d)? h$"))).to_be_visible()


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
    await shot(page, "console-compare-ru")
    await choice(page, "English").click()
    await expect(page.get_by_role("heading", name="Agreement")).to_be_visible()


async def test_an_anomaly_is_seen_labelled_and_muted_on_the_live_page(
    page: Page, address: str, cfg: config.Config
) -> None:
    await asyncio.to_thread(insert_anomaly, cfg)
    await page.goto(f"{address}/live")
    await expect(page.get_by_text("shop is slow")).to_be_visible()
    await expect(page.get_by_test_id("stDataFrame")).to_contain_text("far above")
    await page.get_by_role("button", name="It was one").click()
    await expect(page.get_by_text("Sent: It was one")).to_be_visible()
    await page.get_by_role("button", name="Mute for an hour").click()
    await expect(page.get_by_text("Sent: Mute for an hour")).to_be_visible()
    mute, label = sorted(await commands(cfg), key=lambda each: isinstance(each, Label))
    assert (label.anomaly_id, label.verdict) == ("a1", "true")
    assert mute.matcher == SERIES


async def test_a_file_without_times_is_explained(page: Page, address: str) -> None:
    await page.goto(address)
    await upload(page, {"name": "bad.csv", "mimeType": "text/csv", "buffer": b"when,load\nyesterday,1\n"})
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("bad.csv, line 2: 'yesterday' is not ISO 8601")


async def test_work_that_takes_long_is_shown_and_can_be_cancelled(
    page: Page, address: str, api: httpx.AsyncClient
) -> None:
    await page.goto(address)
    await page.get_by_role("combobox", name="Models").click()
    await page.get_by_role("option", name="prophet").click()
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Find anomalies").click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_text("Models are at work")).to_have_count(0)
    await expect(page.get_by_text("Choose models on the left")).to_be_visible()


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
    await letters.locator("canvas").first.click(position={"x": 16, "y": 52})  # the box that chooses a row
    await expect(page.get_by_test_id("stCode")).to_contain_text("<b>no</b> JSON \\x00")
    await shot(page, "console-pipeline")
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
