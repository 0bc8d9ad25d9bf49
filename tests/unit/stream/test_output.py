"""What is written: events, scores, dead letters."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.protocol import Scored
from schemas.deadletter import DeadLetter, Reason
from schemas.event import AnomalyEvent, Direction, Kind, Severity, Status
from schemas.score import ScoreBatch
from stream import output
from stream.kafka import TopicPartition

EVENT = AnomalyEvent(
    event_id="e1", anomaly_id="a1", revision=0, status=Status.OPEN, series='m{a="b"}', series_id="7",
    metric="m", labels={"a": "b"},
    kind=Kind.SPIKE, severity=Severity.WARNING, direction=Direction.ABOVE, score=2.0,
    peak_score=2.0, actual=9.0, expected=1.0, lower=0.0, upper=2.0, started_ms=1_716_000_000_000,
    detected_ms=1_716_000_000_123, ended_ms=None, samples=1, detectors=[], reason="why",
)  # fmt: skip


def scored(n: int, names: int = 5) -> Scored:
    index = (np.arange(n) * 2 % names).astype(np.int64)
    f32 = np.linspace(0, 1, n, dtype=np.float32)
    started = np.where(np.arange(n) % 10 == 3, 5, 0).astype(np.int64)
    state = np.zeros(n, np.uint8)
    series = [f"series-{i}" for i in range(names)]
    return Scored(series, index, np.arange(n), np.arange(n) / 2, f32, f32, f32, f32, f32, state, started, [])


def read(messages: list[bytes]) -> list[tuple[str, int, float, int]]:
    rows = []
    for message in messages:
        batch = msgspec.msgpack.decode(message, type=ScoreBatch)
        series = msgspec.msgpack.decode(batch.series)
        columns = zip(
            np.frombuffer(batch.index, "<u4"),
            np.frombuffer(batch.ts_ms, "<i8"),
            np.frombuffer(batch.score, "<f4"),
            np.frombuffer(batch.alert, "u1"),
            strict=True,
        )
        rows += [(series[i], int(t), float(s), int(a)) for i, t, s, a in columns]
    return rows


def expected(of: Scored) -> list[tuple[str, int, float, int]]:
    return [
        (of.series[i], int(t), float(s), int(a != 0))
        for i, t, s, a in zip(of.series_index, of.ts_ms, of.score, of.anomaly_started_ms, strict=True)
    ]


@pytest.mark.parametrize("n", [0, 1, 100, output.SCORE_CHUNK + 1])
def test_scores_read_back_in_order(n: int) -> None:
    assert read(output.encode_scores(scored(n), "all")) == expected(scored(n))


def test_only_the_series_that_occur_are_in_the_dictionary() -> None:
    part = scored(3, names=1000)
    (message,) = output.encode_scores(part, "all")
    assert msgspec.msgpack.decode(msgspec.msgpack.decode(message, type=ScoreBatch).series) == [
        "series-0",
        "series-2",
        "series-4",
    ]
    assert read([message]) == expected(part)


def test_with_alerts_only_samples_of_open_anomalies_are_written_and_with_none_nothing() -> None:
    rows = read(output.encode_scores(scored(100), "alerts"))
    assert rows == [row for row in expected(scored(100)) if row[3]]
    assert output.encode_scores(scored(100), "none") == []


def test_long_names_make_more_messages_and_not_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "BATCH_BYTES", 2000)
    messages = output.encode_scores(scored(500, names=499), "all")
    assert len(messages) > 1
    assert max(map(len, messages)) <= 2000
    assert read(messages) == expected(scored(500, names=499))


def test_an_event_is_a_cloud_event_keyed_by_its_series() -> None:
    message = output.event_message("tocsin.anomalies", EVENT, TopicPartition("telemetry", 3))
    assert message.key == b'm{a="b"}'
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e1",
        "ce_source": b"/tocsin/telemetry/3",
        "ce_type": b"io.tocsin.anomaly.open",
        "ce_subject": b"a1",
        "ce_time": b"2024-05-18T02:40:00.123Z",
        "content-type": b"application/json",
    }
    assert msgspec.json.decode(message.value, type=AnomalyEvent) == EVENT


def test_a_dead_letter_is_keyed_by_where_the_message_stands() -> None:
    letter = DeadLetter(
        topic="t", partition=1, offset=2, timestamp_ms=3, reason=Reason.EMPTY, error="e", raw=b"\xff"
    )
    message = output.dead_letter_message("tocsin.deadletters", letter)
    assert message.key == b"t/1/2"
    assert msgspec.msgpack.decode(message.value, type=DeadLetter) == letter
