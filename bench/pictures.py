"""Pictures of the Grafana dashboards without Grafana, from the same queries: `make pictures`.

A month with a fault after it, a change, a mute and made-up verdicts go through the real parts and a
Prometheus; each panel shows what its query answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.dashboards import Range, choose, dashboards, expand_promql, expand_sql
from bench.panels import Lines, Row, draw, lines_of
from bench.staged import Live, staged
from stream import observe
from stream.demo import LABELS
from stream.formats.names import canonical

SHOWN_S: Final = {"tocsin-overview": 7 * 86_400, "tocsin-series": 6 * 3600, "tocsin-incident": 3600}
"""Before the end of the telemetry; of the others all of it."""

POINTS: Final = 300
"""Of a line."""

WIDTH_IN, UNIT_IN, TITLE_UNITS, DPI = 16.0, 0.36, 1.2, 80


class Asked(NamedTuple):
    """A dashboard with a time range and values of its variables."""

    live: Live
    dashboard: Mapping[str, Any]
    span: Range
    chosen: Mapping[str, Sequence[str]]

    def sql(self, text: str) -> list[Row]:
        return observe.query(self.live.cfg.clickhouse, expand_sql(text, self.span, self.chosen))

    def panel(self, panel: Mapping[str, Any]) -> tuple[list[Row], Lines]:
        """What its queries answer: rows of a table, lines by name."""
        rows: list[Row] = []
        lines: Lines = {}
        for target in panel["targets"]:
            if target["datasource"]["type"] == "prometheus":
                more, drawn = ask_prometheus(self.live, target)
            else:
                more = self.sql(target["rawSql"])
                drawn = lines_of(more) if target["queryType"] == "timeseries" else {}
            rows, lines = rows + more, lines | drawn
        return rows, lines


def ask_prometheus(live: Live, target: Mapping[str, Any]) -> tuple[list[Row], Lines]:
    """Rows of labels for a table, else lines from the start until now."""
    query = {"query": expand_promql(target["expr"], 60)}
    if target.get("instant"):
        found = _get(f"{live.prometheus_url}/api/v1/query", query)
        return [{k: v for k, v in each["metric"].items() if k != "__name__"} for each in found], {}
    now_s = time.time()
    step_s = max(5, int((now_s - live.began_s) / POINTS))
    query |= {"start": str(live.began_s), "end": str(now_s), "step": str(step_s)}
    lines: Lines = {}
    for each in _get(f"{live.prometheus_url}/api/v1/query_range", query):
        name = target["legendFormat"].replace("{{policy}}", each["metric"].get("policy", ""))
        for label, value in each["metric"].items():
            name = name.replace("{{" + label + "}}", value)
        numbers = [(at, float(value)) for at, value in each["values"] if value != "NaN"]
        if numbers:
            lines[name.strip()] = [(datetime.fromtimestamp(at, UTC), value) for at, value in numbers]
    return [], lines


def _get(url: str, query: Mapping[str, str]) -> list[Any]:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=30) as reply:
        found: list[Any] = json.load(reply)["data"]["result"]
    return found


def picture(asked: Asked, path: Path) -> None:
    """All panels, each in its place."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  # heavy, and only here

    panels = asked.dashboard["panels"]
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) + TITLE_UNITS
    figure = plt.figure(figsize=(WIDTH_IN, UNIT_IN * height), facecolor="#f4f5f5", dpi=DPI)
    named = "   ".join(f"{name}: {', '.join(values)}" for name, values in asked.chosen.items())
    title = f"{asked.dashboard['title']}    {named}"
    figure.text(0.008, 1 - 0.5 * TITLE_UNITS / height, title, fontsize=11, va="center", fontweight="bold")
    for panel in panels:
        grid = panel["gridPos"]
        place = (grid["x"] / 24, 1 - (TITLE_UNITS + grid["y"] + grid["h"]) / height, grid["w"] / 24)
        _place(figure, asked, panel, place, 1 / height)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _place(
    figure: Any, asked: Asked, panel: Mapping[str, Any], place: tuple[float, float, float], unit: float
) -> None:
    """A panel in its frame; ``place`` is x, y and width, ``unit`` a height of one, in shares of the page."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415  # as above

    (x, y, w), h = place, panel["gridPos"]["h"] * unit
    frame = Rectangle((x + 0.002, y + 0.1 * unit), w - 0.004, h - 0.2 * unit, transform=figure.transFigure)
    frame.set(facecolor="white", edgecolor="#cccccc", zorder=-1)
    figure.add_artist(frame)
    figure.text(x + 0.006, y + h - 0.6 * unit, panel["title"], fontsize=9, va="center", fontweight="bold")
    plot = panel["type"] in ("timeseries", "status-history", "barchart")
    left, low = (0.04, 1.8 * unit) if plot else (0.006, 0.2 * unit)
    axes = figure.add_axes((x + left, y + low, w - left - 0.012, h - low - 1.2 * unit))
    rows, lines = asked.panel(panel)
    draw(axes, panel, rows, lines, w)
    if panel["type"] == "timeseries" and panel["datasource"]["type"] != "prometheus" and lines:
        _annotate(axes, asked)


def _annotate(axes: Any, asked: Asked) -> None:
    for each in asked.dashboard["annotations"]["list"]:
        for row in asked.sql(each["target"]["rawSql"]):
            start = datetime.fromisoformat(row["time"]).replace(tzinfo=UTC)
            end = datetime.fromisoformat(str(row.get("timeEnd", row["time"]))).replace(tzinfo=UTC)
            axes.axvspan(start, end, color=each["iconColor"], alpha=0.15)
            axes.axvline(start, color=each["iconColor"], linewidth=0.8, linestyle=":")


def draw_all(live: Live, into: Path) -> None:
    """Each dashboard at the end of the telemetry, that of one series for the response time."""
    bounds = observe.query(
        live.cfg.clickhouse,
        "SELECT toUnixTimestamp(min(ts)) AS first, toUnixTimestamp(max(ts)) + 60 AS last FROM telemetry",
    )[0]
    first, last = int(bounds["first"]), int(bounds["last"])
    for dashboard in dashboards():
        start = max(first, last - SHOWN_S.get(dashboard["uid"], last - first))
        span = Range(start, last, max(60, (last - start) // POINTS))
        chosen = choose(live.cfg.clickhouse, dashboard, span)
        if "series" in chosen:
            chosen["series"] = [canonical("web_response", LABELS)]
        path = into / f"{dashboard['uid']}.png"
        picture(Asked(live, dashboard, span, chosen), path)
        print(path)


async def _draw(folder: Path, into: Path) -> None:
    async with staged(folder) as live:
        await asyncio.to_thread(draw_all, live, into)


def main() -> None:
    """Draw all dashboards into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tocsin-pictures-") as folder:
        asyncio.run(_draw(Path(folder), options.into))


if __name__ == "__main__":
    main()
