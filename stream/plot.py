"""The picture of `tocsin score --plot`: the values in their band, the anomalies, and the level below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import dates
from matplotlib.figure import Figure

from stream.score import Row

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


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the picture; the format follows the name."""
    columns = {name: np.array([getattr(row, name) for row in rows]) for name in Row._fields[:-1]}
    times = columns["ts_ms"].astype("datetime64[ms]")
    figure = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _values(top, times, columns, list(_episodes(rows)))
    top.set_ylabel(title, color=INK)
    bottom.plot(times, columns["score"], color="#bcc3ca", linewidth=0.5, label="score")
    bottom.plot(times, columns["level"], color=INK, linewidth=0.8, label="level")
    bottom.axhline(1.0, color=ALERT, linewidth=0.8, linestyle="--", label="alert threshold")
    bottom.set_ylim(0, max(1.3, float(np.nanmax(columns["score"], initial=0.0)) * 1.05))
    bottom.legend(loc="upper left", frameon=False, ncols=3)
    locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
    bottom.xaxis.set_major_locator(locator)
    bottom.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    bottom.set_xlim(times[0], times[-1])
    figure.savefig(path)


def _values(axes: Any, times: Any, columns: dict[str, Any], episodes: list[tuple[int, int]]) -> None:
    band = axes.fill_between(
        times, columns["lower"], columns["upper"], color=BAND, linewidth=0, alpha=0.6, label="band"
    )
    axes.plot(times, columns["value"], color=VALUE, linewidth=0.5, label="value")
    # The band of a young series may be far wider than anything that was measured.
    low, high = np.nanmin(columns["value"]), np.nanmax(columns["value"])
    axes.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))
    firsts = [first for first, _ in episodes]
    for first, last in episodes:
        axes.axvspan(times[first], times[last], color=ALERT, alpha=0.25, linewidth=0)
    axes.plot(times[firsts], columns["value"][firsts], "o", color=ALERT, markersize=5, label="anomaly")
    axes.legend(loc="upper left", frameon=False, ncols=3)
    band.set_rasterized(True)


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
