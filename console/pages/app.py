"""The program that Streamlit runs: configuration, language, who may enter, and the list of pages."""

from __future__ import annotations

import argparse
import hmac
import sys
from pathlib import Path

import streamlit as st

from console.pages import explore, live, models, pipeline
from console.pages.client import Api
from console.pages.context import Context
from console.pages.texts import LANGUAGES, Say
from console.pages.theme import CHOSEN
from schemas import config
from stream import config as loader


@st.cache_resource
def _configuration() -> config.Config:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args(sys.argv[1:])
    return loader.load(options.config, options.set).config


@st.cache_resource
def _api() -> Api:
    console = _configuration().console
    return Api(console.api_url or f"http://{console.host}:{console.port}", console.token)


def _language() -> Say:
    names = list(LANGUAGES)
    asked = st.query_params.get("lang")
    known = next((name for name, code in LANGUAGES.items() if code == asked), names[0])
    chosen = st.sidebar.segmented_control(
        "Language · Язык", names, default=known, required=True, key="language", label_visibility="collapsed"
    )
    return Say(LANGUAGES[chosen or known])


def _let_in(cfg: config.Console, say: Say) -> None:
    """Who knows the token may use it through these pages; without one, the API is open as well."""
    if not cfg.token or st.session_state.get("entered"):
        return
    with st.form("token"):
        st.markdown(say("token_why"))
        given = st.text_input(say("token"), type="password")
        pressed = st.form_submit_button(say("enter"), type="primary")
    if pressed and hmac.compare_digest(given.encode(), cfg.token.encode()):
        st.session_state["entered"] = True
        st.rerun()
    if pressed:
        st.error(say("token_wrong"))
    st.stop()


def main() -> None:
    st.set_page_config("Tocsin", ":material/notifications_active:", "wide")
    cfg = _configuration()
    say = _language()
    _let_in(cfg.console, say)
    context = Context(cfg, _api(), say)
    st.html(CHOSEN % context.palette.value)
    pages = [
        st.Page(
            lambda: explore.page(context),
            title=say("page_explore"),
            icon=":material/query_stats:",
            url_path="explore",
            default=True,
        ),
        st.Page(
            lambda: live.page(context),
            title=say("page_live"),
            icon=":material/monitor_heart:",
            url_path="live",
        ),
        st.Page(
            lambda: models.page(context),
            title=say("page_models"),
            icon=":material/model_training:",
            url_path="models",
        ),
        st.Page(
            lambda: pipeline.page(context),
            title=say("page_pipeline"),
            icon=":material/conversion_path:",
            url_path="pipeline",
        ),
    ]
    st.navigation(pages).run()


main()
