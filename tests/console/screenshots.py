"""`make screenshots`: pictures of every page from the data of the demo, for docs/img.

Starts `tocsin demo` and takes them in Chromium, each page in English and Russian, light and dark. With
``--url``, of pages that run already over such data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.async_api import Browser, Page, async_playwright, expect

from stream.local.process import free_port
from tests.console.browser import choice, choose, settled

IMAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "img"
SIZE: Final = {"width": 1280, "height": 900}
COLORS: Final = 256
"""Of a picture: flat colours look the same with so few, and take a third of the bytes."""

_OPAQUE: Final = (
    "[...document.querySelectorAll('.stElementContainer')].every(e => getComputedStyle(e).opacity === '1')"
)
DEMO_TIMEOUT_S: Final = 900.0
WORDS: Final = {
    "en": ("Together", "Find anomalies", "Models"),
    "ru": ("Вместе", "Найти аномалии", "Модели"),
}
VIEWS: Final = {
    "en": ("Table", "Statistics", "Together", "Comparison", "Analysis"),
    "ru": ("Таблица", "Статистика", "Вместе", "Сравнение", "Анализ"),
}
NAMES: Final = ("table", "statistics", "together", "comparison", "analysis")


async def take(url: str, only: str | None) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("install chromium: it takes the pictures")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for language in WORDS:
            for scheme in ("light", "dark"):
                if only in {None, f"{language}-{scheme}"}:
                    await _all_pages(browser, url, language, scheme)
        await browser.close()


async def _all_pages(browser: Browser, url: str, language: str, scheme: str) -> None:
    context = await browser.new_context(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(120_000)
    suffix = f"{language}-{scheme}"
    for name in ("live", "models", "pipeline"):
        await page.goto(f"{url}/{name}?lang={language}")
        await expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
        if name == "models":
            await page.get_by_test_id("stDataFrame").click(position={"x": 16, "y": 52})
            await expect(page.get_by_test_id("stJson")).to_be_visible()
        await _picture(page, f"console-{name}-{suffix}")
    await _explore(page, url, language, suffix)
    await context.close()


async def _explore(page: Page, url: str, language: str, suffix: str) -> None:
    """All metrics of the service, by a model of many and by one of each; the other views once a language."""
    together, find, models = WORDS[language]
    await page.goto(f"{url}/?lang={language}")
    await choice(page, together).first.click()
    await expect(page.get_by_text("service = redlab")).to_be_visible()  # the models change with the mode
    await settled(page)
    await choose(page, "default", models)
    await settled(page)
    await page.get_by_role("button", name=find).click()
    await expect(page.locator(".js-plotly-plot g.points path.point").first).to_be_visible()
    await _picture(page, f"console-explore-{suffix}")
    for name, view in zip(NAMES, VIEWS[language], strict=True) if suffix in {"en-light", "ru-dark"} else ():
        await choice(page, view).last.click()
        await _picture(page, f"console-{name}-{suffix}")


async def _picture(page: Page, name: str) -> None:
    """Of the whole page, however long it is."""
    await settled(page)
    tall = await page.evaluate(
        "Math.max(...['stMain', 'stSidebarContent'].map("
        "id => document.querySelector(`[data-testid=${id}]`)?.scrollHeight ?? 0))"
    )
    await page.set_viewport_size({"width": SIZE["width"], "height": max(SIZE["height"], tall)})
    await settled(page)
    await page.mouse.move(0, 0)
    await page.wait_for_timeout(1_000)  # what fades in; what is being renewed is faded as well
    await page.wait_for_function(_OPAQUE)
    file = IMAGES / f"{name}.png"
    await page.screenshot(path=file)
    await page.set_viewport_size(SIZE)  # type: ignore[arg-type]
    await asyncio.to_thread(_smaller, file)
    print(f"{file.name}: {file.stat().st_size // 1024} KB", flush=True)


def _smaller(file: Path) -> None:
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


@asynccontextmanager
async def demo() -> AsyncIterator[str]:
    """The address of the pages of a demo that has replayed its month."""
    port = free_port()
    command = [sys.executable, "-m", "stream.cli", "demo", "--json", "--state-dir", ".tocsin/screenshots"]
    command += ["--set", f"console.pages_port={port}", "--set", f"console.port={free_port()}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), DEMO_TIMEOUT_S)
        if not line:
            sys.exit("the demo has failed: its words are above")
        print(f"the demo has found {json.loads(line)['anomalies']} anomalies", flush=True)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.send_signal(2)
            await process.wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of pages that run already")
    parser.add_argument("--only", help="one language and theme, as ru-dark")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    if options.url:
        await take(options.url.rstrip("/"), options.only)
        return
    async with demo() as url:
        await take(url, options.only)


if __name__ == "__main__":
    asyncio.run(main())
