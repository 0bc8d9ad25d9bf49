"""Limits, letters and the breaker."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from schemas import config
from schemas.deadletter import Reason
from stream.worker import admission
from stream.worker.admission import Admission, Breaker, dead_letter


class FakeRecord(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = 1_716_000_000_000
    key: bytes | None = None
    topic: str = "telemetry"
    partition: int = 3


def test_messages_without_a_value_and_too_large_ones_are_set_aside() -> None:
    limits = Admission(config.Admission(max_message_bytes=4))
    good, dead = limits.screen(
        [FakeRecord(0, b"good"), FakeRecord(1, None), FakeRecord(2, b""), FakeRecord(3, b"large")]
    )
    assert [record.offset for record in good] == [0]
    assert [(d.offset, d.reason) for d in dead] == [
        (1, Reason.EMPTY),
        (2, Reason.EMPTY),
        (3, Reason.TOO_LARGE),
    ]


def test_the_future_is_measured_from_kafkas_timestamp_and_a_message_without_one_has_no_limit() -> None:
    limits = Admission(config.Admission(max_future_ms=1000))
    assert limits.latest_ms(FakeRecord(0, b"x", timestamp=5000)) == 6000
    assert limits.latest_ms(FakeRecord(0, b"x", timestamp=-1)) == admission.MAX_TS_MS


def test_a_letter_keeps_a_huge_message_only_in_part_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_RAW_BYTES", 3)
    letter = dead_letter(FakeRecord(7, b"abcdef"), Reason.TOO_LARGE, "why")
    assert letter.raw == b"abc"
    assert "only the first 3 bytes" in letter.error


def test_the_breaker_trips_after_a_whole_window_above_the_share_and_stays_tripped() -> None:
    breaker = Breaker(0.05, 60)
    assert not breaker.record(0, 1000, 1000)
    assert not breaker.record(59, 1000, 1000)
    assert breaker.record(60, 1000, 0)
    assert breaker.record(500, 1000, 0)


def test_the_breaker_forgives_what_lies_before_the_window() -> None:
    breaker = Breaker(0.05, 60)
    breaker.record(0, 1000, 1000)
    assert not breaker.record(61, 1000, 50)
    assert breaker.record(62, 1000, 51)


def test_a_handful_of_messages_does_not_trip_the_breaker() -> None:
    breaker = Breaker(0.05, 60)
    breaker.record(0, 1, 1)
    assert not breaker.record(60, 98, 98)
