"""Incidents, commands and changes as rows of ClickHouse. Pure: no I/O."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from schemas.control import Change, Command, Label, Mute, Unmute
from schemas.incident import Incident, Member
from stream.control import muting

_MS: Final = pa.timestamp("ms", "UTC")
_TEXT: Final = pa.string()
_LABELS: Final = pa.map_(pa.string(), pa.string())


def _texts(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, _TEXT) for name in names]


def _numbers(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.float64()) for name in names]


_MEMBER: Final = [
    *_texts("anomaly_id", "series", "metric", "kind", "severity", "direction"),
    *_numbers("peak_score", "actual", "expected", "lower", "upper"),
    ("started", _MS),
    ("ended", _MS),
    ("reason", _TEXT),
]
TABLES: Final[dict[str, pa.Schema]] = {
    "incidents": pa.schema(
        [
            *_texts(
                "incident_id", "event_id", "status", "group", "severity", "title", "reason", "merged_into"
            ),
            ("revision", pa.uint32()),
            ("labels", _LABELS),
            ("peak_score", pa.float64()),
            ("started", _MS),
            ("detected", _MS),
            ("ended", _MS),
            ("series", pa.uint32()),
            ("members", pa.list_(pa.struct(_MEMBER))),
        ]
    ),
    "labels": pa.schema(
        [
            *_texts("anomaly_id", "command_id", "series", "verdict", "policy", "by", "why"),
            ("at", _MS),
            ("started", _MS),
            ("ended", _MS),
            ("detectors", pa.list_(_TEXT)),
        ]
    ),
    "mutes": pa.schema(
        [
            *_texts("mute_id", "command_id", "matcher", "repeat", "timezone", "origin", "by", "why"),
            ("at", _MS),
            ("lifted", pa.uint8()),
            ("started", _MS),
            ("ended", _MS),
            ("learn", pa.uint8()),
            ("excepted", pa.list_(_MS)),
        ]
    ),
    "changes": pa.schema(
        [
            *_texts("change_id", "kind", "title", "by", "url"),
            ("at", _MS),
            ("labels", _LABELS),
            ("mute_minutes", pa.uint32()),
        ]
    ),
}

_incident = msgspec.json.Decoder(Incident).decode
_command = msgspec.json.Decoder(Command).decode
_change = msgspec.json.Decoder(Change).decode

WRONG: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""What a message that is not ours raises below."""


class Row(NamedTuple):
    """A row and its table, a key of `TABLES`."""

    table: str
    values: dict[str, Any]


def incident(message: bytes) -> Row:
    """A message of `tocsin.incidents`; raises `WRONG`, as all of these."""
    told: Incident = _incident(message)
    times = [told.started_ms, told.detected_ms, told.ended_ms]
    times += [time for each in told.members for time in (each.started_ms, each.ended_ms)]
    _check(times, (told.revision, told.series))
    values = _timed(told, "started", "detected", "ended")
    members = [_member(each) for each in told.members]
    return Row("incidents", values | {"labels": list(told.labels.items()), "members": members})


def _member(member: Member) -> dict[str, Any]:
    return _timed(member, "started", "ended")


def command(message: bytes) -> Row | None:
    """A message of `tocsin.control`; None for a command that leaves nothing to be stored."""
    told: Command = _command(message)
    muting.check(told)
    if isinstance(told, Label):
        return Row("labels", _timed(told, "at", "started", "ended"))
    if isinstance(told, Mute):
        values = _timed(told, "at") | {"started": told.start_ms, "ended": told.end_ms}
        return Row("mutes", values | {"lifted": 0, "learn": int(told.learn), "excepted": told.except_ms})
    if isinstance(told, Unmute):
        nothing = dict.fromkeys(("matcher", "repeat", "timezone", "origin"), "")
        return Row("mutes", _timed(told, "at") | nothing | {"lifted": 1, "learn": 1, "excepted": []})
    return None


def change(message: bytes) -> Row:
    """A message of `tocsin.changes`."""
    told: Change = _change(message)
    _check([told.at_ms], ())
    return Row("changes", _timed(told, "at") | {"labels": list(told.labels.items())})


def _timed(told: msgspec.Struct, *times: str) -> dict[str, Any]:
    """The fields by their columns' names, ``x_ms`` as ``x``, enumerations as text."""
    values: dict[str, Any] = msgspec.to_builtins(told)
    return values | {name: values[f"{name}_ms"] for name in times}


def _check(times: list[int | None], counts: tuple[int, ...]) -> None:
    if not all(0 <= (ts_ms or 0) <= muting.MAX_TS_MS for ts_ms in times):
        raise ValueError("a time is outside 1970 to 2299")
    if not all(0 <= number < 2**32 for number in counts):
        raise ValueError("a count is not an unsigned 32-bit number")
