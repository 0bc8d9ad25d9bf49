"""What Explore reads, kept for a while, so that a click does not read it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import streamlit as st

from console.pages import upload
from console.pages.client import Api
from console.windows import MAX_SAMPLES
from stream.refresh.frames import Frame

_SERIES_TTL_S: Final = 10.0
_TTL_S: Final = 60.0


@st.cache_resource(max_entries=16, show_spinner=False)
def file(content: bytes, name: str, time_column: str, max_rows: int) -> Frame:
    """Raises `UserError` that names the line which cannot be read."""
    return upload.frame(content, name, time_column, max_rows)


@st.cache_resource(ttl=_SERIES_TTL_S, max_entries=1, show_spinner=False)
def series(_api: Api) -> list[dict[str, Any]]:
    return _api.series()


@st.cache_resource(ttl=_TTL_S, max_entries=64, show_spinner=False)
def window(_api: Api, series_id: str, start: datetime, end: datetime) -> tuple[Frame, int]:
    """The samples of a series, under its text, and how many there are."""
    found = _api.window(series_id, start, end, MAX_SAMPLES)
    return Frame(found.ts_ms, {found.series: found.columns["value"]}), found.total


@st.cache_resource(ttl=10 * _TTL_S, max_entries=8, show_spinner=False)
def query(_api: Api, asked: Mapping[str, Any]) -> Frame:
    """The rows of a query, as `/find` would read them."""
    return Frame(*_api.query(asked))


@st.cache_resource(ttl=_TTL_S, max_entries=1, show_spinner=False)
def models(_api: Api) -> Mapping[str, Any]:
    return _api.models()
