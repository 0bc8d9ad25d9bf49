"""Numbers of each metric, and how much each model flags."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from console.pages import measures
from console.pages.context import Context
from console.pages.views.shown import Shown


def view(context: Context, shown: Shown) -> None:
    say, frame = context.say, shown.chosen.frame
    for metric in shown.chosen.metrics:
        found = measures.statistics(frame.columns[metric])
        st.header(shown.chosen.title(metric))
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
            numbers = {"anomalies": str(len(measures.episodes(shown.anyone(metric))))} | numbers
        with st.container(horizontal=True):
            for key, text in numbers.items():
                st.metric(say(key), text, width="content", border=True)
    if shown.models:
        st.header(say("by_model"))
        st.dataframe(_by_model(context, shown), hide_index=True, key="by model", alt=say("by_model"))


def _by_model(context: Context, shown: Shown) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        [
            {
                say("metric"): shown.chosen.title(metric),
                say("model"): model,
                say("anomalies"): len(measures.episodes(flags)),
                say("flagged"): int(flags.sum()),
                say("flagged_share"): f"{flags.mean():.2%}",
            }
            for metric in shown.chosen.metrics
            for model, flags in shown.flags(metric).items()
        ]
    )


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.5g}"
