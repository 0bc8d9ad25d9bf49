"""The pages in a real Chromium: how tests open them and what they do there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright import async_api as playwright
from playwright.async_api import Locator, Page, expect

from stream.local.process import Child, answers
from tests.support import START_TIMEOUT_S

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


def choice(page: Page, name: str) -> Locator:
    """A button of a segmented control."""
    return page.get_by_role("radio", name=name, exact=True).or_(
        page.get_by_role("button", name=name, exact=True)
    )


async def settled(page: Page) -> None:
    """Wait until the script of the page has run to its end, and its figures are drawn."""
    await page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
        " && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')"
    )


async def upload(page: Page, file: dict[str, str | bytes]) -> None:
    await choice(page, "CSV").click()
    await page.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    await expect(page.get_by_text(str(file["name"])).first).to_be_visible()
    await settled(page)


async def find(page: Page, *models: str) -> None:
    """Choose further models, and ask."""
    for model in models:
        await choose(page, model)
    await settled(page)  # what goes away at the end of a run would move the button under the hand
    await page.get_by_role("button", name="Find anomalies").click()


async def choose(page: Page, model: str, models: str = "Models", tries: int = 5) -> None:
    """Type its name, as often as a run of the script closes the list under the hands."""
    box = page.get_by_role("combobox", name=models)
    option = page.get_by_role("option", name=model, exact=True)
    for _ in range(tries):
        await settled(page)
        await box.click()
        await box.fill(model)
        try:
            await option.wait_for(timeout=PATIENCE_MS / 10)
        except playwright.TimeoutError:
            continue
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        break
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name=f"Remove {model}")).to_be_visible()


async def downloaded(page: Page, button: str) -> bytes:
    async with page.expect_download() as download:
        await page.get_by_role("button", name=button).click()
    path = await (await download.value).path()
    return await asyncio.to_thread(path.read_bytes)
