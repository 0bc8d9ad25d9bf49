"""Explore: data, models, and what they find, as plot, table and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from console.pages import analysis, asking, choosing, measures, plots
from console.pages.asking import ALL
from console.pages.choosing import Chosen
from console.pages.context import Context, empty
from console.pages.found import NOTHING, Found, file_name, zipped

_MAX_ROWS: Final = 2_000
"""Of a table on the screen; the file has all."""

_NO_TOOLS: Final = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True)
class Shown:
    """The chosen samples and what was found in them, by metric and model; ``models`` in order."""

    chosen: Chosen
    models: list[str]
    found: Mapping[str, Mapping[str, Found]]

    def of(self, metric: str) -> dict[str, Found]:
        """What was found in a metric, by models of one and of many."""
        return {**self.found.get(metric, {}), **self.found.get(ALL, {})}

    def flags(self, metric: str) -> dict[str, NDArray[np.bool_]]:
        ts_ms = self.chosen.frame.ts_ms
        return {model: found.flags(ts_ms) for model, found in self.of(metric).items() if not found.error}


def page(context: Context) -> None:
    say = context.say
    st.title(say("page_explore"))
    st.caption(say("explore_about"))
    chosen = choosing.samples(context)
    if chosen is None:
        return
    asked = choosing.question(context)
    if asked.pressed:
        asking.begin(context, chosen, asked)
    busy = asking.progress(context)
    shown = _shown(chosen)
    if not shown.models and not busy:
        st.info(say("run_hint", run=say("run")), icon=":material/arrow_back:")
    for metric, found in shown.found.items():
        for model, each in found.items():
            if each.error:
                where = metric or say("all_metrics")
                st.error(say("model_failed", model=model, metric=where, error=each.error))
    views: dict[str, Callable[[Context, Shown], None]] = {
        "plot": _plot,
        "table": _table,
        "statistics": _statistics,
        "compare": _compare,
        "analysis": _analysis,
    }
    view = st.segmented_control(
        say("view"),
        list(views),
        default="plot",
        required=True,
        format_func=say,
        key="view",
        label_visibility="collapsed",
    )
    views[view or "plot"](context, shown)


def _shown(chosen: Chosen) -> Shown:
    work = asking.latest(chosen)
    if work is None:
        return Shown(chosen, [], {})
    found = {
        metric: {model: each.between(*chosen.span_ms) for model, each in models.items()}
        for metric, models in work.found.items()
        if metric == ALL or metric in chosen.metrics
    }
    return Shown(chosen, work.models, found)


def _plot(context: Context, shown: Shown) -> None:
    say, frame = context.say, shown.chosen.frame
    of_points = [
        model
        for model in shown.models
        if any(shown.of(m).get(model, NOTHING).points for m in shown.chosen.metrics)
    ]
    band_of = of_points[0] if of_points else None
    if len(of_points) > 1:
        band_of = st.segmented_control(say("band_of"), of_points, default=band_of, required=True, key="band")
    panels = [
        plots.Panel(metric, frame.ts_ms, frame.columns[metric], shown.of(metric), band_of)
        for metric in shown.chosen.metrics
    ]
    count = sum(len(measures.episodes(_anyone(shown, metric))) for metric in shown.chosen.metrics)
    figure = plots.series(panels, shown.models, context.palette, say)
    st.plotly_chart(
        figure,
        theme=None,
        config=_NO_TOOLS,
        key="series",
        alt=say(
            "plot_alt",
            metrics=", ".join(shown.chosen.metrics),
            start=f"{shown.chosen.start:%Y-%m-%d %H:%M}",
            end=f"{shown.chosen.end:%Y-%m-%d %H:%M}",
            count=count,
        ),
    )
    st.caption(say("drawn"))


def _anyone(shown: Shown, metric: str) -> NDArray[np.bool_]:
    """What any model says of a metric."""
    nobody = np.zeros(len(shown.chosen.frame), np.bool_)
    return np.asarray(np.logical_or.reduce([nobody, *shown.flags(metric).values()]))


def _table(context: Context, shown: Shown) -> None:
    say = context.say
    answers = {
        (metric, model): found
        for metric, models in shown.found.items()
        for model, found in models.items()
        if not found.error
    }
    if not answers:
        empty(say("no_results"), say("run_hint", run=say("run")), ":material/table:")
        return
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    metrics = list(dict.fromkeys(metric for metric, _ in answers))
    metric = left.selectbox(
        say("metric"), metrics, format_func=lambda each: each or say("all_metrics"), key="table metric"
    )
    model = middle.selectbox(say("model"), [m for each, m in answers if each == metric], key="table model")
    only = right.toggle(say("only_anomalies"), value=True, key="table only")
    found = answers[metric, model]
    rows = found.table(only_anomalies=only)
    if len(rows):
        st.dataframe(
            rows.head(_MAX_ROWS), hide_index=True, key="table", alt=f"{say('table')}: {metric}, {model}"
        )
        if len(rows) > _MAX_ROWS:
            st.caption(say("first_rows", shown=f"{_MAX_ROWS:,}", total=f"{len(rows):,}"))
    else:
        empty(say("no_anomalies"), "", ":material/check_circle:")
    _downloads(context, answers, metric, model)


def _downloads(context: Context, answers: Mapping[tuple[str, str], Found], metric: str, model: str) -> None:
    say = context.say
    with st.container(horizontal=True):
        st.download_button(
            say("download_csv"),
            answers[metric, model].csv,
            f"{file_name(metric, model)}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="csv",
        )
        if len(answers) > 1:
            st.download_button(
                say("download_zip"),
                lambda: zipped({f"{file_name(*names)}.csv": found.csv() for names, found in answers.items()}),
                "anomalies.zip",
                "application/zip",
                icon=":material/folder_zip:",
                on_click="ignore",
                key="zip",
            )


def _statistics(context: Context, shown: Shown) -> None:
    say, frame = context.say, shown.chosen.frame
    for metric in shown.chosen.metrics:
        found = measures.statistics(frame.columns[metric])
        st.subheader(metric)
        numbers = {
            "samples": f"{found.samples:,}",
            "gaps": f"{found.gaps:,}",
            "minimum": _number(found.minimum),
            "maximum": _number(found.maximum),
            "mean": _number(found.mean),
            "median": _number(found.median),
            "deviation": _number(found.deviation),
            "variation": _number(found.variation),
        }
        if shown.models:
            numbers = {"anomalies": str(len(measures.episodes(_anyone(shown, metric))))} | numbers
        with st.container(horizontal=True):
            for key, text in numbers.items():
                st.metric(say(key), text, width="content", border=True)
    if shown.models:
        st.dataframe(_by_model(context, shown), hide_index=True, key="by model")
    if shown.models and len(shown.chosen.metrics) > 1:
        _summary(context, shown)


def _by_model(context: Context, shown: Shown) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        [
            {
                say("metric"): metric,
                say("model"): model,
                say("anomalies"): len(measures.episodes(flags)),
                say("flagged"): int(flags.sum()),
                say("flagged_share"): f"{flags.mean():.2%}",
            }
            for metric in shown.chosen.metrics
            for model, flags in shown.flags(metric).items()
        ]
    )


def _summary(context: Context, shown: Shown) -> None:
    say, ts_ms = context.say, shown.chosen.frame.ts_ms
    st.subheader(say("summary"))
    st.caption(say("summary_about"))
    flags = {metric: _anyone(shown, metric) for metric in shown.chosen.metrics}
    _strips(context, shown, flags, "summary")
    episodes = measures.together(flags)
    if not episodes:
        empty(say("no_anomalies"), "", ":material/check_circle:")
        return
    st.dataframe(_episodes(context, ts_ms, episodes, "who"), hide_index=True, key="together")


def _strips(context: Context, shown: Shown, flags: Mapping[str, NDArray[np.bool_]], key: str) -> None:
    ts_ms = shown.chosen.frame.ts_ms
    spans = {
        name: [(int(ts_ms[each.first]), int(ts_ms[each.last])) for each in measures.episodes(own)]
        for name, own in flags.items()
    }
    figure = plots.strips(spans, (int(ts_ms[0]), int(ts_ms[-1])), context.palette)
    st.plotly_chart(figure, theme=None, config=_NO_TOOLS, key=f"strips {key}", alt=context.say("episodes"))


def _episodes(
    context: Context, ts_ms: NDArray[np.int64], episodes: list[tuple[measures.Episode, list[str]]], who: str
) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        [
            {
                say("from"): pd.Timestamp(int(ts_ms[each.first]), unit="ms"),
                say("to"): pd.Timestamp(int(ts_ms[each.last]), unit="ms"),
                say("count"): len(names),
                say(who): ", ".join(names),
            }
            for each, names in episodes
        ]
    )


def _compare(context: Context, shown: Shown) -> None:
    say = context.say
    if len(shown.models) < 2:
        empty(say("compare"), say("compare_needs"), ":material/compare_arrows:")
        return
    metric = shown.chosen.metrics[0]
    if len(shown.chosen.metrics) > 1:
        metric = st.selectbox(say("metric"), shown.chosen.metrics, key="compare metric")
    flags = shown.flags(metric)
    _strips(context, shown, flags, "compare")
    left, right = st.columns([2, 3])
    with left:
        st.subheader(say("agreement"))
        st.caption(say("agreement_about"))
        names = list(flags)
        shares = np.array([[measures.agreement(flags[a], flags[b]) for b in names] for a in names])
        figure = plots.matrix(names, shares, context.palette, 0.0)
        st.plotly_chart(figure, theme=None, config=_NO_TOOLS, key="agreement", alt=say("agreement"))
    with right:
        st.subheader(say("episodes"))
        episodes = measures.together(flags)
        if episodes:
            table = _episodes(context, shown.chosen.frame.ts_ms, episodes, "who_found")
            st.dataframe(table, hide_index=True, key="found by")
        else:
            empty(say("no_anomalies"), "", ":material/check_circle:")


def _analysis(context: Context, shown: Shown) -> None:
    say, chosen = context.say, shown.chosen
    st.subheader(say("correlation"))
    if len(chosen.metrics) > 1:
        st.caption(say("correlation_about"))
        columns = {metric: chosen.frame.columns[metric] for metric in chosen.metrics}
        figure = plots.matrix(chosen.metrics, analysis.correlations(columns), context.palette, -1.0)
        st.plotly_chart(figure, theme=None, config=_NO_TOOLS, key="correlation", alt=say("correlation"))
    else:
        st.caption(say("correlation_needs"))
    metric = chosen.metrics[0]
    if len(chosen.metrics) > 1:
        metric = st.selectbox(say("metric"), chosen.metrics, key="analysis metric")
    series = analysis.regular(chosen.frame, metric)
    correlation = None if series is None else analysis.autocorrelation(series)
    if series is None or correlation is None:
        empty(say("analysis"), say("analysis_small", metric=metric), ":material/data_usage:")
        return
    _seasonality(context, series, correlation)
    _stationarity(context, series)
    st.caption(say("averaged", minutes=f"{series.step_ms / 60_000:g}"))


def _seasonality(context: Context, series: analysis.Regular, found: analysis.Autocorrelation) -> None:
    say = context.say
    st.subheader(say("seasonality"))
    parts = None if found.period is None else analysis.parts(series, found.period)
    period = say("period_none")
    if found.period is not None:
        period = say("hours", hours=f"{found.period * series.step_ms / _HOUR_MS:.3g}")
    with st.container(horizontal=True):
        st.metric(say("period"), period, width="content", border=True)
        if parts is not None:
            st.metric(say("strength"), f"{parts.strength:.2f}", width="content", border=True)
    figure = plots.correlogram(found, series.step_ms, context.palette, say)
    st.plotly_chart(figure, theme=None, config=_NO_TOOLS, key="acf", alt=say("autocorrelation"))
    if parts is not None:
        figure = plots.seasonal(series, parts, context.palette, say)
        st.plotly_chart(figure, theme=None, config=_NO_TOOLS, key="parts", alt=say("seasonality"))


def _stationarity(context: Context, series: analysis.Regular) -> None:
    say = context.say
    tested = analysis.stationarity(series)
    if tested is None:
        return
    st.subheader(say("stationarity"))
    verdict = "verdict_trend" if tested.verdict == "trend" else tested.verdict
    with st.container(horizontal=True):
        st.metric(say("adf"), f"{tested.adf:.3g}", width="content", border=True)
        st.metric(say("kpss"), f"{tested.kpss:.3g}", width="content", border=True)
    st.markdown(f"**{say('verdict')}.** {say(verdict)}")


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.5g}"
