"""What a page of four metrics by the minute for a month costs, from the request to the pixels.

python -m bench.console            # prints the table

The real API, engine and pages as processes, and a headless Chromium. The first rows are the steps of a page
that has nothing cached, for all four metrics; *drawn* is from the click on *Plot* to the last line on the
screen, as the browser measures it, with samples cached (*warm*) or to be loaded again (*cold*).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import pyarrow as pa
from playwright.sync_api import Page, sync_playwright

from console.pages import plots
from console.pages.client import Api, Running, samples
from console.pages.found import Found
from console.pages.texts import Say
from console.pages.theme import LIGHT
from console.windows import MAX_SAMPLES
from schemas import config
from schemas.series import Series
from stream import topics
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.process import Child, answers, free_port
from stream.refresh.frames import from_csv
from stream.store import history, migrations
from stream.store.clickhouse import Client

TELEMETRY: Final = Path(__file__).resolve().parents[1] / "examples" / "redlab" / "telemetry.csv.gz"
MODEL: Final = "large"
MOST: Final = {"max_samples": MAX_SAMPLES}
CACHED_S: Final = 61.0
"""After so long the pages load samples again (console.pages.choosing)."""

START_TIMEOUT_S: Final = 180.0
PATIENCE_MS: Final = 180_000

_DRAWN: Final = """(lines) => new Promise(done => {
  const began = performance.now();
  const look = () => document.querySelectorAll('.js-plotly-plot path.js-line').length >= lines
    ? requestAnimationFrame(() => done(performance.now() - began)) : requestAnimationFrame(look);
  [...document.querySelectorAll('button, [role=radio]')].find(b => b.textContent.trim() === 'Plot').click();
  look();
})"""


class Step(NamedTuple):
    """One row of the table; ``seconds`` is the median, ``best`` the least of the repetitions."""

    name: str
    seconds: float
    best: float
    note: str = ""


class Stage(NamedTuple):
    """The processes that take part."""

    cfg: config.Config
    api: Api
    pages_url: str


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Kafka, ClickHouse with a month of four metrics, trainer, API and pages."""
    ports = {name: free_port() for name in ("port", "pages_port")}
    with LocalKafka(folder / "kafka") as kafka, LocalClickHouse(folder / "clickhouse") as store:
        cfg = config.Config(
            kafka=config.Kafka(bootstrap_servers=kafka.bootstrap),
            clickhouse=config.ClickHouse(host=store.host, port=store.port),
            snapshots=config.Snapshots(url=str(folder / "snapshots")),
            metrics=config.Metrics(trainer_port=free_port()),
            console=config.Console(**ports),
        )
        asyncio.run(topics.ensure(cfg))
        _fill(cfg)
        settings = {
            "kafka.bootstrap_servers": cfg.kafka.bootstrap_servers,
            "clickhouse.port": store.port,
            "snapshots.url": cfg.snapshots.url,
            "metrics.trainer_port": cfg.metrics.trainer_port,
            **{f"console.{name}": port for name, port in ports.items()},
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
            yield Stage(cfg, api, f"http://127.0.0.1:{cfg.console.pages_port}")
        finally:
            for child in children.values():
                child.stop(15.0)


def _fill(cfg: config.Config) -> None:
    """The month of the example as the sink stores it."""
    frame = from_csv(str(TELEMETRY), TELEMETRY.name, 100_000)
    client = Client.connect(cfg.clickhouse, create=True)
    migrations.apply(client, cfg.clickhouse)
    nothing = pa.array(np.full(len(frame), np.nan, np.float32))
    for metric, values in frame.columns.items():
        text = Series(metric, {"service": "redlab"}).text()
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


def timed(name: str, times: int, work: Callable[[], Any], note: str = "") -> Step:
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return Step(name, median(spent), min(spent), note)


def pieces(api: Api, times: int) -> Iterator[Step]:
    """The parts that a page consists of, without a browser; for all four metrics."""
    http = httpx.Client(base_url=api.url, timeout=START_TIMEOUT_S)
    asked = [
        (f"/series/{each['id']}/window", {"fields": ["ts_ms", "value"], "start": each["first_seen"], **MOST})
        for each in api.series()
    ]
    replies = [http.get(path, params=params).content for path, params in asked]
    size = f"{sum(map(len, replies)) / 1e6:.1f} MB"
    yield timed("windows requested", times, lambda: [http.get(path, params=how) for path, how in asked], size)
    yield timed("windows decoded", times, lambda: [samples(each) for each in replies])
    windows = [samples(each) for each in replies]
    found = [_answered(api, each.series) for each in windows]
    yield timed("answers of a model", times, lambda: [api.job(job) for job, _ in found])
    panels = [
        plots.Panel(each.series, each.ts_ms, each.columns["value"], {MODEL: answer}, MODEL)
        for each, (_, answer) in zip(windows, found, strict=True)
    ]
    figure = plots.series(panels, [MODEL], LIGHT, Say("en"))
    note = f"{len(windows[0].ts_ms):,} samples each"
    yield timed("plot built", times, lambda: plots.series(panels, [MODEL], LIGHT, Say("en")), note)
    yield timed("plot as JSON", times, figure.to_json, f"{len(figure.to_json()) / 1e6:.2f} MB")


def _answered(api: Api, series: str) -> tuple[str, Found]:
    told = api.find({"models": [MODEL], "column_name": series})
    assert isinstance(told, Running), told
    while isinstance(answer := api.job(told.job_id), Running):
        time.sleep(0.2)
    return told.job_id, Found.of(answer[MODEL])


def drawn(url: str, times: int) -> Iterator[Step]:
    """What a person waits for."""
    chromium = shutil.which("chromium")
    assert chromium, "install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        box = page.get_by_role("combobox", name="Metrics")
        for _ in range(3):
            box.click()
            page.get_by_role("option").first.click()
            page.keyboard.press("Escape")
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot path.js-line').length >= 4")
        yield from _drawings(page, "", times)
        page.get_by_role("button", name="Find anomalies").click()
        page.get_by_text("Models are at work").wait_for()
        page.get_by_text("Models are at work").wait_for(state="detached")
        yield from _drawings(page, " with a model's band and anomalies", times)
        browser.close()


def _drawings(page: Page, what: str, times: int) -> Iterator[Step]:
    for kind, pause_s in (("warm", 0.0), ("cold", CACHED_S)):
        spent = []
        for _ in range(times):
            _elsewhere(page)
            time.sleep(pause_s)
            spent.append(page.evaluate(_DRAWN, 4) / 1000)
        yield Step(f"drawn, {kind}{what}", median(spent), min(spent))


def _elsewhere(page: Page) -> None:
    """Another view, so that the plot is made anew."""
    page.get_by_role("radio", name="Table", exact=True).or_(
        page.get_by_role("button", name="Table", exact=True)
    ).click()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length == 0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3, help="repetitions; medians and minima are printed")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as on:
        print(f"{'step':<48} {'median s':>9} {'least s':>9}")
        for step in (*pieces(on.api, times), *drawn(on.pages_url, times)):
            print(f"{step.name:<48} {step.seconds:>9.3f} {step.best:>9.3f}  {step.note}", flush=True)


if __name__ == "__main__":
    main()
