"""The sidebar of Explore: which models, and their parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

from console.pages import reading
from console.pages.choosing import Chosen
from console.pages.context import Context

_EXAMPLE_PARAMETERS: Final = '{"iforest": {"trees": 200}}'


@dataclass(frozen=True)
class Question:
    models: list[str]
    parameters: Mapping[str, Mapping[str, Any]]
    pressed: bool


def question(context: Context, chosen: Chosen) -> Question:
    """Models and their parameters."""
    say = context.say
    with context.errors_shown():
        offered = reading.models(context.api)
    many = chosen.mode == "together"
    usual = offered["takes_many"] if many else offered["models"][:1]
    with st.sidebar:
        st.header(say("models"))
        models = st.multiselect(
            say("models"),
            [*usual, *(each for each in offered["models"] if each not in usual)],
            default=usual,
            placeholder=say("choose_models"),
            label_visibility="collapsed",
            key=f"models {chosen.mode}",
        )
        with st.expander(say("parameters"), icon=":material/tune:"):
            usual_budget = context.cfg.engine.alert_budget
            budget = st.number_input(
                say("budget"),
                0.001,
                100.0,
                usual_budget,
                format="%.3g",
                help=say("budget_help"),
                key="budget",
            )
            text = st.text_area(say("more_parameters"), placeholder=_EXAMPLE_PARAMETERS, key="more")
        parameters = _parameters(text, models, None if budget == usual_budget else budget)
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
    if not ready:
        forget_press()
    return Question(models, parameters or {}, st.session_state.get("pressed", False))


def takes_many(context: Context, model: str) -> bool:
    return model in reading.models(context.api)["takes_many"]


def forget_press() -> None:
    st.session_state.pop("pressed", None)


def _press() -> None:
    st.session_state["pressed"] = True


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
