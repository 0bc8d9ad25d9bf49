"""The HTTP API as the pages call it; every error is a sentence for the person at the screen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

_TIMEOUT_S: Final = 60.0
"""Above what a query of the API may take (console.query_timeout_ms)."""

_PAGE: Final = 1000
_MAX_PAGES: Final = 20


class ApiError(Exception):
    """The API refused or failed; the message is its own."""


class UnreachableError(ApiError):
    """There is no API at its address."""


class Samples(NamedTuple):
    """A window of a series; ``columns`` by field, NaN where there is nothing. ``total`` counts what there is,
    which may be more than is here.
    """

    series: str
    total: int
    ts_ms: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]


class Window(msgspec.Struct):
    """`Samples` as they come."""

    series: str
    total: int
    columns: dict[str, list[float | bool | None]]


class Queried(msgspec.Struct):
    ts_ms: list[int]
    columns: dict[str, list[float | None]]


class Span(msgspec.Struct):
    start: str
    end: str
    severity: float


class Points(msgspec.Struct, tag_field="kind", tag="columns"):
    columns: dict[str, list[float | bool | None]]


class Intervals(msgspec.Struct, tag_field="kind", tag="intervals"):
    intervals: list[Span]


class Failed(msgspec.Struct, tag_field="kind", tag="error"):
    error: str


Answer = Points | Intervals | Failed
_window = msgspec.json.Decoder(Window).decode
_queried = msgspec.json.Decoder(Queried).decode
_answers = msgspec.json.Decoder(dict[str, Answer]).decode


class Running(msgspec.Struct):
    """A job that has not ended: the share done of each model."""

    job_id: str
    done: dict[str, float]


class Api:
    """A client of one API; thread-safe."""

    def __init__(self, url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S)

    def models(self) -> Mapping[str, Any]:
        """``models``, and of them those that ``takes_many`` series at once."""
        return dict(self._json("GET", "/models"))

    def series(self) -> list[dict[str, Any]]:
        return list(self.paged("/series"))

    def paged(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Items of a list, page after page."""
        cursor = None
        for _ in range(_MAX_PAGES):
            page = self._json("GET", path, params={"limit": _PAGE, **params} | _given(cursor=cursor))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def newest(self, path: str, limit: int, **params: Any) -> list[dict[str, Any]]:
        """The first items of a list."""
        page = self._json("GET", path, params={"limit": limit, **params})
        return list(page["items"])

    def window(
        self,
        series_id: str,
        start: datetime | None,
        end: datetime | None,
        max_samples: int,
        fields: Sequence[str] = ("value",),
    ) -> Samples:
        """Samples of a series with these fields."""
        params = {"max_samples": max_samples, "fields": ["ts_ms", *fields]}
        params |= _given(start=_text(start), end=_text(end))
        return samples(self._send("GET", f"/series/{series_id}/window", params=params).content)

    def find(self, request: Mapping[str, Any], file: bytes | None = None) -> Running | dict[str, Answer]:
        """Begin a question, about the telemetry or about a CSV file."""
        params = {"wait_ms": 0, "format": "columns"}
        if file is None:
            reply = self._send("POST", "/find", params=params, json=request)
        else:
            reply = self._send(
                "POST",
                "/find/file",
                params=params,
                files={"file": ("upload.csv", file)},
                data={"request": json.dumps(request)},
            )
        return _told(reply)

    def job(self, job_id: str) -> Running | dict[str, Answer]:
        return _told(self._send("GET", f"/find/{job_id}", params={"format": "columns"}))

    def cancel(self, job_id: str) -> None:
        self._send("DELETE", f"/find/{job_id}")

    def query(self, source: Mapping[str, Any]) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
        """Times and columns that a SELECT gives; ``source`` as in `/find`."""
        found = _queried(self._send("POST", "/query", json=source).content)
        return np.array(found.ts_ms, np.int64), arrays(found.columns)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._json("POST", path, json=body)

    def delete(self, path: str) -> Any:
        return self._json("DELETE", path)

    def get(self, path: str, **params: Any) -> Any:
        return self._json("GET", path, params=params)

    def _json(self, method: str, path: str, **how: Any) -> Any:
        return msgspec.json.decode(self._send(method, path, **how).content)

    def _send(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, path, **how)
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self.url}: {error}") from error
        if reply.is_error:
            raise ApiError(_detail(reply))
        return reply


def samples(content: bytes) -> Samples:
    """A window as it comes."""
    found = _window(content)
    columns = arrays(found.columns)
    return Samples(found.series, found.total, columns.pop("ts_ms").astype(np.int64), columns)


def arrays(columns: Mapping[str, Sequence[float | bool | None]]) -> dict[str, NDArray[np.float64]]:
    """Columns as they come; NaN where there is nothing."""
    return {name: np.array(each, np.float64) for name, each in columns.items()}


def _told(reply: httpx.Response) -> Running | dict[str, Answer]:
    if reply.status_code != HTTPStatus.ACCEPTED:
        return _answers(reply.content)
    job = reply.json()
    return Running(job["job_id"], {name: float(each["done"]) for name, each in job["models"].items()})


def _detail(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.reason_phrase}"


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
