"""The picture of `tocsin score --plot`: the values in their band, the anomalies, and the level below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import dates
from matplotlib.figure import Figure

from stream.errors import UserError
from stream.files.score import Row

INK: Final = "#24292f"
VALUE: Final = "#1f5fa8"
BAND: Final = "#9cc3ea"
ALERT: Final = "#d1242f"

mpl.rcParams |= {
    "font.size": 9,
    "axes.edgecolor": "#8c959f",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


HOLE: Final = 5
"""Usual steps from row to row that are a hole."""

ZOOM_ROWS: Final = 180
"""Rows shown on either side of the strongest anomaly."""


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the picture: all of it, and beside it the strongest anomaly. The format follows the name.

    Raises `UserError` where no row has a value.
    """
    if all(math.isnan(row.value) for row in rows):
        raise UserError(f"{path} is not drawn: there is no row with a value")
    columns = {name: np.array([getattr(row, name) for row in rows]) for name in Row._fields[:-1]}
    columns["time"] = columns["ts_ms"].astype("datetime64[ms]")
    episodes = list(_episodes(rows))
    figure = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    widths = [2.2, 1] if episodes else [1]
    panels = figure.subplots(
        2, len(widths), sharex="col", width_ratios=widths, height_ratios=[3, 1], squeeze=False
    )
    _panel(panels[0][0], panels[1][0], columns, episodes)
    panels[0][0].set_ylabel(title, color=INK)
    panels[0][0].legend(loc="upper left", frameon=False, ncols=3)
    panels[1][0].legend(loc="upper left", frameon=False, ncols=3)
    if episodes:
        first, last = max(episodes, key=lambda e: float(np.nanmax(columns["score"][e[0] : e[1] + 1])))
        part = slice(max(0, first - ZOOM_ROWS), last + ZOOM_ROWS)
        near = {name: column[part] for name, column in columns.items()}
        _panel(panels[0][1], panels[1][1], near, [(first - part.start, last - part.start)])
        panels[0][1].set_title("the strongest", loc="left", color=INK, fontsize=9)
    figure.savefig(path)


def _panel(top: Any, bottom: Any, columns: dict[str, Any], episodes: list[tuple[int, int]]) -> None:
    """Values with their band above, score and level below."""
    times, value = columns["time"], columns["value"]
    lines = _broken(columns)
    top.fill_between(
        lines["time"], lines["lower"], lines["upper"], color=BAND, linewidth=0, alpha=0.7, label="band"
    )
    top.plot(lines["time"], lines["value"], color=VALUE, linewidth=0.6, label="value")
    for first, last in episodes:
        top.axvspan(times[first], times[last], color=ALERT, alpha=0.15, linewidth=0)
    firsts = [first for first, _ in episodes]
    top.plot(times[firsts], value[firsts], "o", color=ALERT, markersize=4.5, label="anomaly")
    # The band of a young series may be far wider than anything that was measured.
    low, high = np.nanmin(value), np.nanmax(value)
    top.set_ylim(low - 0.08 * (high - low), high + 0.14 * (high - low))
    bottom.plot(lines["time"], lines["score"], color="#bcc3ca", linewidth=0.6, label="score")
    bottom.plot(lines["time"], lines["level"], color=INK, linewidth=0.8, label="level")
    bottom.axhline(1.0, color=ALERT, linewidth=0.8, linestyle="--", label="alert threshold")
    bottom.set_ylim(0, max(1.5, float(np.nanmax(columns["score"], initial=0.0)) * 1.25))
    bottom.set_xlim(times[0], times[-1])
    locator = dates.AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    bottom.xaxis.set_major_locator(locator)
    bottom.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _broken(columns: dict[str, Any]) -> dict[str, Any]:
    """With a row of nothing in each hole, so that no line is drawn over it."""
    steps = np.diff(columns["ts_ms"])
    holes = np.flatnonzero(steps > HOLE * np.median(steps)) + 1 if len(steps) else np.zeros(0, np.int64)
    names = ("value", "lower", "upper", "score", "level")
    lines = {name: np.insert(columns[name], holes, np.nan) for name in names}
    return lines | {"time": np.insert(columns["time"], holes, columns["time"][holes])}


def _episodes(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """The first and the last row of each anomaly."""
    first = 0
    for at, row in enumerate(rows):
        before = rows[at - 1].anomaly_id if at else ""
        after = rows[at + 1].anomaly_id if at + 1 < len(rows) else ""
        if row.anomaly_id and row.anomaly_id != before:
            first = at
        if row.anomaly_id and row.anomaly_id != after:
            yield first, at
