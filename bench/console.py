"""What a page of four metrics by the minute for a month costs, from the request to the pixels.

python -m bench.console            # prints the table

The real API, engine and pages as processes, and a headless Chromium. The first rows are the steps of a page
that has nothing cached, for all four metrics; *drawn* is from the click on *Plot* to the last line on the
screen, with samples cached (*warm*) or to be loaded again (*cold*). CPU seconds are of all processes, engine
and browser included: on a machine that does nothing else a step takes about as long, or less.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import httpx
from playwright.sync_api import Page, sync_playwright

from bench.served import START_TIMEOUT_S, cpu_s, stage
from console.pages import plots
from console.pages.client import Api, Running, samples
from console.pages.found import Found
from console.pages.texts import Say
from console.pages.theme import LIGHT
from console.windows import MAX_SAMPLES

MODEL: Final = "large"
MOST: Final = {"max_samples": MAX_SAMPLES}
CACHED_S: Final = 61.0
"""After so long the pages load samples again (console.pages.choosing)."""

PATIENCE_MS: Final = 180_000

_DRAWN: Final = """(lines) => new Promise(done => {
  const look = () => document.querySelectorAll('.js-plotly-plot path.js-line').length >= lines
    ? requestAnimationFrame(() => done(true)) : requestAnimationFrame(look);
  [...document.querySelectorAll('button, [role=radio]')].find(b => b.textContent.trim() === 'Plot').click();
  look();
})"""


class Step(NamedTuple):
    """One row of the table: a pair for each repetition, seconds and CPU seconds of all processes."""

    name: str
    spent: Sequence[tuple[float, float]]
    note: str = ""

    def line(self) -> str:
        seconds, cpu_seconds = zip(*self.spent, strict=True)
        numbers = f"{median(seconds):>9.2f} {min(seconds):>9.2f} {median(cpu_seconds):>9.2f}"
        return f"{self.name:<48} {numbers}  {self.note}"


def timed(name: str, times: int, work: Callable[[], Any], note: str = "") -> Step:
    return Step(name, [_spent(work) for _ in range(times)], note)


def _spent(work: Callable[[], Any]) -> tuple[float, float]:
    cpu, began = cpu_s(os.getpid()), time.perf_counter()
    work()
    return time.perf_counter() - began, cpu_s(os.getpid()) - cpu


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
            spent.append(_spent(lambda: page.evaluate(_DRAWN, 4)))
        yield Step(f"drawn, {kind}{what}", spent)


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
        print(f"{'step':<48} {'median s':>9} {'least s':>9} {'CPU s':>9}")
        for step in itertools.chain(pieces(on.api, times), drawn(on.pages_url, times)):
            print(step.line(), flush=True)


if __name__ == "__main__":
    main()
