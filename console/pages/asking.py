"""Questions of Explore while the trainers work on them: progress, cancelling, and what was answered last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import streamlit as st

from console.pages import questions, upload
from console.pages.choosing import Chosen
from console.pages.client import Answer, ApiError, Running
from console.pages.context import Context
from console.pages.found import Found
from console.pages.questions import Question

ALL: Final = ""
"""In place of a metric: a model that looks at all of them at once."""

_POLL_S: Final = 0.7
_AT_ONCE: Final = 3
"""Questions that are looked at each time, in turns: an API that limits requests has others to answer, too."""


@dataclass
class Work:
    """Questions about ``metrics`` of ``key``, one for each: those that run, and what the others were
    answered.
    """

    key: str
    metrics: list[str]
    running: dict[str, Running] = field(default_factory=dict)
    found: dict[str, dict[str, Found]] = field(default_factory=dict)
    refused: str = ""
    """Why the API did not take one."""

    def take(self, metric: str, told: Running | Mapping[str, Answer]) -> None:
        self.running.pop(metric, None)
        if isinstance(told, Running):
            self.running[metric] = told  # at the end of the turns
        else:
            self.found[metric] = {model: Found.of(answer) for model, answer in told.items()}


def latest(chosen: Chosen) -> Work | None:
    """What was found in these data."""
    work: Work | None = st.session_state.get("answered")
    return work if work is not None and work.key == chosen.key else None


def begin(context: Context, chosen: Chosen, question: Question) -> None:
    """Ask, after giving up what is still being asked.

    Streamlit may end a run of the script wherever it touches the session: the press is forgotten last.
    """
    give_up(context)
    work = Work(chosen.key, chosen.metrics)
    many = [model for model in question.models if questions.takes_many(context, model)]
    single = [model for model in question.models if model not in many]
    try:
        for metric in chosen.metrics if single else ():
            work.take(metric, _ask(context, chosen, question, single, metric))
        if many:
            work.take(ALL, _ask(context, chosen, question, many, ALL))
    except ApiError as error:
        work.refused = context.told(error)
    st.session_state["work"] = work
    questions.forget_press()


def give_up(context: Context) -> None:
    work: Work | None = st.session_state.pop("work", None)
    for each in work.running.values() if work else ():
        try:
            context.api.cancel(each.job_id)
        except ApiError:
            continue  # it is over, or the API is: nobody waits for it any more


def _ask(
    context: Context, chosen: Chosen, question: Question, models: list[str], metric: str
) -> Running | Mapping[str, Answer]:
    request = {
        "models": models,
        "parameters": {name: question.parameters[name] for name in models if name in question.parameters},
        "start": chosen.start.isoformat(),
        "end": chosen.end.isoformat(),
    }
    if metric != ALL:
        request["column_name"] = metric
    if metric != ALL and chosen.source != "file":
        return context.api.find(request | ({"data_source": chosen.query} if chosen.query else {}))
    names = chosen.metrics if metric == ALL else [metric]
    return context.api.find(request, upload.written(chosen.frame, names))


def progress(context: Context) -> bool:
    """Show the work that is going on; False when there is none."""
    if "work" not in st.session_state:
        return False
    _watch(context)
    return True


@st.fragment(run_every=_POLL_S)
def _watch(context: Context) -> None:
    say = context.say
    work: Work | None = st.session_state.get("work")
    if work is None:
        st.rerun()
    with context.errors_shown():
        for metric, running in list(work.running.items())[:_AT_ONCE]:
            work.take(metric, context.api.job(running.job_id))
    if not work.running:
        st.session_state["answered"] = st.session_state.pop("work")
        st.rerun()
    with st.container(border=True):
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.markdown(f":material/hourglass_top: **{say('working')}**")
        right.button(
            say("cancel"),
            on_click=give_up,
            args=(context,),
            icon=":material/close:",
            width="stretch",
            key="cancel",
        )
        for metric in (each for each in (*work.metrics, ALL) if each in work.running):
            running = work.running[metric]
            for model, share in running.done.items():
                st.progress(share, f"{model} · {metric or say('all_metrics')} · {share:.0%}")
