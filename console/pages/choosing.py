"""The sidebar of Explore: which samples, which models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import streamlit as st

from console.pages import upload
from console.pages.client import Api
from console.pages.context import Context, empty
from console.windows import MAX_SAMPLES
from stream.errors import UserError
from stream.refresh.frames import Frame

MAX_METRICS: Final = 8
"""Drawn on one page: more cannot be told apart."""

_FIRST_RANGE: Final = timedelta(days=31)
_SERIES_TTL_S: Final = 10.0
_WINDOW_TTL_S: Final = 60.0
_EXAMPLE: Final = "timestamp,cpu,memory\n2026-01-01T00:00:00Z,0.31,512\n2026-01-01T00:01:00Z,0.35,518"
_EXAMPLE_PARAMETERS: Final = '{"iforest": {"trees": 200}}'


@dataclass(frozen=True)
class Chosen:
    """Samples of some metrics in ``[start, end)``; ``key`` names where they come from, ``total``
    counts what is there, which may be more than was loaded.
    """

    key: str
    metrics: list[str]
    frame: Frame
    start: datetime
    end: datetime
    total: int
    from_file: bool

    @property
    def span_ms(self) -> tuple[int, int]:
        return _ms(self.start), _ms(self.end)


@dataclass(frozen=True)
class Question:
    models: list[str]
    parameters: Mapping[str, Mapping[str, Any]]
    pressed: bool


def samples(context: Context) -> Chosen | None:
    """What to look at; None when the page has shown what to choose first."""
    say = context.say
    with st.sidebar:
        st.subheader(say("data"))
        source = st.segmented_control(
            say("source"),
            ["telemetry", "file"],
            default="telemetry",
            required=True,
            format_func=say,
            key="source",
        )
    return _of_file(context) if source == "file" else _of_telemetry(context)


def question(context: Context) -> Question:
    """Models and their parameters."""
    say = context.say
    with context.errors_shown():
        offered = _models(context.api)
    with st.sidebar:
        st.subheader(say("models"))
        models = st.multiselect(
            say("models"),
            offered["models"],
            default=offered["models"][:1],
            placeholder=say("choose_models"),
            label_visibility="collapsed",
            key="models",
        )
        with st.expander(say("parameters"), icon=":material/tune:"):
            usual = context.cfg.engine.alert_budget
            budget = st.number_input(
                say("budget"), 0.001, 100.0, usual, format="%.3g", help=say("budget_help"), key="budget"
            )
            text = st.text_area(say("more_parameters"), placeholder=_EXAMPLE_PARAMETERS, key="more")
        parameters = _parameters(text, models, None if budget == usual else budget)
        if parameters is None:
            st.error(say("bad_parameters", example=_EXAMPLE_PARAMETERS))
        ready = bool(models) and parameters is not None
        # A callback, because a rerun that overtakes this one would forget that the button was pressed.
        st.button(
            say("run"),
            on_click=_press,
            type="primary",
            icon=":material/search:",
            disabled=not ready,
            width="stretch",
            key="run",
        )
    pressed = ready and st.session_state.pop("pressed", False)
    return Question(models, parameters or {}, pressed)


def _press() -> None:
    st.session_state["pressed"] = True


def takes_many(context: Context, model: str) -> bool:
    return model in _models(context.api)["takes_many"]


def _parameters(text: str, models: list[str], budget: float | None) -> dict[str, dict[str, Any]] | None:
    """None when the text is not an object of objects."""
    try:
        given = json.loads(text) if text.strip() else {}
    except ValueError:
        return None
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        return None
    common = {} if budget is None else {"alert_budget": budget}
    return {model: common | given.get(model, {}) for model in models if common or model in given}


def _of_file(context: Context) -> Chosen | None:
    say = context.say
    with st.sidebar:
        file = st.file_uploader(say("upload"), ["csv", "gz", "txt"], help=say("upload_help"), key="file")
    if file is None:
        empty(say("empty_title"), say("empty_file"), ":material/upload_file:")
        return None
    content = file.getvalue()
    try:
        header, usual = upload.columns(content, file.name)
        with st.sidebar:
            at = header.index(usual) if usual else 0
            time = st.selectbox(say("time_column"), header, at, key=f"time {file.file_id}")
        frame = _frame(content, file.name, time, context.cfg.console.max_rows)
    except UserError as error:
        st.error(f"**{say('bad_file')}.** {error}", icon=":material/error:")
        st.caption(say("bad_file_help"))
        st.code(_EXAMPLE, language="csv")
        return None
    names = list(frame.columns)
    metrics = _metrics(context, names, names[:MAX_METRICS], file.file_id)
    if not metrics:
        return None
    first, last = _moment(int(frame.ts_ms[0])), _moment(int(frame.ts_ms[-1]))
    span = _range(context, f"{file.file_id} {time}", first, last, first)
    if span is None:
        return None
    cut = frame.between(*map(_ms, span))
    return _checked(context, Chosen(f"{file.file_id} {time}", metrics, cut, *span, len(cut), from_file=True))


def _of_telemetry(context: Context) -> Chosen | None:
    say = context.say
    with context.errors_shown():
        listed = {each["series"]: each for each in _series(context.api)}
    if not listed:
        empty(say("empty_title"), say("empty_telemetry"), ":material/database:")
        return None
    metrics = _metrics(context, list(listed), list(listed)[:1], "telemetry")
    if not metrics:
        return None
    first = min(_parsed(listed[each]["first_seen"]) for each in metrics)
    last = max(_parsed(listed[each]["last_seen"]) for each in metrics)
    span = _range(context, "telemetry", first, last, max(first, last - _FIRST_RANGE))
    if span is None:
        return None
    with context.errors_shown(), st.spinner(say("loading")):
        windows = {each: _window(context.api, listed[each]["id"], *span) for each in metrics}
    frame = upload.joined({name: frame for name, (frame, _) in windows.items()})
    total = sum(count for _, count in windows.values())
    shown = sum(len(each.ts_ms) for each, _ in windows.values())
    if shown < total:
        st.caption(say("thinned_source", shown=f"{shown:,}", total=f"{total:,}"))
    return _checked(context, Chosen("telemetry", metrics, frame, *span, total, from_file=False))


def _checked(context: Context, chosen: Chosen) -> Chosen | None:
    if len(chosen.frame):
        return chosen
    empty(context.say("nothing_in_range"), "", ":material/event_busy:")
    return None


def _metrics(context: Context, names: list[str], default: list[str], key: str) -> list[str]:
    say = context.say
    with st.sidebar:
        chosen = st.multiselect(
            say("metrics"),
            names,
            default=default,
            max_selections=MAX_METRICS,
            placeholder=say("choose_metrics"),
            key=f"metrics {key}",
        )
    if not chosen:
        empty(say("empty_title"), say("empty_metrics"), ":material/query_stats:")
    return chosen


def _range(
    context: Context, key: str, first: datetime, last: datetime, begin: datetime
) -> tuple[datetime, datetime] | None:
    """Start and end in UTC, the end beyond the last sample."""
    say = context.say
    low, high = _minute(first), _minute(last) + timedelta(minutes=1)
    with st.sidebar:
        step = timedelta(minutes=1)
        start = st.datetime_input(
            say("start"),
            _naive(_minute(begin)),
            _naive(low),
            _naive(high),
            key=f"start {key}",
            format="YYYY-MM-DD",
            step=step,
        )
        end = st.datetime_input(
            say("end"),
            _naive(high),
            _naive(low),
            _naive(high),
            key=f"end {key}",
            format="YYYY-MM-DD",
            step=step,
        )
        if start is None or end is None or start >= end:
            st.error(say("empty_range"))
            return None
    return start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)


@st.cache_resource(max_entries=16, show_spinner=False)
def _frame(content: bytes, name: str, time_column: str, max_rows: int) -> Frame:
    return upload.frame(content, name, time_column, max_rows)


@st.cache_resource(ttl=_SERIES_TTL_S, max_entries=1, show_spinner=False)
def _series(_api: Api) -> list[dict[str, Any]]:
    return _api.series()


@st.cache_resource(ttl=_WINDOW_TTL_S, max_entries=64, show_spinner=False)
def _window(_api: Api, series_id: str, start: datetime, end: datetime) -> tuple[Frame, int]:
    """The samples of a series, under its text, and how many there are."""
    found = _api.window(series_id, start, end, MAX_SAMPLES)
    return Frame(found.ts_ms, {found.series: found.columns["value"]}), found.total


@st.cache_resource(ttl=_WINDOW_TTL_S, max_entries=1, show_spinner=False)
def _models(_api: Api) -> Mapping[str, Any]:
    return _api.models()


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _naive(moment: datetime) -> datetime:
    """Streamlit's times have no zone; these are UTC."""
    return moment.replace(tzinfo=None)
