"""Pipeline: how far the consumer groups are behind, what the workers do, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import streamlit as st

from console.pages.context import Context, empty
from schemas.deadletter import Reason

_EVERY_S: Final = 5.0
_LETTERS: Final = 50
_BEFORE: Final = "letters before"  # cursors of the pages that led here

_STATES: Final = {"running": "green", "paused": "red", "recovering": "red"}


def page(context: Context) -> None:
    say = context.say
    st.title(say("page_pipeline"))
    st.caption(say("pipeline_about"))
    _flow(context)
    _dead_letters(context)


@st.fragment(run_every=_EVERY_S)
def _flow(context: Context) -> None:
    say = context.say
    with context.errors_shown():
        found = context.api.get("/pipeline")
    st.header(say("groups"))
    if not found["groups"]:
        empty(say("no_groups"), say("no_groups_about"), ":material/conversion_path:")
        return
    with st.container(horizontal=True):
        for each in found["groups"]:
            if each["role"] == "worker":
                st.metric(
                    f"{say('waiting')} · {each['topic']}", f"{each['lag']:,}", width="content", border=True
                )
                rate = _rate(each["consumed_per_s"])
                st.metric(say("consumed_per_s"), rate, width="content", border=True)
    st.dataframe(_groups(context, found["groups"]), hide_index=True, key="groups")
    with st.expander(say("partitions"), icon=":material/view_column:", key="partitions"):
        st.dataframe(_partitions(context, found["groups"]), hide_index=True, key="partitions table")
    st.header(say("workers"))
    for each in found["workers"]:
        _worker(context, each)
    if not found["workers"]:
        st.caption(say("no_workers"))


def _groups(context: Context, groups: list[dict[str, Any]]) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        [
            {
                say("process"): each["role"],
                say("topic"): each["topic"],
                say("waiting"): each["lag"],
                say("end_offset"): each["end"],
                say("committed"): each["committed"],
                say("produced_per_s"): _rate(each["produced_per_s"]),
                say("consumed_per_s"): _rate(each["consumed_per_s"]),
                say("members"): each["members"],
                say("status"): each["state"],
                say("group"): each["group"],
            }
            for each in groups
        ]
    )


def _partitions(context: Context, groups: list[dict[str, Any]]) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        [
            {
                say("process"): group["role"],
                say("topic"): group["topic"],
                say("partition"): each["partition"],
                say("waiting"): each["lag"],
                say("end_offset"): each["end"],
                say("committed"): each["committed"],
                say("owner"): each["owner"] or say("nobody"),
            }
            for group in groups
            for each in group["partitions"]
        ]
    )


def _worker(context: Context, worker: Mapping[str, Any]) -> None:
    say = context.say
    if worker["error"]:
        st.warning(
            say("worker_silent", url=worker["url"], error=worker["error"]), icon=":material/cloud_off:"
        )
        return
    st.markdown(f"`{worker['url']}`")
    with st.container(horizontal=True):
        numbers = {
            "samples_per_s": _rate(worker["samples_per_s"]),
            "messages_per_s": _rate(worker["messages_per_s"]),
            "dead_letters": f"{worker['dead_letters']:,}",
            "recoveries": f"{worker['recoveries']:,}",
        }
        for key, text in numbers.items():
            st.metric(say(key), text, width="content", border=True)
    st.markdown(" ".join(map(_badge, worker["partitions"])) or say("no_partitions"))


def _badge(partition: Mapping[str, Any]) -> str:
    color = _STATES.get(partition["state"], "blue")
    return f":{color}-badge[{partition['topic']}/{partition['partition']} {partition['state']}]"


def _dead_letters(context: Context) -> None:
    say = context.say
    st.header(say("dead_letters"))
    st.caption(say("dead_letters_about"))
    reasons = st.multiselect(
        say("reason"),
        [str(each) for each in Reason],
        placeholder=say("all_reasons"),
        key="reasons",
        on_change=_first,
    )
    before: list[str] = st.session_state.setdefault(_BEFORE, [])
    cursor = {"cursor": before[-1]} if before else {}
    with context.errors_shown(), st.spinner(say("loading")):
        found = context.api.get("/deadletters", limit=_LETTERS, reason=reasons, **cursor)
    if found["items"]:
        event = st.dataframe(
            _letters(context, found["items"]),
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            key=f"letters {len(before)}",
        )
        if event.selection.rows:
            _letter(context, found["items"][event.selection.rows[0]])
        else:
            st.caption(say("choose_letter"))
    elif found["next"] is None and not before:
        empty(say("no_letters"), say("no_letters_about"), ":material/mark_email_read:")
    else:
        st.caption(say("no_letters_here"))
    with st.container(horizontal=True):
        st.button(
            say("newer"),
            on_click=before.clear,
            disabled=not before,
            icon=":material/first_page:",
            key="newer",
        )
        st.button(
            say("older"),
            on_click=before.append,
            args=(found["next"],),
            disabled=found["next"] is None,
            icon=":material/chevron_right:",
            key="older",
        )
        st.button(say("reload"), icon=":material/refresh:", key="reload")


def _first() -> None:
    st.session_state[_BEFORE] = []


def _letters(context: Context, letters: list[dict[str, Any]]) -> pd.DataFrame:
    say = context.say
    return pd.DataFrame(
        {
            say("set_aside"): pd.to_datetime([each["set_aside"] for each in letters]).tz_localize(None),
            say("reason"): [each["reason"] for each in letters],
            say("source"): [_place(each) for each in letters],
            say("error"): [each["error"] for each in letters],
            say("size"): [each["size"] for each in letters],
        }
    )


def _letter(context: Context, letter: Mapping[str, Any]) -> None:
    say = context.say
    st.markdown(f"**{say('payload')}** · `tocsin dlq show {letter['name']}`")
    st.code(letter["payload"] or say("empty_payload"), language=None, wrap_lines=True)
    if letter["cut"]:
        st.caption(say("payload_cut", size=f"{letter['size']:,}"))


def _place(letter: Mapping[str, Any]) -> str:
    part = "" if letter["position"] is None else f"[{letter['position']}]"
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}{part}"


def _rate(per_s: float | None) -> str:
    return "–" if per_s is None else f"{per_s:,.1f}"  # noqa: RUF001  # a dash in place of a number
