"""What was found as rows, on the screen and as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import streamlit as st

from console.pages.context import Context, empty
from console.pages.found import Found, file_name, zipped
from console.pages.views.shown import Shown

_MAX_ROWS: Final = 2_000
"""Of a table on the screen; the file has all."""


_TITLED: Final = (
    "timestamp", "value", "score", "level", "expected", "lower", "upper", "anomaly", "start", "end",
    "severity",
)  # fmt: skip
"""Columns whose titles on the screen are in its language; the files keep these names."""


def view(context: Context, shown: Shown) -> None:
    say = context.say
    answers = {
        (metric, model): found
        for metric, models in shown.found.items()
        for model, found in models.items()
        if not found.error
    }
    if not answers:
        empty(say("no_results"), say("run_hint", run=say("run")), ":material/table:")
        return
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    metrics = list(dict.fromkeys(metric for metric, _ in answers))
    metric = left.selectbox(
        say("metric"),
        metrics,
        format_func=lambda each: shown.chosen.title(each) or say("all_metrics"),
        key="table metric",
    )
    model = middle.selectbox(say("model"), [m for each, m in answers if each == metric], key="table model")
    only = right.toggle(say("only_anomalies"), value=True, key="table only")
    rows = answers[metric, model].table(only_anomalies=only)
    if len(rows):
        alt = f"{say('table')}: {shown.chosen.title(metric) or say('all_metrics')}, {model}"
        shortened = rows.head(_MAX_ROWS).dropna(axis="columns", how="all")
        titles = {name: say(f"column_{name}") for name in _TITLED if name in shortened}
        st.dataframe(shortened, hide_index=True, key="table", alt=alt, column_config=titles)
        if len(rows) > _MAX_ROWS:
            st.caption(say("first_rows", shown=f"{_MAX_ROWS:,}", total=f"{len(rows):,}"))
    else:
        empty(say("no_anomalies"), "", ":material/check_circle:")
    _downloads(context, answers, metric, model)


def _downloads(context: Context, answers: Mapping[tuple[str, str], Found], metric: str, model: str) -> None:
    say = context.say
    with st.container(horizontal=True):
        st.download_button(
            say("download_csv"),
            answers[metric, model].csv,
            f"{file_name(metric, model)}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="csv",
        )
        if len(answers) > 1:
            st.download_button(
                say("download_zip"),
                lambda: zipped({f"{file_name(*names)}.csv": found.csv() for names, found in answers.items()}),
                "anomalies.zip",
                "application/zip",
                icon=":material/folder_zip:",
                on_click="ignore",
                key="zip",
            )
