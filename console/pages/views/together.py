"""All metrics as one: when models of many spoke, for which metrics, and what was anomalous at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from console.pages import measures, plots
from console.pages.context import Context, empty
from console.pages.found import Found
from console.pages.views.shown import Shown, chart, episode_table, span, strips

_STRONGEST: Final = 20
"""Episodes whose contributions are drawn; the table has all."""

_NAMED: Final = 3
"""Metrics that the table names for an episode."""


def view(context: Context, shown: Shown) -> None:
    say = context.say
    if len(shown.chosen.metrics) < 2 or not shown.models:
        empty(say("together"), say("together_needs"), ":material/stacks:")
        return
    for model, found in shown.together.items():
        if not found.error:
            _model(context, shown, model, found)
    if any(metric in shown.found for metric in shown.chosen.metrics):
        _summary(context, shown)


def _model(context: Context, shown: Shown, model: str, found: Found) -> None:
    """What one model of many found."""
    say = context.say
    st.header(say("model_together", model=model))
    episodes = measures.episodes(found.anomaly)
    if not episodes:
        empty(say("no_anomalies"), "", ":material/check_circle:")
        return
    peaks = [float(np.nanmax(found.points["score"][each.first : each.last + 1])) for each in episodes]
    shares = [_shares(shown, found, each) for each in episodes]
    usual = {metric: float(np.mean([each[metric] for each in shares])) for metric in shares[0]}
    leading = max(usual, key=lambda metric: usual[metric])
    with st.container(horizontal=True):
        st.metric(say("anomalies"), str(len(episodes)), width="content", border=True)
        st.metric(say("flagged_share"), f"{found.anomaly.mean():.2%}", width="content", border=True)
        st.metric(say("peak"), f"{max(peaks):.2f}", width="content", border=True)
        st.metric(say("leading"), leading, width="content", border=True)
    st.caption(say("contributions_about"))
    strongest = sorted(np.argsort(peaks)[::-1][:_STRONGEST].tolist())
    figure = plots.contributions(
        [int(found.ts_ms[episodes[at].first]) for at in strongest],
        {metric: [shares[at][metric] for at in strongest] for metric in usual},
        context.palette,
    )
    chart(figure, f"contributions {model}", f"{say('contributions')}: {_listed(usual)}")
    rows = [
        {
            **span(context, found.ts_ms, each),
            say("peak"): round(peak, 2),
            say("contributions"): _listed(share),
        }
        for each, peak, share in zip(episodes, peaks, shares, strict=True)
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, key=f"episodes {model}", alt=say("episodes"))


def _summary(context: Context, shown: Shown) -> None:
    """Whoever spoke: which metrics were anomalous at once."""
    say, ts_ms = context.say, shown.chosen.frame.ts_ms
    st.header(say("summary"))
    st.caption(say("summary_about"))
    own = {
        shown.chosen.title(metric): _any(shown.found[metric], ts_ms)
        for metric in shown.chosen.metrics
        if metric in shown.found
    }
    many = {model: found.flags(ts_ms) for model, found in shown.together.items() if not found.error}
    flags = many | own
    strips(context, shown, flags, "summary")
    episodes = measures.together(flags)
    if not episodes:
        empty(say("no_anomalies"), "", ":material/check_circle:")
        return
    table = episode_table(context, ts_ms, episodes, "who")
    st.dataframe(table, hide_index=True, key="together", alt=say("summary"))


def _shares(shown: Shown, found: Found, episode: measures.Episode) -> dict[str, float]:
    """The contribution of each metric, by what it is called."""
    return {shown.chosen.title(metric): share for metric, share in found.shares(episode).items()}


def _any(found: Mapping[str, Found], ts_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What any of these models flags."""
    nobody = np.zeros(len(ts_ms), np.bool_)
    flags = [each.flags(ts_ms) for each in found.values() if not each.error]
    return np.asarray(np.logical_or.reduce([nobody, *flags]))


def _listed(shares: dict[str, float]) -> str:
    """The largest, as percentages."""
    largest = sorted(shares.items(), key=lambda item: -item[1])[:_NAMED]
    return ", ".join(f"{metric} {share:.0%}" for metric, share in largest if share > 0)
