"""Time series as inline SVG: two paths and some rectangles however long the series, no library, no script.

A library that draws would weigh more than the rest of a worker's installation; a report needs lines, a band
and marks. Colours are left to the page's style sheet, by class.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
_DAY_MS: Final = 86_400_000
_STEPS_MS: Final = tuple(
    minutes * 60_000
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 5760, 10_080, 20_160, 43_200)
)
_BREAK: Final = 5.0  # a line is broken where samples are further apart than so many intervals


class Box(NamedTuple):
    """A rectangle in pixels with the ranges of its axes."""

    left: float
    top: float
    width: float
    height: float
    from_ms: float
    to_ms: float
    low: float
    high: float

    def x(self, ts_ms: Any) -> Any:
        return self.left + self.width * (ts_ms - self.from_ms) / max(self.to_ms - self.from_ms, 1.0)

    def y(self, value: Any) -> Any:
        share = (np.clip(value, self.low, self.high) - self.low) / ((self.high - self.low) or 1.0)
        return self.top + self.height * (1.0 - share)

    @property
    def bottom(self) -> float:
        return self.top + self.height


class Mark(NamedTuple):
    """A span of time, with what is said when the pointer rests on it."""

    from_ms: int
    to_ms: int
    title: str


def value_range(values: F64, share: float = 0.08) -> tuple[float, float]:
    """What an axis should show: all finite values, and a margin."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def line(box: Box, ts_ms: NDArray[np.int64], values: F64, kind: str) -> str:
    """The values as a path; of each pixel column its first, lowest, highest and last."""
    rows = np.flatnonzero((ts_ms >= box.from_ms) & (ts_ms <= box.to_ms))
    if len(rows) == 0:
        return ""
    ts, vs = ts_ms[rows], values[rows]
    keep = _telling(ts, vs, box)
    usual = float(np.median(np.diff(ts))) if len(ts) > 1 else 0.0
    points: list[str] = []
    pen_up, before = True, ts[0]
    for at, value in zip(ts[keep].tolist(), vs[keep].tolist(), strict=True):
        if not math.isfinite(value):
            pen_up = True
            continue
        apart = at - before > _apart(box, usual)
        command = "M" if pen_up or apart else "L"
        points.append(f"{command}{box.x(at):.1f} {float(box.y(value)):.1f}")
        pen_up, before = False, at
    return f'<path class="{kind}" d="{"".join(points)}"/>'


def _telling(ts: NDArray[np.int64], vs: F64, box: Box) -> NDArray[np.int64]:
    """Rows that make the same picture as all of them."""
    if len(ts) <= 3 * box.width:
        return np.arange(len(ts))
    columns = np.floor(box.x(ts.astype(np.float64)) - box.left).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    rows: set[int] = set()
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(ts)], strict=True):
        part = vs[start:stop]
        rows |= {start, stop - 1}
        if not np.isnan(part).all():
            rows |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    return np.array(sorted(rows), np.int64)


def band(box: Box, ts_ms: NDArray[np.int64], lower: F64, upper: F64) -> str:
    """The band as areas, broken where the line is, of each pixel column at its widest."""
    rows = np.flatnonzero(
        (ts_ms >= box.from_ms) & (ts_ms <= box.to_ms) & np.isfinite(lower) & np.isfinite(upper)
    )
    if len(rows) == 0:
        return ""
    steps = np.diff(ts_ms[rows])
    usual = float(np.median(steps)) if len(steps) else 0.0
    cuts = np.flatnonzero(steps > _apart(box, usual)) + 1
    areas = [_area(box, ts_ms[part], lower[part], upper[part]) for part in np.split(rows, cuts)]
    return f'<path class="band" d="{"".join(areas)}"/>'


def _area(box: Box, ts_ms: NDArray[np.int64], lower: F64, upper: F64) -> str:
    columns = np.floor(2 * (box.x(ts_ms.astype(np.float64)) - box.left))
    starts = np.flatnonzero(np.diff(columns, prepend=-1.0))
    x = box.x(ts_ms[starts].astype(np.float64)).tolist()
    low = box.y(np.minimum.reduceat(lower, starts)).tolist()
    high = box.y(np.maximum.reduceat(upper, starts)).tolist()
    there = [f"{a:.1f} {b:.1f}" for a, b in zip(x, high, strict=True)]
    back = [f"{a:.1f} {b:.1f}" for a, b in zip(reversed(x), reversed(low), strict=True)]
    return f"M{'L'.join(there + back)}Z"


def _apart(box: Box, usual: float) -> float:
    """The distance in time beyond which nothing is drawn between samples."""
    return max(_BREAK * usual, 2.0 * (box.to_ms - box.from_ms) / box.width)


def marks(box: Box, spans: Sequence[Mark], kind: str, least: float = 2.5) -> str:
    """Spans over the whole height, at least some pixels wide."""
    drawn = []
    for span in spans:
        if span.to_ms < box.from_ms or span.from_ms > box.to_ms:
            continue
        left, right = box.x(max(span.from_ms, box.from_ms)), box.x(min(span.to_ms, box.to_ms))
        width = max(right - left, least)
        title = f"<title>{html.escape(span.title)}</title>" if span.title else ""
        drawn.append(
            f'<rect class="{kind}" x="{left - (width - right + left) / 2:.1f}" y="{box.top:.1f}" '
            f'width="{width:.1f}" height="{box.height:.1f}">{title}</rect>'
        )
    return "".join(drawn)


def value_axis(box: Box, count: int = 4) -> str:
    """Numbers at round values, with faint lines."""
    drawn = []
    for value in round_values(box.low, box.high, count):
        y = float(box.y(value))
        drawn.append(
            f'{rule(box, value, "grid")}<text class="tick" x="{box.left - 6:.0f}" y="{y + 3.5:.1f}" '
            f'text-anchor="end">{short(value)}</text>'
        )
    return "".join(drawn)


def rule(box: Box, value: float, kind: str) -> str:
    """A horizontal line at a value."""
    y, right = float(box.y(value)), box.left + box.width
    return f'<line class="{kind}" x1="{box.left:.0f}" x2="{right:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def time_axis(box: Box, most: int = 10) -> str:
    """Dates or times of day under the box, in UTC."""
    span = box.to_ms - box.from_ms
    step = next((s for s in _STEPS_MS if span / s <= most), _DAY_MS * max(30, round(span / _DAY_MS / most)))
    first = math.ceil(box.from_ms / step) * step
    drawn = []
    for at in range(int(first), int(box.to_ms) + 1, step):
        x = box.x(at)
        drawn.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{box.top:.0f}" y2="{box.bottom:.0f}"/>'
            f'<text class="tick" x="{x:.1f}" y="{box.bottom + 14:.0f}" text-anchor="middle">'
            f"{_moment(at, step)}</text>"
        )
    return "".join(drawn)


def _moment(at: int, step: int) -> str:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    if step >= _DAY_MS:
        return moment.strftime("%-d %b")
    return moment.strftime("%-d %b" if at % _DAY_MS == 0 else "%H:%M")


def round_values(low: float, high: float, count: int) -> Iterator[float]:
    """About so many values of 1, 2 or 5 times a power of ten, within the range."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next((power * m for m in (1, 2, 5, 10) if span / (power * m) <= count), power * 10)
    at = math.ceil(low / step)
    while at * step <= high:
        yield at * step
        at += 1


def short(value: float) -> str:
    """A number in few characters: 12.5k, 3M, 0.002."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = 1e3 if suffix == "k" else limit
            return f"{value / scale:.4g}{suffix}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"
