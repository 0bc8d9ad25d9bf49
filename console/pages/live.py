"""Live: what the streaming detectors say now, and what people say to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import streamlit as st

from console.pages import plots
from console.pages.client import ApiError, Samples
from console.pages.context import Context, empty
from console.pages.found import NUMBERS, Found
from stream.store.history import series_id

_SAID: Final = "said"  # what became of the last command
_EVERY_S: Final = 3.0
_ROWS: Final = 50
_INCIDENTS: Final = 5
_AROUND: Final = timedelta(hours=12)
_MAX_SAMPLES: Final = 2_000
_VERDICTS: Final = {"true": "label_true", "false": "label_false", "expected": "label_expected"}
_COLORS: Final = {"info": "blue", "warning": "orange", "critical": "red"}


def page(context: Context) -> None:
    say = context.say
    st.title(say("page_live"))
    st.caption(say("live_about"))
    _now(context)


@st.fragment(run_every=_EVERY_S)
def _now(context: Context) -> None:
    say = context.say
    with context.errors_shown():
        incidents = context.api.newest("/incidents", _INCIDENTS, status="open")
        anomalies = context.api.newest("/anomalies", _ROWS)
    st.header(say("incidents"))
    for each in incidents:
        with st.container(border=True):
            color = _COLORS.get(each["severity"], "gray")
            st.markdown(f":{color}-badge[{each['severity']}] **{each['title']}**")
            st.caption(f"{each['started'][:16].replace('T', ' ')} UTC · {each['reason']}")
    if not incidents:
        st.caption(say("no_incidents"))
    st.header(say("newest"))
    if not anomalies:
        empty(say("no_live"), say("no_live_about"), ":material/monitor_heart:")
        return
    event = st.dataframe(
        _table(context, anomalies),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=260,
        key="anomalies",
        alt=say("newest"),
    )
    chosen = event.selection.rows
    _one(context, anomalies[chosen[0] if chosen and chosen[0] < len(anomalies) else 0])


def _table(context: Context, anomalies: list[dict[str, Any]]) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        {
            say("from"): pd.to_datetime([each["started"] for each in anomalies]).tz_localize(None),
            say("status"): [say("closed" if each["status"] == "close" else "open") for each in anomalies],
            say("series"): [each["series"] for each in anomalies],
            say("kind"): [each["kind"] for each in anomalies],
            say("severity"): [each["severity"] for each in anomalies],
            say("peak"): [round(each["peak_score"], 2) for each in anomalies],
            say("reason"): [each["reason"] for each in anomalies],
            say("muted"): [each["muted_by"] or "" for each in anomalies],
        }
    )


def _one(context: Context, anomaly: Mapping[str, Any]) -> None:
    say = context.say
    st.caption(say("choose_row"))
    color = _COLORS.get(anomaly["severity"], "gray")
    st.markdown(f":{color}-badge[{anomaly['severity']}] `{anomaly['series']}` · {anomaly['reason']}")
    with st.container(horizontal=True):
        for verdict, key in _VERDICTS.items():
            st.button(
                say(key),
                on_click=_label,
                args=(context, anomaly["anomaly_id"], verdict),
                icon=":material/label:",
                key=key,
            )
        st.button(
            say("mute_hour"),
            on_click=_mute,
            args=(context, anomaly["series"]),
            icon=":material/notifications_off:",
            key="mute",
        )
    # What stays until the next command: a toast would be gone with a rerun that comes in between.
    if _SAID in st.session_state:
        sent, text = st.session_state[_SAID]
        (st.success if sent else st.error)(text)
    with context.errors_shown():
        _plot(context, anomaly)
    with st.expander(say("preview"), icon=":material/preview:", key="preview", on_change="rerun") as preview:
        if preview.open:
            body = {"anomaly_id": anomaly["anomaly_id"], "verdict": "false"}
            with context.errors_shown():
                st.code("\n".join(context.api.post("/labels/preview", body)["lines"]), language=None)


def _plot(context: Context, anomaly: Mapping[str, Any]) -> None:
    started = datetime.fromisoformat(anomaly["started"])
    window = context.api.window(
        f"{series_id(anomaly['series']):016x}",
        started - _AROUND,
        started + _AROUND,
        _MAX_SAMPLES,
        [*NUMBERS, "anomaly"],
    )
    name = context.say("anomalies")
    figure = plots.series([_panel(window, name)], [name], context.palette, context.say)
    st.plotly_chart(figure, theme=None, config={"displaylogo": False}, key="live", alt=anomaly["reason"])


def _panel(window: Samples, name: str) -> plots.Panel:
    """Its samples with what the workers said of them; ``name`` stands in the legend."""
    anomaly = window.columns["anomaly"].astype(np.bool_)
    found = Found(window.ts_ms, {each: window.columns[each] for each in NUMBERS}, anomaly)
    return plots.Panel(window.series, window.ts_ms, window.columns["value"], {name: found}, name)


def _label(context: Context, anomaly_id: str, verdict: str) -> None:
    _say(context, "/labels", {"anomaly_id": anomaly_id, "verdict": verdict}, context.say(_VERDICTS[verdict]))


def _mute(context: Context, series: str) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    _say(context, "/mutes", {"matcher": series, "end": end.isoformat()}, context.say("mute_hour"))


def _say(context: Context, path: str, body: Mapping[str, Any], what: str) -> None:
    try:
        context.api.post(path, body)
        st.session_state[_SAID] = (True, context.say("sent", what=what))
    except ApiError as error:
        st.session_state[_SAID] = (False, context.say("refused", error=error))
