"""What is written to Kafka, as messages: anomaly events, incidents, scores, dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.protocol import Scored
from schemas.deadletter import DeadLetter
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from schemas.score import ScoreBatch
from stream.formats.timestamps import ms_to_iso
from stream.kafka import BATCH_BYTES, Message, TopicPartition

SCORE_CHUNK: Final = 16_384
"""Samples in one message of scores, some 700 kB: it must fit into a record batch before compression."""

EVENT_TYPE: Final = "io.tocsin.anomaly"
INCIDENT_TYPE: Final = "io.tocsin.incident"

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


def event_message(topic: str, event: AnomalyEvent, source: TopicPartition) -> Message:
    """An anomaly event as a CloudEvent in binary mode, keyed by its series."""
    place = f"/tocsin/{source.topic}/{source.partition}"
    headers = _headers(event, place, f"{EVENT_TYPE}.{event.status}", event.anomaly_id)
    return Message(topic, _json(event), event.series.encode(), headers=headers)


def incident_message(topic: str, incident: Incident) -> Message:
    """A revision of an incident as a CloudEvent in binary mode, keyed by its id."""
    headers = _headers(
        incident, "/tocsin/incidents", f"{INCIDENT_TYPE}.{incident.status}", incident.incident_id
    )
    return Message(topic, _json(incident), incident.incident_id.encode(), headers=headers)


def _headers(event: AnomalyEvent | Incident, source: str, kind: str, subject: str) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", ms_to_iso(event.detected_ms).encode()),
        ("content-type", b"application/json"),
    ]


def dead_letter_message(topic: str, letter: DeadLetter) -> Message:
    key = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
    return Message(topic, _pack(letter), key)


def encode_scores(scored: Scored, emit: Literal["all", "alerts", "none"]) -> list[bytes]:
    """Scores as `schemas.score.ScoreBatch` messages of a bounded size, in order; about 25 ns a sample."""
    if emit == "none":
        return []
    if emit == "alerts":
        scored = _take(scored, np.flatnonzero(scored.anomaly_started_ms))
    return list(_chunks(scored, SCORE_CHUNK))


def _chunks(scored: Scored, size: int) -> Iterator[bytes]:
    for start in range(0, len(scored.series_index), size):
        part = _take(scored, slice(start, start + size))
        encoded = _encode_chunk(part)
        if len(encoded) > BATCH_BYTES and size > 1:  # long names
            yield from _chunks(part, size // 2)
        else:
            yield encoded


def _take(scored: Scored, rows: slice | NDArray[Any]) -> Scored:
    """Some of the samples, all series."""
    return Scored(
        scored.series,
        scored.series_index[rows],
        scored.ts_ms[rows],
        scored.values[rows],
        scored.score[rows],
        scored.level[rows],
        scored.expected[rows],
        scored.lower[rows],
        scored.upper[rows],
        scored.state[rows],
        scored.anomaly_started_ms[rows],
        scored.events,
    )


def _encode_chunk(scored: Scored) -> bytes:
    series, index = _compact(scored)
    return _pack(
        ScoreBatch(
            series=msgspec.Raw(_pack(series)),
            index=index.tobytes(),
            ts_ms=scored.ts_ms.tobytes(),
            value=scored.values.tobytes(),
            score=scored.score.tobytes(),
            level=scored.level.tobytes(),
            expected=scored.expected.tobytes(),
            lower=scored.lower.tobytes(),
            upper=scored.upper.tobytes(),
            state=scored.state.tobytes(),
            alert=(scored.anomaly_started_ms != 0).view(np.uint8).tobytes(),
        )
    )


def _no_scores() -> bytes:
    """A message without samples."""
    series = msgspec.Raw(_pack([]))
    return _pack(ScoreBatch(series, b"", b"", b"", b"", b"", b"", b"", b"", b"", b""))


NO_SCORES: Final = _no_scores()


def _compact(scored: Scored) -> tuple[list[str], NDArray[np.uint32]]:
    """The dictionary of the series that occur, and the index into it."""
    used = np.zeros(len(scored.series), np.bool_)
    used[scored.series_index] = True
    places = np.flatnonzero(used)
    if len(places) == len(used):
        return list(scored.series), scored.series_index.astype("<u4")
    renumbered = np.cumsum(used, dtype=np.uint32) - np.uint32(1)
    return [scored.series[i] for i in places.tolist()], renumbered[scored.series_index]
