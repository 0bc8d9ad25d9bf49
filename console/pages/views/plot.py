"""All chosen metrics on one axis of time, with what models found."""

from __future__ import annotations

import numpy as np
import streamlit as st

from console.pages import measures, plots
from console.pages.context import Context
from console.pages.found import NOTHING
from console.pages.views.shown import Shown, chart


def view(context: Context, shown: Shown) -> None:
    say, chosen = context.say, shown.chosen
    banded = [
        model for model in shown.models if any(shown.of(m).get(model, NOTHING).banded for m in chosen.metrics)
    ]
    band_of = banded[0] if banded else None
    if len(banded) > 1:
        band_of = st.segmented_control(say("band_of"), banded, default=band_of, required=True, key="band")
    panels = [
        plots.Panel(
            chosen.title(metric), chosen.frame.ts_ms, chosen.frame.columns[metric], shown.of(metric), band_of
        )
        for metric in chosen.metrics
    ]
    panels += [
        plots.Panel.of_level(model, found) for model, found in shown.together.items() if not found.error
    ]
    figure = plots.series(panels, shown.models, context.palette, say)
    count = len(measures.episodes(np.logical_or.reduce([shown.anyone(each) for each in chosen.metrics])))
    summary = say(
        "plot_alt",
        metrics=", ".join(map(chosen.title, chosen.metrics)),
        start=f"{chosen.start:%Y-%m-%d %H:%M}",
        end=f"{chosen.end:%Y-%m-%d %H:%M}",
        count=count,
    )
    chart(figure, "series", summary)
    st.caption(f"{summary}. {say('drawn')}")
