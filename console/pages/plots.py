"""Figures of the pages (Plotly)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from console.pages.analysis import Autocorrelation, Parts, Regular
from console.pages.found import Found
from console.pages.texts import Say
from console.pages.theme import SYMBOLS, Palette
from console.thinning import keep

MAX_DRAWN: Final = 2_000
"""Samples of a line: two for each pixel of a wide screen."""

_VALUE_PX: Final = 210
_LEVEL_PX: Final = 70
_MANY: Final = 4
_SMALL_PX: Final = 140
"""Of a metric's row where there are more than `_MANY`."""

_PATTERNS: Final = ("", "/", "x")
"""Of bars, once the colours are used up."""

_SHOWN_LEVEL: Final = 3.0
"""Levels go far beyond the threshold of 1.0, which would press everything else flat."""

_GAP: Final = 5
"""A hole of so many usual intervals breaks the line."""


@dataclass(frozen=True)
class Panel:
    """A metric to draw: its samples, what models found in it by name, and whose band and level to show."""

    name: str
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    found: Mapping[str, Found] = field(default_factory=dict)
    band_of: str | None = None

    @staticmethod
    def of_level(model: str, found: Found) -> Panel:
        """Of a model of many, which says nothing of a single metric: its level alone."""
        return Panel(model, found.ts_ms, np.empty(0), {model: found}, model)

    @property
    def rows(self) -> Sequence[str]:
        if not len(self.values):
            return ["level"]
        return ["value", "level"] if self.band else ["value"]

    @property
    def band(self) -> Found | None:
        found = self.found.get(self.band_of or "")
        return found if found is not None and found.points else None


def series(panels: Sequence[Panel], models: Sequence[str], palette: Palette, say: Say) -> go.Figure:
    """A row for each metric, one of its level below it, all on one axis of time; ``models`` in the order of
    their colours.
    """
    rows = [(panel, kind) for panel in panels for kind in panel.rows]
    value_px = _VALUE_PX if len(panels) <= _MANY else _SMALL_PX
    heights = [_LEVEL_PX if kind == "level" and panel.rows[0] != kind else value_px for panel, kind in rows]
    figure = make_subplots(
        rows=len(rows),
        shared_xaxes=True,
        vertical_spacing=min(0.04, 26 / sum(heights)),
        row_heights=heights,
    )
    named: set[str] = set()
    for row, (panel, kind) in enumerate(rows, 1):
        traces = _values(panel, models, palette, say) if kind == "value" else _level(panel, palette, say)
        for trace in traces:
            trace.showlegend = trace.name not in named and trace.showlegend is not False
            named.add(trace.name)
            figure.add_trace(trace, row, 1)
        title = say("level") if panel.rows[0] != kind else _short(panel.name)
        figure.update_yaxes(title={"text": title, "font": {"size": 12}}, row=row, col=1)
        if kind == "level":
            figure.update_yaxes(range=[0, _top(traces)], nticks=4, row=row, col=1)
            figure.add_hline(
                1.0, row=row, col=1, line={"color": palette.models[0], "dash": "dash", "width": 1}
            )
        else:
            _shade(figure, panel, models, palette, row)
    return _dressed(figure, palette, sum(heights) + 90, hovermode="x unified")


def _values(panel: Panel, models: Sequence[str], palette: Palette, say: Say) -> list[go.Scatter]:
    there = np.isfinite(panel.values)
    ts_ms, values = panel.ts_ms[there], panel.values[there]
    flags = {model: found.flags(ts_ms) for model, found in panel.found.items() if not found.error}
    always = np.logical_or.reduce([np.zeros(len(ts_ms), np.bool_), *flags.values()])
    x, y = _broken(ts_ms, values, keep(values, always, MAX_DRAWN))
    traces = [] if panel.band is None else _band(panel.band, palette, say)
    traces.append(_line(x, y, say("value"), palette.value, width=1.3))
    for model, flagged in flags.items():
        at = np.flatnonzero(flagged)
        if panel.found[model].spans is not None or not len(at):
            continue  # a stretch is shaded
        place = models.index(model)
        traces.append(
            go.Scatter(
                x=_dates(ts_ms[at]),
                y=values[at],
                name=model,
                mode="markers",
                marker={
                    "color": palette.models[place % len(palette.models)],
                    "symbol": SYMBOLS[place % len(SYMBOLS)],
                    "size": 7 + 3 * place,
                    "line": {"width": 2 if place else 0},
                },
            )
        )
    return traces


def _band(found: Found, palette: Palette, say: Say) -> list[go.Scatter]:
    lower, upper = found.points["lower"], found.points["upper"]
    there = np.isfinite(lower) & np.isfinite(upper)
    ts_ms, lower, upper = found.ts_ms[there], lower[there], upper[there]
    if not len(ts_ms):
        return []
    at = keep(upper - lower, np.zeros(len(ts_ms), np.bool_), MAX_DRAWN)
    x = _dates(ts_ms[at])
    edge = {"x": x, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(y=lower[at], name="lower", showlegend=False, **edge),
        go.Scatter(y=upper[at], name=say("band"), fill="tonexty", fillcolor=palette.band, **edge),
    ]


def _level(panel: Panel, palette: Palette, say: Say) -> list[go.Scatter]:
    found = panel.band
    if found is None:
        return []
    there = np.isfinite(found.points["level"])
    level = found.points["level"][there]
    at = keep(level, np.zeros(len(level), np.bool_), MAX_DRAWN)
    return [_line(_dates(found.ts_ms[there][at]), level[at], say("level"), palette.faint, width=1)]


def _top(levels: Sequence[go.Scatter]) -> float:
    """Of the axis of a level: the threshold is always on it."""
    highest = max((float(np.max(each.y)) for each in levels if len(each.y)), default=0.0)
    return max(1.15, min(1.1 * highest, _SHOWN_LEVEL))


def _shade(figure: go.Figure, panel: Panel, models: Sequence[str], palette: Palette, row: int) -> None:
    for model, found in panel.found.items():
        color = palette.models[models.index(model) % len(palette.models)]
        for start, end, _ in found.spans or ():
            figure.add_vrect(
                x0=_dates(np.array([start]))[0],
                x1=_dates(np.array([end]))[0],
                fillcolor=color,
                opacity=0.25,
                line_width=0,
                row=row,
                col=1,
            )


def strips(
    spans: Mapping[str, Sequence[tuple[int, int]]], extent: tuple[int, int], palette: Palette
) -> go.Figure:
    """A line of time for each name with its stretches marked, first on top."""
    figure = go.Figure()
    for place, (name, stretches) in enumerate(spans.items()):
        x: list[Any] = []
        for start, end in stretches:
            x += [*_dates(np.array([start, end])), None]
        color = palette.models[place % len(palette.models)]
        figure.add_scatter(
            x=x or [None],
            y=[_short(name) if each is not None else None for each in x] or [None],
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 9},
            marker={"color": color, "size": 9, "symbol": "line-ns", "line": {"color": color, "width": 2}},
            showlegend=False,
        )
    figure.update_xaxes(range=list(_dates(np.array(extent))))
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=[_short(name) for name in reversed(list(spans))],
        range=[-0.6, len(spans) - 0.4],
    )
    return _dressed(figure, palette, 70 + 34 * len(spans))


def contributions(
    starts_ms: Sequence[int], shares: Mapping[str, Sequence[float]], palette: Palette
) -> go.Figure:
    """A bar for each episode, by its start, made up of the shares of the metrics."""
    names = [f"{each:%Y-%m-%d<br>%H:%M}" for each in _dates(np.array(starts_ms)).astype(object)]
    figure = go.Figure()
    for place, (metric, own) in enumerate(shares.items()):
        turn, color = divmod(place, len(palette.models))
        figure.add_bar(
            x=names,
            y=own,
            name=_short(metric),
            width=min(0.7, 0.1 * len(names)),
            marker={
                "color": palette.models[color],
                "line": {"color": palette.page, "width": 1},
                "pattern": {"shape": _PATTERNS[turn % len(_PATTERNS)]},
            },
            hovertemplate="%{y:.0%}",
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", range=[0, 1])
    return _dressed(figure, palette, 300, barmode="stack", hovermode="x unified")


def matrix(names: Sequence[str], values: NDArray[np.float64], palette: Palette, low: float) -> go.Figure:
    """A heat map of numbers from ``low`` to 1, with the numbers in it."""
    short = [_short(name) for name in names]
    diverging = [[0, palette.models[0]], [0.5, palette.page], [1, palette.value]]
    rising = [[0, palette.page], [1, palette.value]]
    figure = go.Figure(
        go.Heatmap(
            x=short,
            y=short,
            z=values,
            zmin=low,
            zmax=1,
            colorscale=diverging if low < 0 else rising,
            text=[["-" if np.isnan(each) else f"{each:.2f}" for each in row] for row in values],
            texttemplate="%{text}",
            xgap=2,
            ygap=2,
            hovertemplate="%{y} · %{x}: %{text}<extra></extra>",
            colorbar={"thickness": 10, "outlinewidth": 0},
        )
    )
    figure.update_yaxes(autorange="reversed")
    return _dressed(figure, palette, 120 + 56 * len(names))


def correlogram(found: Autocorrelation, step_ms: int, palette: Palette, say: Say) -> go.Figure:
    hours = np.arange(len(found.values)) * step_ms / 3_600_000
    figure = go.Figure(_line(hours, found.values, say("autocorrelation"), palette.value, width=1.4))
    figure.add_hrect(-found.bound, found.bound, fillcolor=palette.band, line_width=0, layer="below")
    if found.period is not None:
        figure.add_vline(
            hours[found.period],
            line={"color": palette.models[0], "dash": "dash", "width": 1},
        )
    figure.update_xaxes(title=say("lag_hours"))
    figure.update_yaxes(title=say("autocorrelation"))
    figure.update_layout(showlegend=False)
    return _dressed(figure, palette, 280)


def seasonal(series: Regular, found: Parts, palette: Palette, say: Say) -> go.Figure:
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.05)
    lines = {"trend": found.trend, "seasonal": found.seasonal, "rest": found.rest}
    for row, (key, values) in enumerate(lines.items(), 1):
        figure.add_trace(_line(_dates(series.ts_ms), values, say(key), palette.value, width=1), row, 1)
        figure.update_yaxes(title=say(key), row=row, col=1)
    figure.update_layout(showlegend=False)
    return _dressed(figure, palette, 420, hovermode="x unified")


def _dressed(figure: go.Figure, palette: Palette, height: int, **layout: Any) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 28, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": palette.ink, "size": 12},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "xanchor": "left"},
        hoverlabel={"bgcolor": palette.panel, "font": {"color": palette.ink}},
        **layout,
    )
    figure.update_xaxes(gridcolor=palette.grid, linecolor=palette.grid, zeroline=False)
    figure.update_yaxes(gridcolor=palette.grid, zeroline=False, automargin=True)
    return figure


def _line(x: Any, y: Any, name: str, color: str, width: float) -> go.Scatter:
    return go.Scatter(x=x, y=y, name=name, mode="lines", line={"color": color, "width": width})


def _broken(
    ts_ms: NDArray[np.int64], values: NDArray[np.float64], at: NDArray[np.int64]
) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """The samples to draw, with a hole where samples are missing."""
    if len(ts_ms) < 2:
        return _dates(ts_ms[at]), values[at]
    steps = np.diff(ts_ms)
    holes = np.flatnonzero(steps > _GAP * np.median(steps))
    after = np.searchsorted(at, holes, "right")  # the hole lies before the place of this sample
    x = np.insert(ts_ms[at], after, ts_ms[holes] + 1)
    return _dates(x), np.insert(values[at], after, np.nan)


def _dates(ts_ms: NDArray[np.int64]) -> NDArray[np.datetime64]:
    return ts_ms.astype(np.int64).astype("M8[ms]")


def _short(name: str) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= 34 else f"{name[:20]}…{name[-12:]}"
