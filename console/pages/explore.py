"""Explore: data, models, and what they find, as plot, table and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import streamlit as st

from console.pages import asking, choosing, questions
from console.pages.asking import ALL, Work
from console.pages.choosing import Chosen
from console.pages.context import Context
from console.pages.views import analysis, compare, plot, statistics, table, together
from console.pages.views.shown import Shown

_VIEWS: Final[dict[str, Callable[[Context, Shown], None]]] = {
    "plot": plot.view,
    "table": table.view,
    "statistics": statistics.view,
    "together": together.view,
    "compare": compare.view,
    "analysis": analysis.view,
}


def page(context: Context) -> None:
    say = context.say
    st.title(say("page_explore"))
    st.caption(say("explore_about"))
    chosen = choosing.samples(context)
    if chosen is None:
        return
    asked = questions.question(context, chosen)
    if asked.pressed:
        asking.begin(context, chosen, asked)
    busy = asking.progress(context)
    work = asking.latest(chosen)
    if work is not None and work.refused:
        st.error(work.refused, icon=":material/cloud_off:")
    shown = _shown(chosen, work)
    if not shown.models and not busy:
        st.info(say("run_hint", run=say("run")), icon=":material/arrow_back:")
    for metric, found in shown.found.items():
        for model, each in found.items():
            if each.error:
                where = metric or say("all_metrics")
                st.error(say("model_failed", model=model, metric=where, error=each.error))
    view = st.segmented_control(
        say("view"),
        list(_VIEWS),
        default="plot",
        required=True,
        format_func=say,
        key="view",
        label_visibility="collapsed",
    )
    _VIEWS[view or "plot"](context, shown)


def _shown(chosen: Chosen, work: Work | None) -> Shown:
    if work is None:
        return Shown(chosen, [], {})
    asked = {*chosen.metrics, *([ALL] if set(work.metrics) == set(chosen.metrics) else [])}
    found = {
        metric: {model: each.between(*chosen.span_ms) for model, each in models.items()}
        for metric, models in work.found.items()
        if metric in asked
    }
    models = list(dict.fromkeys(model for own in found.values() for model in own))
    return Shown(chosen, models, found)
