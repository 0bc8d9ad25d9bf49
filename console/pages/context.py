"""What every page is given, and how it shows that the API does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st

from console.pages.client import Api, ApiError, UnreachableError
from console.pages.texts import Say
from console.pages.theme import DARK, LIGHT, Palette
from schemas import config


@dataclass(frozen=True)
class Context:
    cfg: config.Config
    api: Api
    say: Say

    @property
    def palette(self) -> Palette:
        return DARK if st.context.theme.type == "dark" else LIGHT

    def told(self, error: ApiError) -> str:
        key = "unreachable" if isinstance(error, UnreachableError) else "refused"
        return self.say(key, error=error)

    @contextmanager
    def errors_shown(self) -> Iterator[None]:
        """An error of the API is shown in place of the rest of the page."""
        try:
            yield
        except ApiError as error:
            st.error(self.told(error), icon=":material/cloud_off:")
            st.button(self.say("again"), icon=":material/refresh:", key="again")
            st.stop()


def empty(title: str, text: str, icon: str = ":material/insights:") -> None:
    """The place of something that is not there yet, saying how to get it."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(f"## {icon} {title}", text_alignment="center")
        st.markdown(text, text_alignment="center")
