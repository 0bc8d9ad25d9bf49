"""Draws a panel of a Grafana dashboard from the rows of its query, roughly as Grafana would."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

Row = dict[str, Any]
Lines = dict[str, list[tuple[datetime, float]]]

COLORS: Final = {
    "green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "yellow": "#f2cc0c", "blue": "#3274d9",
    "text": "#444444", "transparent": "none", "purple": "#8f3bb8",
}  # fmt: skip
_FONT: Final = 8.0
_LETTER: Final = 0.0044
"""Width of a letter of that size, in widths of a full page."""


def draw(axes: Any, panel: Mapping[str, Any], rows: Sequence[Row], lines: Lines | None, width: float) -> None:
    """``rows`` of a table, or ``lines`` by name; ``width`` of the panel as a share of the page."""
    if not rows and not lines:
        axes.axis("off")
        axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=9, color="gray")
        return
    _DRAWN[panel["type"]](axes, panel, rows, lines or {}, width)


def lines_of(rows: Sequence[Row]) -> Lines:
    """Columns of numbers against time; a column of text splits the lines."""
    found: Lines = {}
    for row in rows:
        at = datetime.fromisoformat(row["time"]).replace(tzinfo=UTC)
        text = [str(value) for name, value in row.items() if name != "time" and isinstance(value, str)]
        for name, value in row.items():
            if name != "time" and value is not None and not isinstance(value, str):
                found.setdefault(text[0] if text else name, []).append((at, float(value)))
    return found


def _lines(axes: Any, panel: Mapping[str, Any], _rows: Sequence[Row], lines: Lines, _width: float) -> None:
    defaults, fixed = panel["fieldConfig"]["defaults"], _fixed_colors(panel)
    custom = defaults["custom"]
    lines = dict(lines)
    band = [dict(lines.pop(name, [])) for name in ("lower", "upper")]
    both = sorted(band[0].keys() & band[1].keys())
    if both:
        axes.fill_between(both, *([e[at] for at in both] for e in band), color=COLORS["green"], alpha=0.2)
    names = sorted(lines)
    if custom.get("stacking", {}).get("mode") == "normal":
        _stack(axes, {name: lines[name] for name in names}, fixed, bars=custom.get("drawStyle") == "bars")
    else:
        for name in names:
            axes.plot(*zip(*lines[name], strict=True), label=name, linewidth=0.9, color=fixed.get(name))
    if custom.get("thresholdsStyle"):
        for step in defaults["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=0.8, linestyle="--")
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    _tidy(axes)
    axes.legend(
        fontsize=7, loc="upper left", ncols=6, frameon=False, bbox_to_anchor=(0, -0.12), borderaxespad=0
    )


def _stack(axes: Any, lines: Lines, fixed: Mapping[str, str], *, bars: bool) -> None:
    times = sorted({at for points in lines.values() for at, _ in points})
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    width = max(min(gaps, default=60.0), (times[-1] - times[0]).total_seconds() / 300) / 86_400
    below = dict.fromkeys(times, 0.0)
    for number, (name, points) in enumerate(lines.items()):
        of, color = dict(points), fixed.get(name, f"C{number}")
        heights, bottoms = [of.get(at, 0.0) for at in times], [below[at] for at in times]
        if bars:
            axes.bar(times, heights, width * 0.9, bottoms, label=name, color=color)
        else:
            tops = [low + high for low, high in zip(bottoms, heights, strict=True)]
            axes.fill_between(times, bottoms, tops, label=name, alpha=0.5, color=color)
        below = {at: below[at] + of.get(at, 0.0) for at in times}


def _history(axes: Any, panel: Mapping[str, Any], _rows: Sequence[Row], lines: Lines, _width: float) -> None:
    """A row of cells for each line, coloured by the thresholds."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    times = sorted({at for points in lines.values() for at, _ in points})
    width = min((b - a for a, b in itertools.pairwise(times)), default=None)
    for number, (name, points) in enumerate(sorted(lines.items())):
        for at, value in points:
            axes.barh(number, width, 0.8, at, color=_by_threshold(steps, value))
        axes.text(-0.005, number, name, ha="right", va="center", fontsize=_FONT, transform=_left(axes))
    axes.set_yticks([])
    _tidy(axes)


def _left(axes: Any) -> Any:
    """Across in shares of the axes, upwards in data."""
    return axes.get_yaxis_transform()


def _table(axes: Any, panel: Mapping[str, Any], rows: Sequence[Row], _of: Lines, width: float) -> None:
    axes.axis("off")
    shown = {name: _override(panel, name) for name in rows[0]}
    columns = [name for name, props in shown.items() if not props.get("custom.hidden")]
    if any(each["id"] == "groupingToMatrix" for each in panel.get("transformations", [])):
        rows, columns = _matrix(rows)
        shown = {name: {} for name in columns}
    height = axes.get_window_extent().height / (1.9 * _FONT * axes.figure.dpi / 72)
    cells = [[_cell(row.get(name), shown[name]) for name in columns] for row in rows[: int(height) - 1]]
    heads = [shown[name].get("displayName", name) for name in columns]
    lengths = [
        max(len(text) for text in (head, *column)) + 2
        for head, column in zip(heads, zip(*cells, strict=True), strict=True)
    ]
    room = int(width / _LETTER)
    while sum(lengths) > room and max(lengths) > 12:
        lengths[lengths.index(max(lengths))] -= 1
    wraps = [shown[name].get("custom.cellOptions", {}).get("wrapText", False) for name in columns]
    lines = [
        [_kept(text, n, wrap) for text, n, wrap in zip(row, lengths, wraps, strict=True)] for row in cells
    ]
    top = 0.0
    for line, row in enumerate([[[head] for head in heads], *lines]):
        x = 0.0
        for number, (name, parts, length) in enumerate(zip(columns, row, lengths, strict=True)):
            color = _cell_color(panel, cells[line - 1][number], shown[name]) if line else None
            box = {"facecolor": color, "edgecolor": "none", "pad": 1.5, "alpha": 0.6} if color else None
            weight = "normal" if line else "bold"
            for n, part in enumerate(parts):
                y = 1 - (top + n + 0.5) / height
                axes.text(x + 0.003, y, part, fontsize=_FONT, va="center", fontweight=weight, bbox=box)
            x += length / max(room, sum(lengths))
        top += max(len(parts) for parts in row)
        if top >= height - 1:
            break


def _kept(text: str, length: int, wrap: bool) -> list[str]:  # of a column
    """What is seen of a cell, line by line."""
    if wrap:
        return textwrap.wrap(text, max(8, length)) or [""]
    return [text if len(text) < length else text[: length - 2] + "…"]


def _matrix(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Grafana's "Grouping to matrix" of the first two columns and the third."""
    row_name, column_name, value = list(rows[0])
    head = f"{row_name}\\{column_name}"
    columns = sorted({str(row[column_name]) for row in rows})
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(str(row[row_name]), {head: row[row_name]})[str(row[column_name])] = row[value]
    return list(found.values()), [head, *columns]


def _stat(axes: Any, panel: Mapping[str, Any], rows: Sequence[Row], lines: Lines, _width: float) -> None:
    axes.axis("off")
    defaults = panel["fieldConfig"]["defaults"]
    found = {name: points[-1][1] for name, points in lines.items()} if lines else rows[0]
    for number, (name, value) in enumerate(found.items()):
        x = (number + 0.5) / len(found)
        steps = defaults["thresholds"]["steps"]
        color = COLORS["text"] if isinstance(value, str) else _by_threshold(steps, float(value))
        several = len(found) > 1
        text = _number(value, defaults)
        size = 20 if len(text) < 8 else 11
        axes.text(x, 0.58, text, fontsize=size, ha="center", va="center", color=color, fontweight="bold")
        if several:
            axes.text(x, 0.12, name, fontsize=7, ha="center", va="center")


def _bars(axes: Any, _panel: Mapping[str, Any], rows: Sequence[Row], _lines: Lines, _width: float) -> None:
    names, counts = zip(*(row.values() for row in rows), strict=True)
    axes.bar([str(name) for name in names], [int(count) for count in counts])
    axes.set_xlabel(next(iter(rows[0])).replace("_", " "), fontsize=7)
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, axis="y", linewidth=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _override(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        each["id"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == name
        for each in override["properties"]
    }


def _fixed_colors(panel: Mapping[str, Any]) -> dict[str, str]:
    names = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
    fixed = {name: _override(panel, name).get("color", {}).get("fixedColor") for name in names}
    return {name: COLORS[color] for name, color in fixed.items() if color}


def _by_threshold(steps: Sequence[Mapping[str, Any]], value: float) -> str:
    below = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[below[-1]]


def _cell_color(panel: Mapping[str, Any], text: str, props: Mapping[str, Any]) -> str | None:
    for mapping in props.get("mappings", []):
        if text in mapping["options"]:
            return COLORS[mapping["options"][text]["color"]]
    if panel["fieldConfig"]["defaults"].get("color", {}).get("mode") == "continuous-YlRd" and text.isdigit():
        return COLORS["red"] if int(text) > 9 else COLORS["yellow"]
    return None


def _cell(value: Any, props: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.removesuffix(".000")
    return _number(value, props)


def _number(value: Any, props: Mapping[str, Any]) -> str:
    if isinstance(value, str):
        return value.removesuffix(".000")
    for mapping in props.get("mappings", []):
        if str(int(value)) in mapping["options"]:
            return str(mapping["options"][str(int(value))]["text"])
    if props.get("unit") == "percentunit":
        return f"{100 * value:.0f}%"
    if props.get("unit") == "s":
        return f"{value / 60:.0f} min" if value >= 60 else f"{value:.3g} s"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_DRAWN: Final[dict[str, Callable[..., None]]] = {
    "timeseries": _lines,
    "status-history": _history,
    "table": _table,
    "stat": _stat,
    "barchart": _bars,
}
