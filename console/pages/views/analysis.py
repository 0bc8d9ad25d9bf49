"""What kind of series these are: correlation, seasonality, stationarity."""

from __future__ import annotations

from typing import Final

import streamlit as st

from console.pages import analysis, plots
from console.pages.context import Context, empty
from console.pages.views.shown import Shown, chart, choose_metric

_HOUR_MS: Final = 3_600_000


def view(context: Context, shown: Shown) -> None:
    say, chosen = context.say, shown.chosen
    _correlation(context, shown)
    metric = choose_metric(context, shown, "analysis metric")
    series = analysis.regular(chosen.frame, metric)
    correlation = None if series is None else analysis.autocorrelation(series)
    if series is None or correlation is None:
        empty(say("analysis"), say("analysis_small", metric=chosen.title(metric)), ":material/data_usage:")
        return
    _seasonality(context, series, correlation)
    _stationarity(context, series)
    st.caption(say("averaged", minutes=f"{series.step_ms / 60_000:g}"))


def _correlation(context: Context, shown: Shown) -> None:
    say, chosen = context.say, shown.chosen
    metrics = [chosen.title(metric) for metric in chosen.metrics]
    st.header(say("correlation"))
    if len(metrics) < 2:
        st.caption(say("correlation_needs"))
        return
    st.caption(say("correlation_about"))
    values = analysis.correlations(
        {chosen.title(metric): chosen.frame.columns[metric] for metric in chosen.metrics}
    )
    pairs = ", ".join(
        f"{a} · {b}: {values[i, j]:.2f}"
        for i, a in enumerate(metrics)
        for j, b in enumerate(metrics)
        if i < j
    )
    chart(
        plots.matrix(metrics, values, context.palette, -1.0), "correlation", f"{say('correlation')}: {pairs}"
    )


def _seasonality(context: Context, series: analysis.Regular, found: analysis.Autocorrelation) -> None:
    say = context.say
    st.header(say("seasonality"))
    parts = None if found.period is None else analysis.parts(series, found.period)
    period = say("period_none")
    if found.period is not None:
        period = say("hours", hours=f"{found.period * series.step_ms / _HOUR_MS:.3g}")
    with st.container(horizontal=True):
        st.metric(say("period"), period, width="content", border=True)
        if parts is not None:
            st.metric(say("strength"), f"{parts.strength:.2f}", width="content", border=True)
    figure = plots.correlogram(found, series.step_ms, context.palette, say)
    chart(figure, "acf", f"{say('autocorrelation')}; {say('period')}: {period}")
    if parts is not None:
        figure = plots.seasonal(series, parts, context.palette, say)
        chart(figure, "parts", f"{say('seasonality')}; {say('strength')}: {parts.strength:.2f}")


def _stationarity(context: Context, series: analysis.Regular) -> None:
    say = context.say
    tested = analysis.stationarity(series)
    if tested is None:
        return
    st.header(say("stationarity"))
    verdict = "verdict_trend" if tested.verdict == "trend" else tested.verdict
    with st.container(horizontal=True):
        st.metric(say("adf"), f"{tested.adf:.3g}", width="content", border=True)
        st.metric(say("kpss"), f"{tested.kpss:.3g}", width="content", border=True)
    st.markdown(f"**{say('verdict')}.** {say(verdict)}")
