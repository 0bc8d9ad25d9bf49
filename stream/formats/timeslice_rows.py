"""Rows of metric timeslices, as TSV or JSON, one at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from schemas.deadletter import Reason
from stream.formats.names import canonical
from stream.formats.timestamps import to_ms
from stream.worker.admission import RejectedError, check_ts

COLUMNS: Final = (
    "account_id", "name", "point", "call_count", "total_call_time", "total_exclusive_time",
    "min_call_time", "max_call_time", "sum_of_squares", "instances", "language", "app_name", "app_id",
    "scope", "host", "display_host", "pid", "agent_version", "labels",
)  # fmt: skip
"""The columns of the export, in its order."""

HTTP: Final = "HttpDispatcher"
APDEX: Final = "Apdex"
ERRORS: Final = "Errors/allWeb"

_NAME, _POINT, _APP, _SCOPE = (COLUMNS.index(c) for c in ("name", "point", "app_name", "scope"))
_COUNT, _TOTAL, _EXCLUSIVE = (
    COLUMNS.index(c) for c in ("call_count", "total_call_time", "total_exclusive_time")
)
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "N": ""}


class Row(NamedTuple):
    """What the aggregation needs of a row; without ``counts`` the row only moves the time on."""

    ts_ms: int
    counts: bool
    name: str = ""
    app_name: str = ""
    call_count: float = 0.0
    total_call_time: float = 0.0
    total_exclusive_time: float = 0.0


class _JsonRow(msgspec.Struct, gc=False):
    name: str
    point: str | int | float
    app_name: str | None = None
    scope: str | None = None
    # ClickHouse writes 64-bit integers as text unless told not to.
    call_count: float | str | None = 0.0
    total_call_time: float | str | None = 0.0
    total_exclusive_time: float | str | None = 0.0


_json_row = msgspec.json.Decoder(_JsonRow).decode
_json_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RowReader:
    """Splits messages into rows and reads them; remembers what repeats from row to row."""

    def __init__(self) -> None:
        self._point: tuple[str, int] = ("", 0)
        self._apps: dict[str, None] = {}

    def split(self, raw: bytes) -> Sequence[bytes]:
        """The rows of a message; raises `RejectedError` for an array that does not parse."""
        first = raw.lstrip()[:1]
        if first == b"[":
            try:
                return [bytes(row) for row in _json_rows(raw)]
            except _UNREADABLE as error:
                raise RejectedError(Reason.NOT_PARSED, str(error)) from None
        if first == b"{":
            return [raw]
        return raw.removesuffix(b"\n").split(b"\n")

    def read(self, raw: bytes, latest_ms: int) -> Row:
        """One row; raises `RejectedError`."""
        if raw.lstrip()[:1] == b"{":
            return self._from_json(raw, latest_ms)
        try:
            fields = raw.decode().split("\t")
        except UnicodeDecodeError as error:
            raise RejectedError(Reason.NOT_TEXT, str(error)) from None
        if len(fields) != len(COLUMNS):
            reason = Reason.BAD_SHAPE if len(fields) > 1 else Reason.NOT_PARSED
            what = "" if len(fields) > 1 else "no JSON, and no timeslice row: "
            raise RejectedError(
                reason, f"{what}a timeslice row has {len(COLUMNS)} columns, this {len(fields)}"
            )
        ts_ms = self._ts_ms(fields[_POINT], latest_ms)
        name, scope = fields[_NAME], fields[_SCOPE]
        if name not in (HTTP, APDEX, ERRORS) or scope not in ("", "\\N"):
            return Row(ts_ms, counts=False)
        numbers = (fields[_COUNT], fields[_TOTAL], fields[_EXCLUSIVE])
        return self._row(ts_ms, name, _unescape(fields[_APP]), numbers)

    def _from_json(self, raw: bytes, latest_ms: int) -> Row:
        try:
            row = _json_row(raw)
        except msgspec.ValidationError as error:
            missing = "missing required field" in str(error)
            raise RejectedError(Reason.MISSING_FIELD if missing else Reason.WRONG_TYPE, str(error)) from None
        except UnicodeDecodeError as error:
            raise RejectedError(Reason.NOT_TEXT, str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise RejectedError(Reason.NOT_PARSED, str(error)) from None
        ts_ms = self._ts_ms(row.point, latest_ms)
        if row.name not in (HTTP, APDEX, ERRORS) or row.scope:
            return Row(ts_ms, counts=False)
        numbers = (row.call_count, row.total_call_time, row.total_exclusive_time)
        return self._row(ts_ms, row.name, row.app_name or "", numbers)

    def _row(self, ts_ms: int, name: str, app_name: str, numbers: Sequence[float | str | None]) -> Row:
        if app_name not in self._apps:
            if not app_name:
                raise RejectedError(Reason.BAD_SERIES, "app_name is empty")
            canonical("throughput", {"service": app_name})
            if len(self._apps) > 10_000:
                self._apps.clear()
            self._apps[app_name] = None
        return Row(ts_ms, True, name, app_name, *map(_number, numbers))

    def _ts_ms(self, point: float | str, latest_ms: int) -> int:
        """Time of a row; agents report the same minute many times, so the last one is remembered."""
        text, ts_ms = self._point
        if point != text:
            try:
                # A time in an export is text; digits alone are Unix time.
                number = isinstance(point, str) and point.replace(".", "", 1).isdigit()
                ts_ms = to_ms(float(point) if number else point)
            except (ValueError, OverflowError) as error:
                raise RejectedError(Reason.BAD_TIMESTAMP, f"point: {error}") from None
            if isinstance(point, str):
                self._point = (point, ts_ms)
        check_ts(ts_ms, latest_ms)
        return ts_ms


def _number(value: float | str | None) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # None is refused as a number is
    except (TypeError, ValueError):
        raise RejectedError(Reason.WRONG_TYPE, f"{str(value)[:40]!r} is not a number") from None
    if not math.isfinite(number):
        raise RejectedError(Reason.NOT_FINITE, f"a count is {number}")
    return number


def _unescape(text: str) -> str:
    """Undo the escapes of ClickHouse's TSV."""
    if "\\" not in text:
        return text
    out, rest = [], iter(text)
    for char in rest:
        escaped = next(rest, "\\") if char == "\\" else None
        out.append(char if escaped is None else _ESCAPES.get(escaped, escaped))
    return "".join(out)


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One TSV row of a mapping with (some of) `COLUMNS`; the rest is empty."""
    values = (str(row.get(column, "")) for column in COLUMNS)
    escaped = (v.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n") for v in values)
    return "\t".join(escaped).encode()
