"""Messages as rows: what is read, what is refused, which series ClickHouse is told of."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash

from schemas.event import AnomalyEvent, Direction, Kind, Severity, Spoke, Status
from schemas.score import ScoreBatch
from stream.output import NO_SCORES
from stream.store.sink_batch import SEEN_AGAIN_MS, Batch, SeriesBook, UnreadableError

START_MS = 1_760_000_000_000


def scores(names: list[str], index: list[int], ts_ms: list[int], **changes: Any) -> bytes:
    count = len(index)
    floats = {
        name: np.full(count, number, "<f4").tobytes()
        for number, name in enumerate(("score", "level", "expected", "lower", "upper"))
    }
    batch = ScoreBatch(
        series=msgspec.Raw(msgspec.msgpack.encode(names)),
        index=np.array(index, "<u4").tobytes(),
        ts_ms=np.array(ts_ms, "<i8").tobytes(),
        value=np.arange(count, dtype="<f8").tobytes(),
        state=bytes(count),
        alert=bytes(count),
        **floats,
    )
    return msgspec.msgpack.encode(msgspec.structs.replace(batch, **changes))


def event(series: str = 'cpu{host="a"}', **changes: Any) -> AnomalyEvent:
    told = AnomalyEvent(
        event_id="e1", anomaly_id="a1", revision=1, status=Status.OPEN, series=series, series_id="0",
        metric="cpu", labels={"host": "a"}, kind=Kind.SPIKE, severity=Severity.WARNING,
        direction=Direction.ABOVE, score=1.5, peak_score=1.6, actual=9.0, expected=None, lower=None,
        upper=2.0, started_ms=START_MS, detected_ms=START_MS + 5, ended_ms=None, samples=1,
        detectors=[Spoke("robust", 1, 1.5)], reason="high",
    )  # fmt: skip
    return msgspec.structs.replace(told, **changes)


def test_a_message_without_samples_is_no_row() -> None:
    batch = Batch(SeriesBook())
    batch.add_scores(NO_SCORES)
    assert batch.rows == 0
    batch.add_scores(scores(["a"], [0], [START_MS]))
    batch.add_scores(NO_SCORES)
    assert batch.tables().by_name["telemetry"].num_rows == 1


def test_samples_of_several_messages_become_rows_of_their_series() -> None:
    batch = Batch(SeriesBook())
    batch.add_scores(scores(["a", "b"], [1, 0], [START_MS, START_MS + 1]))
    batch.add_scores(scores(["b"], [0], [START_MS + 2]))
    assert batch.rows == 3
    tables = batch.tables().by_name
    ids = {name: xxhash.xxh64_intdigest(name.encode()) for name in ("a", "b")}
    assert tables["telemetry"]["series_id"].to_pylist() == [ids["b"], ids["a"], ids["b"]]
    assert tables["telemetry"]["upper"].to_pylist() == [4.0, 4.0, 4.0]
    seen = {row["series"]: row for row in tables["series"].to_pylist()}
    assert {name: row["series_id"] for name, row in seen.items()} == ids
    assert [seen["b"][k].timestamp() * 1000 for k in ("first_seen", "last_seen")] == [START_MS, START_MS + 2]


def test_an_event_becomes_a_row_with_its_detectors_and_labels() -> None:
    batch = Batch(SeriesBook())
    batch.add_event(msgspec.json.encode(event()))
    tables = batch.tables().by_name
    assert set(tables) == {"series", "anomalies"}
    (row,) = tables["anomalies"].to_pylist()
    assert (row["status"], row["expected"], row["ended"]) == ("open", None, None)
    assert row["labels"] == [("host", "a")]
    assert row["detectors"] == [{"name": "robust", "version": 1, "score": 1.5, "artifact": ""}]
    assert row["series_id"] == xxhash.xxh64_intdigest(b'cpu{host="a"}')


def test_a_series_is_told_once_and_again_when_it_was_seen_an_hour_later_or_earlier_than_ever() -> None:
    book = SeriesBook()

    def told(ts_ms: int, confirm: bool = True) -> bool:
        batch = Batch(book)
        batch.add_scores(scores(["a"], [0], [ts_ms]))
        tables = batch.tables()
        if confirm:
            batch.written(tables.seen)
        return "series" in tables.by_name

    assert told(START_MS, confirm=False)
    assert told(START_MS)  # what was not acknowledged is told again
    assert not told(START_MS + SEEN_AGAIN_MS - 1)
    assert told(START_MS + SEEN_AGAIN_MS)
    assert told(START_MS - 1)
    assert not told(START_MS)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "truncated"),
        (b"{}", "Expected `object`"),
        (msgspec.msgpack.encode({"v": 1}), "missing required field"),
        (scores(["a"], [1], [START_MS]), "index 1 of a dictionary of 1"),
        (scores(["a"], [0], [START_MS], value=b"1234"), "value has not 8 bytes"),
        (scores(["a"], [0], [-1]), "outside 1970 to 2299"),
        (scores(["a"], [0], [10_413_792_000_000]), "outside 1970 to 2299"),
        (scores(["a"], [0], [START_MS], v=2), "version 2"),
        (scores(["a"], [0], [START_MS], series=msgspec.Raw(b"\xa1a")), "Expected `array`"),
        (scores(["a"], [0], [START_MS], series=msgspec.Raw(b"\x91\xa1\xff")), "utf-8"),
    ],
)
def test_a_strange_message_in_the_scores_topic_is_refused_whole(message: bytes, cause: str) -> None:
    batch = Batch(SeriesBook())
    with pytest.raises(UnreadableError, match=f"(?i){cause}"):
        batch.add_scores(message)
    assert batch.rows == 0
    assert not batch.tables().by_name


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not json",
        b'{"event_id": "x"}',
        msgspec.json.encode(event(started_ms=-1)),
        msgspec.json.encode(event(revision=2**32)),
        msgspec.json.encode(event(samples=-1)),
        b'"' + b"\xff" * 3 + b'"',
    ],
)
def test_a_strange_message_in_the_anomalies_topic_is_refused(message: bytes) -> None:
    batch = Batch(SeriesBook())
    with pytest.raises(UnreadableError):
        batch.add_event(message)
    assert batch.rows == 0


def test_gaps_and_missing_scores_stay_nan() -> None:
    batch = Batch(SeriesBook())
    nothing = np.array([math.nan], "<f4").tobytes()
    gap = np.array([math.nan], "<f8").tobytes()
    batch.add_scores(scores(["a"], [0], [START_MS], value=gap, score=nothing))
    (row,) = batch.tables().by_name["telemetry"].to_pylist()
    assert math.isnan(row["value"])
    assert math.isnan(row["score"])
