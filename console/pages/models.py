"""Models: what was fitted, how old it is, how it did in its shadow report; adopt one, go back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pandas as pd
import streamlit as st

from console.pages.client import ApiError
from console.pages.context import Context, empty

_DAY_S: Final = 86_400


def page(context: Context) -> None:
    say = context.say
    st.title(say("page_models"))
    st.caption(say("models_about"))
    with context.errors_shown(), st.spinner(say("loading")):
        models = sorted(
            context.api.paged("/artifacts"), key=lambda m: (m["detector"], m["series"], not m["serving"])
        )
    if not models:
        empty(say("no_models"), say("no_models_about"), ":material/model_training:")
        return
    event = st.dataframe(
        _table(context, models),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="models table",
        alt=say("page_models"),
    )
    if not event.selection.rows:
        st.caption(say("choose_model"))
        return
    _one(context, models[event.selection.rows[0]])


def _table(context: Context, models: list[dict[str, Any]]) -> pd.DataFrame:
    say, now = context.say, datetime.now(UTC)
    return pd.DataFrame(
        [
            {
                say("model"): each["detector"],
                say("series"): each["series"],
                say("status"): say("serving" if each["serving"] else "candidate"),
                say("trained_to"): each["trained_to"][:16].replace("T", " "),
                say("age"): round(
                    (now - datetime.fromisoformat(each["trained_to"])).total_seconds() / _DAY_S, 1
                ),
                say("size"): each["size"],
            }
            for each in models
        ]
    )


def _one(context: Context, model: Mapping[str, Any]) -> None:
    say = context.say
    with st.container(horizontal=True):
        st.button(
            say("adopt"),
            disabled=model["serving"],
            on_click=_post,
            args=(context, f"/artifacts/{model['artifact_id']}/adopt", {}, say("adopt")),
            icon=":material/check:",
            key="adopt",
        )
        st.button(
            say("rollback"),
            disabled=not model["serving"],
            on_click=_post,
            args=(
                context,
                "/artifacts/rollback",
                {"detector": model["detector"], "series": model["series"]},
                say("rollback"),
            ),
            icon=":material/undo:",
            key="rollback",
        )
    st.header(say("report"))
    st.json({"artifact_id": model["artifact_id"], **model["report"], "params": model["params"]})


def _post(context: Context, path: str, body: Mapping[str, Any], what: str) -> None:
    try:
        context.api.post(path, body)
        st.toast(context.say("sent", what=what), icon=":material/check:")
    except ApiError as error:
        st.toast(context.say("refused", error=error), icon=":material/error:")
