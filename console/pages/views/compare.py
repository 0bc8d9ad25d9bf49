"""Models side by side: what each found in a metric, and how far they agree."""

from __future__ import annotations

import numpy as np
import streamlit as st

from console.pages import measures, plots
from console.pages.context import Context, empty
from console.pages.views.shown import Shown, chart, choose_metric, episode_table, strips


def view(context: Context, shown: Shown) -> None:
    say = context.say
    if len(shown.models) < 2:
        empty(say("compare"), say("compare_needs"), ":material/compare_arrows:")
        return
    metric = choose_metric(context, shown, "compare metric")
    flags = shown.flags(metric)
    strips(context, shown, flags, "compare")
    left, right = st.columns([2, 3])
    with left:
        st.header(say("agreement"))
        st.caption(say("agreement_about"))
        names = list(flags)
        shares = np.array([[measures.agreement(flags[a], flags[b]) for b in names] for a in names])
        pairs = ", ".join(
            f"{a} · {b}: {shares[i, j]:.0%}"
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if i < j
        )
        chart(plots.matrix(names, shares, context.palette, 0.0), "agreement", f"{say('agreement')}: {pairs}")
    with right:
        st.header(say("episodes"))
        episodes = measures.together(flags)
        if episodes:
            table = episode_table(context, shown.chosen.frame.ts_ms, episodes, "who_found")
            st.dataframe(table, hide_index=True, key="found by", alt=say("episodes"))
        else:
            empty(say("no_anomalies"), "", ":material/check_circle:")
    _side_by_side(context, shown, metric)


def _side_by_side(context: Context, shown: Shown, metric: str) -> None:
    """The metric once for each model, with its own band and marks, on one axis of time."""
    say, frame = context.say, shown.chosen.frame
    st.header(say("side_by_side"))
    panels = [
        plots.Panel(model, frame.ts_ms, frame.columns[metric], {model: found}, model)
        for model, found in shown.of(metric).items()
        if not found.error
    ]
    figure = plots.series(panels, shown.models, context.palette, say)
    counts = ", ".join(f"{m}: {len(measures.episodes(own))}" for m, own in shown.flags(metric).items())
    chart(figure, "side by side", f"{shown.chosen.title(metric)}; {say('anomalies')}: {counts}")
