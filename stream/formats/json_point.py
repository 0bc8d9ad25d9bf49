"""JSON points: `schemas.sample.Point`, one in a message or an array of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

import msgspec

from schemas.deadletter import DeadLetter, Reason
from schemas.sample import Point
from stream.formats.names import Names, canonical
from stream.formats.protocol import Collector, Decoded, Stateless, no_options
from stream.formats.timestamps import MILLISECONDS_FROM, to_ms
from stream.kafka import Record
from stream.worker.admission import Admission, RejectedError, check_ts, dead_letter


class _Wire(msgspec.Struct, gc=False):
    """A `Point` whose labels are left as they came: they are known by their bytes."""

    metric: str
    ts: int | float | str
    value: int | float
    labels: msgspec.Raw = msgspec.Raw(b"{}")


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(_Wire).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def encode_point(metric: str, labels: Mapping[str, str], ts_ms: int, value: float) -> bytes:
    """The message of one sample."""
    return _encode(Point(metric=metric, ts=ts_ms, value=value, labels=dict(labels)))


class JsonPoint(Stateless):
    """Reads about a million points a second on one core once the names are known."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._names = Names()

    @classmethod
    def create(cls, options: Mapping[str, Any], admission: Admission) -> Self:
        no_options(options)
        return cls(admission)

    def decode(self, records: Sequence[Record]) -> Decoded:
        out, dead = Collector(), list[DeadLetter]()
        latest_ms = self._admission.latest_ms
        for record in records:
            value = record.value or b""
            if value[:1] == b"[":
                self._array(record, out, dead)
                continue
            try:
                self._point(value, latest_ms(record), out)
            except RejectedError as error:
                dead.append(dead_letter(record, error.reason, str(error)))
        return Decoded(out.samples(), dead)

    def _array(self, record: Record, out: Collector, dead: list[DeadLetter]) -> None:
        raw = record.value or b""
        try:
            elements = _elements(raw)
        except _UNREADABLE as error:
            reason = Reason.NOT_TEXT if isinstance(error, UnicodeDecodeError) else Reason.NOT_PARSED
            dead.append(dead_letter(record, reason, str(error)))
            return
        latest_ms = self._admission.latest_ms(record)
        for position, element in enumerate(elements):
            part = bytes(element)
            try:
                self._point(part, latest_ms, out)
            except RejectedError as error:  # one bad element must not harm the others
                dead.append(dead_letter(record, error.reason, str(error), position, part))

    def _point(self, raw: bytes, latest_ms: int, out: Collector) -> None:
        try:
            point = _decode(raw)
        except _UNREADABLE as error:
            _explain(raw, error)
        labels = bytes(point.labels)
        text = self._names.get((point.metric, labels))
        if text is None:
            text = self._names.learn(point.metric, labels)
        ts = point.ts
        ts_ms = ts if type(ts) is int and ts > MILLISECONDS_FROM else _to_ms(ts)
        if ts_ms > latest_ms or ts_ms < 0:
            check_ts(ts_ms, latest_ms)
        try:
            value = float(point.value)
        except OverflowError:
            raise RejectedError(Reason.NOT_FINITE, "value is beyond float64") from None
        out.add(text, ts_ms, value)


def _to_ms(ts: float | str) -> int:
    try:
        return to_ms(ts)
    except (ValueError, OverflowError) as error:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"ts: {error}") from None


def _explain(raw: bytes, error: Exception) -> NoReturn:
    """Say what is wrong with a point that the fast decoder refused, looking at it slowly."""
    try:
        found = json.loads(raw.decode())
    except UnicodeDecodeError as unicode_error:
        raise RejectedError(Reason.NOT_TEXT, str(unicode_error)) from None
    except (ValueError, RecursionError):
        raise RejectedError(Reason.NOT_PARSED, str(error)) from None
    if not isinstance(found, dict):
        raise RejectedError(Reason.WRONG_TYPE, f"a point is an object, not {type(found).__name__}")
    missing = [name for name in ("metric", "ts", "value") if name not in found]
    if missing:
        raise RejectedError(Reason.MISSING_FIELD, f"missing: {', '.join(missing)}")
    _explain_fields(found)
    raise RejectedError(Reason.NOT_PARSED, str(error))


def _explain_fields(found: dict[str, Any]) -> None:
    metric, ts, value = found["metric"], found["ts"], found["value"]
    if not isinstance(metric, str):
        raise RejectedError(Reason.BAD_SERIES, f"metric is {type(metric).__name__}, not text")
    canonical(metric, {})
    if isinstance(ts, bool) or not isinstance(ts, int | float | str):
        raise RejectedError(Reason.BAD_TIMESTAMP, f"ts is {type(ts).__name__}")
    _to_ms(ts)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RejectedError(Reason.WRONG_TYPE, f"value is {type(value).__name__}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise RejectedError(Reason.NOT_FINITE, f"value is {value}")
