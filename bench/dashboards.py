"""What the Grafana dashboards ask, as the engines get it; `python -m bench.dashboards` draws the panels.

Grafana and its ClickHouse plugin put macros and variables into the text of a query. The same is done here, so
that tests can run every query, and a picture can be drawn without Grafana.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from schemas import config
from stream import observe

FOLDER: Final = Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards"

_MACRO: Final = re.compile(r"\$__(\w+)(?:\((\w+(?:\.\w+)?)\))?")
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}")


class Query(NamedTuple):
    """One query; ``language`` is sql or promql, ``where`` says whose it is."""

    dashboard: str
    where: str
    language: str
    text: str


class Range(NamedTuple):
    """What the time picker says, in Unix seconds, and the width of a point."""

    start_s: int
    end_s: int
    step_s: int = 60


def dashboards() -> list[dict[str, Any]]:
    """All dashboards, by name of the file."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Those of panels and annotations; `variables` has its own."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield _query(dashboard["uid"], f"panel {panel['title']!r} {target['refId']}", target)
    for annotation in dashboard["annotations"]["list"]:
        yield _query(dashboard["uid"], f"annotation {annotation['name']!r}", annotation["target"])


def variables(dashboard: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, SQL, and whether many values may be chosen, in the order in which they depend on each other."""
    return [(each["name"], each["query"], each["multi"]) for each in dashboard["templating"]["list"]]


def expand_sql(text: str, span: Range, chosen: Mapping[str, Sequence[str]]) -> str:
    """As the ClickHouse plugin does; raises ``ValueError`` for a macro or a variable that is unknown."""

    def macro(found: re.Match[str]) -> str:
        name, column = found[1], found[2]
        if name == "timeFilter":
            return f"{column} >= toDateTime({span.start_s}) AND {column} <= toDateTime({span.end_s})"
        if name == "timeInterval":
            return f"toStartOfInterval(toDateTime({column}), INTERVAL {span.step_s} second)"
        if name == "fromTime":
            return f"toDateTime({span.start_s})"
        if name == "toTime":
            return f"toDateTime({span.end_s})"
        raise ValueError(f"unknown macro $__{name}")

    def variable(found: re.Match[str]) -> str:
        if found[1] not in chosen or found[2] != "sqlstring":
            raise ValueError(f"unknown variable or format {found[0]}")
        return ",".join("'" + value.replace("'", "''") + "'" for value in chosen[found[1]])

    return _VARIABLE.sub(variable, _MACRO.sub(macro, text))


def expand_promql(text: str, rate_interval_s: int) -> str:
    """As Grafana does, for dashboards without variables."""
    expanded = text.replace("$__rate_interval", f"{rate_interval_s}s")
    if "$" in expanded:
        raise ValueError(f"unknown variable in {text}")
    return expanded


def _query(uid: str, where: str, target: Mapping[str, Any]) -> Query:
    if target["datasource"]["type"] == "prometheus":
        return Query(uid, where, "promql", target["expr"])
    return Query(uid, where, "sql", target["rawSql"])


def choose(store: config.ClickHouse, dashboard: Mapping[str, Any], span: Range) -> dict[str, list[str]]:
    """What Grafana would at first: all values where many may be chosen, else the first one."""
    chosen: dict[str, list[str]] = {}
    for name, sql, multi in variables(dashboard):
        rows = observe.query(store, expand_sql(sql, span, chosen))
        values = [str(next(iter(row.values()))) for row in rows]
        chosen[name] = values if multi else values[:1]
    return chosen


def draw(
    store: config.ClickHouse, dashboard: Mapping[str, Any], span: Range, path: Path, series: str = ""
) -> None:
    """The panels of a dashboard that ask ClickHouse, as a picture of the same queries."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  # heavy, and only here

    chosen = choose(store, dashboard, span)
    if series and "series" in chosen:
        chosen["series"] = [series]
    panels = [p for p in dashboard["panels"] if p["datasource"]["type"] != "prometheus"]
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
    figure = plt.figure(figsize=(15, 0.42 * height), facecolor="white")
    for panel in panels:
        grid = panel["gridPos"]
        box = (
            grid["x"] / 24 + 0.03,
            1 - (grid["y"] + grid["h"]) / height + 0.035,
            grid["w"] / 24 - 0.045,
            grid["h"] / height - 0.075,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], loc="left", fontsize=9, fontweight="bold")
        rows = observe.query(store, expand_sql(panel["targets"][0]["rawSql"], span, chosen))
        _DRAWN[panel["type"]](axes, rows)
    figure.savefig(path, dpi=75)
    plt.close(figure)


def _draw_lines(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Columns of numbers against time; a column of text splits the lines, and lower and upper are a band."""
    if not rows:
        return
    text = [name for name, value in rows[0].items() if name != "time" and isinstance(value, str)]
    lines: dict[str, list[tuple[datetime, float]]] = {}
    for row in rows:
        at = datetime.fromisoformat(row["time"])
        for name, value in row.items():
            if name != "time" and name not in text and value is not None:
                lines.setdefault(str(row[text[0]]) if text else name, []).append((at, float(value)))
    band = [dict(lines.pop(name, [])) for name in ("lower", "upper")]
    both = sorted(band[0].keys() & band[1].keys())
    if both:
        axes.fill_between(both, *([each[at] for at in both] for each in band), color="tab:green", alpha=0.2)
    for name, points in lines.items():
        axes.plot(
            *zip(*points, strict=True), "-" if not text else "o", label=name, linewidth=0.8, markersize=3
        )
    axes.legend(fontsize=7, loc="upper right")
    axes.tick_params(labelsize=7)


def _draw_table(axes: Any, rows: list[dict[str, Any]]) -> None:
    axes.axis("off")
    if not rows:
        return
    cells = [[textwrap.shorten(str(value), 60) for value in row.values()] for row in rows[:9]]
    widths = [
        max(len(text) for text in (name, *column)) + 2
        for name, column in zip(rows[0], zip(*cells, strict=True), strict=True)
    ]
    table = axes.table(
        cells,
        colLabels=list(rows[0]),
        colWidths=[width / sum(widths) for width in widths],
        cellLoc="left",
        loc="upper left",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)


def _draw_number(axes: Any, rows: list[dict[str, Any]]) -> None:
    axes.axis("off")
    number = float(next(iter(rows[0].values())))
    axes.text(0.5, 0.45, f"{number:.4g}", fontsize=26, ha="center", va="center")


def _draw_bars(axes: Any, rows: list[dict[str, Any]]) -> None:
    names, counts = zip(*(row.values() for row in rows), strict=True) if rows else ((), ())
    axes.bar([str(name) for name in names], [int(count) for count in counts])
    axes.tick_params(labelsize=7)


_DRAWN: Final[dict[str, Callable[[Any, list[dict[str, Any]]], None]]] = {
    "timeseries": _draw_lines,
    "heatmap": _draw_lines,
    "table": _draw_table,
    "stat": _draw_number,
    "barchart": _draw_bars,
}


def main() -> None:
    """Draw from a ClickHouse on this machine, such as that of `make demo`, all that it holds."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--database", default="tocsin")
    parser.add_argument("--series", default="", help="of the dashboard of one series")
    parser.add_argument("--days", type=float, default=1000, help="the last so many that there are")
    parser.add_argument("--into", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    store = config.ClickHouse(port=options.port, database=options.database)
    bounds = observe.query(
        store, "SELECT toUnixTimestamp(min(ts)) AS first, toUnixTimestamp(max(ts)) + 1 AS last FROM telemetry"
    )[0]
    last = int(bounds["last"])
    first = max(int(bounds["first"]), last - int(options.days * 86_400))
    span = Range(first, last, max(60, (last - first) // 1500))
    for dashboard in dashboards():
        if any(query.language == "sql" for query in queries(dashboard)):
            path = options.into / f"{dashboard['uid']}.png"
            draw(store, dashboard, span, path, options.series)
            print(path)


if __name__ == "__main__":
    main()
