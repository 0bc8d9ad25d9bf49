"""Mutes as spans of time: repetitions keep the wall clock, and a bad one is told apart."""

from datetime import UTC, datetime

import pytest

from schemas.control import Label, Mute, Refresh
from stream.control.muting import FOREVER_MS, MOST_SPANS, check, muted, spans

HOUR = 3_600_000


def ms(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def mute(**changes):
    start = ms("2026-03-01T02:00")
    fields = {
        "command_id": "c",
        "at_ms": 0,
        "mute_id": "m",
        "matcher": "cpu",
        "start_ms": start,
        "end_ms": start + HOUR,
    }
    return Mute(**{**fields, **changes})


def test_a_single_mute_is_one_span_and_without_end_it_lasts():
    assert spans(mute()) == [(ms("2026-03-01T02:00"), ms("2026-03-01T03:00"))]
    assert spans(mute(end_ms=None)) == [(ms("2026-03-01T02:00"), FOREVER_MS)]


def test_a_weekly_window_is_at_the_same_hour_by_the_local_clock_in_summer():
    found = spans(mute(repeat="FREQ=WEEKLY;BYDAY=SU;COUNT=6", timezone="Europe/Berlin"))
    assert [start for start, _ in found] == [
        ms("2026-03-01T02:00"), ms("2026-03-08T02:00"), ms("2026-03-15T02:00"), ms("2026-03-22T02:00"),
        ms("2026-03-29T01:00"), ms("2026-04-05T01:00"),
    ]  # fmt: skip
    assert {end - start for start, end in found} == {HOUR}


def test_repetitions_can_be_left_out_and_are_bounded():
    day = 24 * HOUR
    found = spans(mute(repeat="FREQ=DAILY", except_ms=[ms("2026-03-02T02:00")]))
    assert len(found) == MOST_SPANS - 1
    assert found[1][0] - found[0][0] == 2 * day


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"end_ms": 5}, "ends before it starts"),
        ({"repeat": "FREQ=SOMETIMES"}, "no recurrence rule"),
        ({"repeat": "FREQ=DAILY", "end_ms": None}, "needs an end"),
        ({"repeat": "FREQ=DAILY", "timezone": "Mars/Olympus"}, "no time zone"),
    ],
)
def test_what_is_wrong_with_a_mute_is_told(changes, told):
    with pytest.raises(ValueError, match=told):
        muted(mute(**changes))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (mute(matcher='cpu{host="a"'), "does not end"),
        (mute(repeat="every sunday"), "no recurrence rule"),
        (mute(start_ms=-1), "1970"),
        (mute(except_ms=[10**15]), "2299"),
        (Refresh(command_id="c", at_ms=0, series="{"), "does not end"),
        (Label(command_id="c", at_ms=0, anomaly_id="a", series="s", verdict="true", started_ms=-1), "1970"),
    ],
)
def test_a_command_that_nobody_can_follow_is_told(command, said):
    with pytest.raises(ValueError, match=said):
        check(command)
    check(mute())
