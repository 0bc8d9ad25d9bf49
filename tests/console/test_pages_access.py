"""Who uses the pages with a keyboard or a screen reader, or on a dark screen: rules of axe-core (WCAG 2)."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.console.browser import choice, find, settled, upload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

VIEWS = ("Plot", "Table", "Statistics", "Together", "Comparison", "Analysis")


STEADY = ".stElementContainer, [data-stale] { opacity: 1 !important; transition: none !important }"
"""What is being renewed is faded for a moment."""

UPLOADER = "stFileUploaderDropzone"
"""Streamlit gives its own box the role `presentation` and a label, a minor fault that pages cannot mend."""


async def violations(page: Page, where: str) -> list[str]:
    """What axe-core finds wrong on what is shown."""
    await page.add_style_tag(content=STEADY)
    await settled(page)
    found = (await Axe().run(page)).response["violations"]
    return [
        f"{where}: {rule['help']} ({rule['impact']}): {node['html'][:200]} {_told(node)}"
        for rule in found
        for node in rule["nodes"]
        if not (rule["id"] == "presentation-role-conflict" and UPLOADER in node["html"])
    ]


def _told(node: dict[str, Any]) -> str:
    return "; ".join(each["message"] for kind in ("any", "all", "none") for each in node[kind])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_breaks_a_rule_of_accessibility(
    page: Page, address: str, file: dict[str, str | bytes], scheme: str
) -> None:
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    wrong: list[str] = []
    for name in ("live", "models", "pipeline", ""):
        await page.goto(f"{address}/{name}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        wrong += await violations(page, name or "explore")
    await upload(page, file)
    await expect(page.get_by_role("button", name="Remove response")).to_be_visible()
    await find(page, "robust")
    await expect(page.locator(".js-plotly-plot g.points path.point").first).to_be_visible()
    for view in VIEWS:
        await choice(page, view).last.click()
        wrong += await violations(page, view)
    assert wrong == []


async def test_the_keyboard_alone_finds_anomalies(
    page: Page, address: str, file: dict[str, str | bytes]
) -> None:
    await page.goto(address)
    await upload(page, file)
    await expect(page.get_by_test_id("stPlotlyChart")).to_be_visible()
    await page.get_by_role("combobox", name="Models").focus()
    focused = "document.activeElement?.innerText ?? ''"
    for _ in range(12):
        await page.keyboard.press("Tab")
        if "Find anomalies" in str(await page.evaluate(focused)):
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("stPlotlyChart").locator("g.points path.point").first).to_be_visible()
