"""The report of `tocsin backtest`: one HTML file that needs neither network nor script, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation import runs
from schemas.event import AnomalyEvent
from stream.files import svg
from stream.files.backtest import COLUMNS, Measures, Replayed, told
from stream.files.report_style import STYLE

MOST_SERIES: Final = 50
"""Series with plots, those with the most anomalies; about 150 kB each for a month by minute."""

_CLOSE_UPS: Final = 40  # anomalies of a series and configuration with a picture of their own
_WIDTH: Final = 1120.0
_LEFT: Final = 62.0


class Report(NamedTuple):
    """Everything a page shows: ``runs[c][s]`` is configuration *c* on series *s*."""

    measures: Sequence[Measures]
    agreements: Sequence[Sequence[float]]
    runs: Sequence[Sequence[Replayed]]
    most_series: int = MOST_SERIES


def render(report: Report) -> str:
    """The page."""
    shown = _most_told(report)
    left_out = len(report.runs[0]) - len(shown)
    note = f"<p class=note>{left_out} series with fewer anomalies have no plots here.</p>" if left_out else ""
    sections = "".join(_series(report, at) for at in shown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Tocsin backtest</title><style>{STYLE}</style></head><body>"
        f"<h1>Backtest</h1>{_facts(report)}{_measures(report.measures)}{_agreements(report)}"
        f"{_contents(report, shown)}{note}{sections}</body></html>\n"
    )


def _most_told(report: Report) -> list[int]:
    """The series to show, in their own order."""
    told = [sum(len(run[s].anomalies) for run in report.runs) for s in range(len(report.runs[0]))]
    ranked = sorted(range(len(told)), key=lambda s: -told[s])[: report.most_series]
    return sorted(ranked)


def _facts(report: Report) -> str:
    first = report.measures[0]
    labels = f", {first.labelled_series} of them labelled" if first.labelled_series else ", no labels"
    return (
        f"<p class=note>{first.series:,} series{labels}; {first.samples:,} samples, "
        f"{first.series_days:,.1f} series-days. Times are UTC. Score 1.0 is the alert threshold.</p>"
    )


def _measures(measures: Sequence[Measures]) -> str:
    used = [(h, k, f) for h, k, f in COLUMNS if any(getattr(m, k) is not None for m in measures)]
    heads = "".join(f"<th>{escape(head)}</th>" for head, _, _ in used)
    body = ""
    for each in measures:
        cells = "".join(f"<td>{told(getattr(each, key), form)}</td>" for _, key, form in used)
        body += f"<tr><th scope=row>{escape(each.configuration)}</th>{cells}</tr>"
    return (
        f"<div class=scroll><table class=numbers><tr><th>configuration</th>{heads}</tr>{body}</table></div>"
    )


def _agreements(report: Report) -> str:
    if len(report.measures) < 2:
        return ""
    names = [escape(each.configuration) for each in report.measures]
    heads = "".join(f"<th>{name}</th>" for name in names)
    body = ""
    for name, row in zip(names, report.agreements, strict=True):
        cells = "".join(f"<td>{told(share, '.0%')}</td>" for share in row)
        body += f"<tr><th scope=row>{name}</th>{cells}</tr>"
    return (
        "<h2>Agreement</h2><p class=note>Share of the anomalies of two configurations that overlap one of "
        f"the other.</p><div class=scroll><table class=numbers><tr><th></th>{heads}</tr>{body}</table></div>"
    )


def _contents(report: Report, shown: Sequence[int]) -> str:
    if len(shown) < 2:
        return ""
    items = []
    for s in shown:
        counts = ", ".join(str(len(run[s].anomalies)) for run in report.runs)
        name = escape(report.runs[0][s].series.name)
        items.append(f'<li><a href="#series-{s}">{name}</a> <span class=note>{counts} anomalies</span></li>')
    return f"<h2>Series</h2><ul class=contents>{''.join(items)}</ul>"


def _series(report: Report, s: int) -> str:
    first = report.runs[0][s].series
    parts = [f'<section id="series-{s}"><h2>{escape(first.name)}</h2>']
    if first.source not in {first.name, "ClickHouse"}:
        parts.append(f"<p class=note>{escape(first.source)}</p>")
    for measures, run in zip(report.measures, report.runs, strict=True):
        if len(report.runs) > 1:
            parts.append(f"<h3>{escape(measures.configuration)}</h3>")
        parts += [_plot(run[s]), _anomalies(run[s])]
    return "".join(parts) + "</section>"


def _plot(replayed: Replayed) -> str:
    """Values in their band with anomalies and labels, and score and level below."""
    series = replayed.series
    ts_ms, low_high = series.ts_ms, svg.value_range(series.values)
    span = (float(ts_ms.min()), float(max(ts_ms.max(), ts_ms.min() + 1)))
    top = svg.Box(_LEFT, 22, _WIDTH - _LEFT - 8, 220, *span, *low_high)
    strip = svg.Box(_LEFT, 8, top.width, 8, *span, 0, 1)
    below = svg.Box(_LEFT, 256, top.width, 70, *span, 0.0, _score_top(replayed))
    spans = [_mark(event, int(ts_ms.max())) for event in replayed.anomalies]
    parts = [
        f'<svg viewBox="0 0 {_WIDTH:.0f} 348" role="img" aria-label="{escape(series.name)}">',
        svg.value_axis(top),
        svg.value_axis(below, 2),
        svg.time_axis(top._replace(height=below.bottom - top.top)),
        svg.marks(strip, _label_marks(series.ts_ms, series.labels), "label"),
        svg.marks(top, _label_marks(series.ts_ms, series.labels), "labelled"),
        svg.band(top, ts_ms, _f64(replayed.lower), _f64(replayed.upper)),
        svg.marks(top, spans, "anomaly"),
        svg.line(top, ts_ms, series.values, "value"),
        svg.line(below, ts_ms, _f64(replayed.score), "score"),
        svg.line(below, ts_ms, _f64(replayed.level), "level"),
        svg.rule(below, 1.0, "threshold"),
        "</svg>",
    ]
    return f"<figure>{''.join(parts)}{_legend(series.labels is not None)}</figure>"


def _legend(labelled: bool) -> str:
    kinds = [("value", "value"), ("band", "band"), ("anomaly", "anomaly")]
    kinds += [("label", "label")] if labelled else []
    kinds += [("score", "score"), ("level", "level"), ("threshold", "alert threshold")]
    items = "".join(f"<span><i class={kind}></i>{name}</span>" for kind, name in kinds)
    return f"<figcaption>{items}</figcaption>"


def _score_top(replayed: Replayed) -> float:
    """The highest score that matters: above three thresholds more is not told by height."""
    finite = replayed.score[np.isfinite(replayed.score)]
    return min(max(1.3, float(finite.max()) * 1.05 if len(finite) else 0.0), 3.0)


def _f64(array: NDArray[np.float32]) -> NDArray[np.float64]:
    return array.astype(np.float64)


def _mark(event: AnomalyEvent, last_ms: int) -> svg.Mark:
    title = f"{event.kind}, {event.severity}: {event.reason}"
    return svg.Mark(event.started_ms, event.ended_ms if event.ended_ms is not None else last_ms, title)


def _label_marks(ts_ms: NDArray[np.int64], labels: NDArray[np.bool_] | None) -> list[svg.Mark]:
    if labels is None:
        return []
    return [svg.Mark(int(ts_ms[a]), int(ts_ms[b - 1]), "labelled") for a, b in runs(labels).tolist()]


def _anomalies(replayed: Replayed) -> str:
    """The list of anomalies, each with a close-up and its reason."""
    told_of = replayed.anomalies
    if not told_of:
        return "<p class=note>No anomalies.</p>"
    rows = []
    for at, (event, episode) in enumerate(zip(told_of, replayed.episodes, strict=True)):
        picture = _close_up(replayed, event, episode.start, episode.end) if at < _CLOSE_UPS else ""
        labels = replayed.series.labels
        verdict = "" if labels is None else _verdict(bool(labels[episode.start : episode.end].any()))
        rows.append(
            f"<tr><td class=picture>{picture}</td><td class=when>{_time(event.started_ms)}<br>"
            f"<span class=note>{_lasted(event)}</span></td><td>{event.kind}<br>{verdict}</td>"
            f"<td class=score>{event.peak_score:.2f}</td><td>{escape(event.reason)}</td></tr>"
        )
    heads = "<tr><th></th><th>started, lasted</th><th>kind</th><th>peak score</th><th>reason</th></tr>"
    opened = " open" if len(told_of) <= 12 else ""
    count = f"{len(told_of)} anomal{'y' if len(told_of) == 1 else 'ies'}"
    return (
        f"<details{opened}><summary>{count}</summary><div class=scroll>"
        f"<table class=anomalies>{heads}{''.join(rows)}</table></div></details>"
    )


def _verdict(hit: bool) -> str:
    return "<span class=hit>labelled</span>" if hit else "<span class=miss>not labelled</span>"


def _close_up(replayed: Replayed, event: AnomalyEvent, start: int, end: int) -> str:
    """The anomaly among its neighbours."""
    series = replayed.series
    around = max(30, (end - start) // 2)
    rows = slice(max(start - around, 0), min(end + around, len(series.ts_ms)))
    ts_ms, values = series.ts_ms[rows], series.values[rows]
    box = svg.Box(1, 1, 218, 52, float(ts_ms.min()), float(ts_ms.max()), *svg.value_range(values, 0.12))
    return (
        '<svg viewBox="0 0 220 54" aria-hidden="true">'
        + svg.band(box, ts_ms, _f64(replayed.lower[rows]), _f64(replayed.upper[rows]))
        + svg.marks(box, [_mark(event, int(ts_ms.max()))._replace(title="")], "anomaly")
        + svg.line(box, ts_ms, values, "value")
        + "</svg>"
    )


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _lasted(event: AnomalyEvent) -> str:
    if event.ended_ms is None:
        return "still open"
    minutes = (event.ended_ms - event.started_ms) / 60_000
    if minutes == 0:
        return "one sample"
    return f"{minutes:,.0f} min" if minutes < 600 else f"{minutes / 60:,.1f} h"
