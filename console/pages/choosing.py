"""The sidebar of Explore: which samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import streamlit as st

from console.pages import reading, upload
from console.pages.context import Context, empty
from stream.errors import UserError
from stream.refresh.frames import Frame

MAX_METRICS: Final = 8
"""Drawn on one page where each is looked at by itself: more cannot be told apart."""

MAX_TOGETHER: Final = 16
"""Of one question to a model of many."""

_FIRST_RANGE: Final = timedelta(days=31)
_EXAMPLE: Final = "timestamp,cpu,memory\n2026-01-01T00:00:00Z,0.31,512\n2026-01-01T00:01:00Z,0.35,518"
_QUERY: Final = """\
SELECT toStartOfInterval(ts, INTERVAL 5 MINUTE) AS timestamp, avg(value) AS mean, max(value) AS highest
FROM telemetry_dedup
WHERE series_id = xxHash64('{series}')
GROUP BY timestamp
ORDER BY timestamp"""

Mode = Literal["single", "together"]
Source = Literal["telemetry", "query", "file"]


@dataclass(frozen=True)
class Chosen:
    """Samples of some metrics in ``[start, end)``; ``key`` names where they come from. ``query`` is what an
    API that reads them itself is given for `/find`.
    """

    key: str
    metrics: list[str]
    frame: Frame
    start: datetime
    end: datetime
    source: Source
    mode: Mode
    query: Mapping[str, Any] | None = None

    def title(self, metric: str) -> str:
        """What to call a metric."""
        return titles(self.metrics).get(metric, metric)

    @property
    def span_ms(self) -> tuple[int, int]:
        return _ms(self.start), _ms(self.end)


def titles(series: Sequence[str]) -> dict[str, str]:
    """What to call each series: by its metric alone where the labels of all are the same."""
    parts = {each: each.partition("{") for each in series}
    if len({labels for _, _, labels in parts.values()}) > 1:
        return {each: each for each in series}
    return {each: metric for each, (metric, _, _) in parts.items()}


def samples(context: Context) -> Chosen | None:
    """What to look at; None when the page has shown what to choose first."""
    say = context.say
    with st.sidebar:
        st.header(say("data"))
        source: Source = st.segmented_control(
            say("source"),
            ["telemetry", "query", "file"],
            default="telemetry",
            required=True,
            format_func=say,
            key="source",
        )
        mode: Mode = st.segmented_control(
            say("mode"),
            ["single", "together"],
            default="single",
            required=True,
            format_func=say,
            help=say("mode_help"),
            key="mode",
        )
    match source:
        case "file":
            return _of_file(context, mode)
        case "query":
            return _of_query(context, mode)
        case _:
            return _of_telemetry(context, mode)


def _of_file(context: Context, mode: Mode) -> Chosen | None:
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
        frame = reading.file(content, file.name, time, context.cfg.console.max_rows)
    except UserError as error:
        st.error(f"**{say('bad_file')}.** {error}", icon=":material/error:")
        st.caption(say("bad_file_help"))
        st.code(_EXAMPLE, language="csv")
        return None
    return _of_frame(context, frame, f"{file.file_id} {time}", "file", mode)


def _of_query(context: Context, mode: Mode) -> Chosen | None:
    say = context.say
    asked = _asked(context)
    if asked is None:
        empty(say("empty_title"), say("empty_query"), ":material/database_search:")
        return None
    with context.errors_shown(), st.spinner(say("loading")):
        frame = reading.query(context.api, asked)
    key = hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest()[:16]
    return _of_frame(context, frame, key, "query", mode, asked)


def _asked(context: Context) -> Mapping[str, Any] | None:
    """The query that was run last, as `/find` takes it."""
    say = context.say
    servers = [None, *context.cfg.console.data_sources]
    with st.form("query form"):
        server = None
        if len(servers) > 1:
            server = st.selectbox(
                say("server"),
                servers,
                format_func=lambda each: f"{each.host}:{each.port}" if each else say("own_server"),
                key="server",
            )
        sql = st.text_area(
            say("sql"), _example(context), height=140, max_chars=100_000, help=say("sql_help"), key="sql"
        )
        pressed = st.form_submit_button(say("run_query"), icon=":material/play_arrow:")
    if pressed and sql.strip():
        where = {} if server is None else {"host": server.host, "port": server.port}
        st.session_state["asked query"] = {"query": sql, **where}
        reading.query.clear()  # whoever presses wants to see what is there now
    asked: Mapping[str, Any] | None = st.session_state.get("asked query")
    return asked


def _example(context: Context) -> str:
    """A query that can be run as it is, where there is telemetry."""
    with context.errors_shown():
        listed = reading.series(context.api)
    text = listed[0]["series"] if listed else 'metric{label="value"}'
    return _QUERY.format(series=text.replace("\\", "\\\\").replace("'", "\\'"))


def _of_frame(
    context: Context,
    frame: Frame,
    key: str,
    source: Source,
    mode: Mode,
    query: Mapping[str, Any] | None = None,
) -> Chosen | None:
    """Columns and range of what is there as a whole."""
    if not len(frame):
        empty(context.say("nothing_there"), "", ":material/event_busy:")
        return None
    metrics = _metrics(context, list(frame.columns), list(frame.columns), key, mode)
    if not metrics:
        return None
    first, last = _moment(int(frame.ts_ms[0])), _moment(int(frame.ts_ms[-1]))
    span = _range(context, key, first, last, first)
    if span is None:
        return None
    cut = frame.between(*map(_ms, span))
    return _checked(context, Chosen(key, metrics, cut, *span, source, mode, query))


def _of_telemetry(context: Context, mode: Mode) -> Chosen | None:
    say = context.say
    with context.errors_shown(), st.spinner(say("loading")):
        listed = {each["series"]: each for each in reading.series(context.api)}
    if not listed:
        empty(say("empty_title"), say("empty_telemetry"), ":material/database:")
        return None
    names, usual, key = list(listed), list(listed)[:1], "telemetry"
    if mode == "together":
        group = _group(context, list(listed.values()))
        names = usual = [name for name in names if group is None or _belongs(listed[name], group)]
        key = f"telemetry {group}"
    metrics = _metrics(context, names, usual, key, mode)
    if not metrics:
        return None
    first = min(_parsed(listed[each]["first_seen"]) for each in metrics)
    last = max(_parsed(listed[each]["last_seen"]) for each in metrics)
    span = _range(context, "telemetry", first, last, max(first, last - _FIRST_RANGE))
    if span is None:
        return None
    with context.errors_shown(), st.spinner(say("loading")):
        windows = {each: reading.window(context.api, listed[each]["id"], *span) for each in metrics}
    frame = upload.joined({name: frame for name, (frame, _) in windows.items()})
    total = sum(count for _, count in windows.values())
    shown = sum(len(each.ts_ms) for each, _ in windows.values())
    if shown < total:
        st.caption(say("thinned_source", shown=f"{shown:,}", total=f"{total:,}"))
    return _checked(context, Chosen("telemetry", metrics, frame, *span, "telemetry", mode))


def _group(context: Context, listed: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """A label that several series share: all metrics of a service; None where no label is shared."""
    counts: dict[tuple[str, str], int] = {}
    for each in listed:
        for label in each["labels"].items():
            counts[label] = counts.get(label, 0) + 1
    shared = [label for label, count in sorted(counts.items()) if count > 1]
    if not shared:
        return None
    with st.sidebar:
        return st.selectbox(
            context.say("of_label"), shared, format_func=lambda each: f"{each[0]} = {each[1]}", key="group"
        )


def _belongs(series: Mapping[str, Any], label: tuple[str, str]) -> bool:
    return bool(series["labels"].get(label[0]) == label[1])


def _checked(context: Context, chosen: Chosen) -> Chosen | None:
    if len(chosen.frame):
        return chosen
    empty(context.say("nothing_in_range"), "", ":material/event_busy:")
    return None


def _metrics(context: Context, names: list[str], usual: list[str], key: str, mode: Mode) -> list[str]:
    say = context.say
    at_most = MAX_TOGETHER if mode == "together" else MAX_METRICS
    with st.sidebar:
        chosen = st.multiselect(
            say("metrics"),
            names,
            default=usual[:at_most],
            format_func=titles(names).__getitem__,
            max_selections=at_most,
            placeholder=say("choose_metrics"),
            key=f"metrics {key} {mode}",
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
    ends = {"start": _minute(begin), "end": high}
    chosen = []
    with st.sidebar:
        for name, usual in ends.items():
            chosen.append(
                st.datetime_input(
                    say(name),
                    _naive(usual),
                    _naive(low),
                    _naive(high),
                    key=f"{name} {key}",
                    format="YYYY-MM-DD",
                    step=timedelta(minutes=1),
                )
            )
        start, end = chosen
        if start is None or end is None or start >= end:
            st.error(say("empty_range"))
            return None
    return start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)


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
