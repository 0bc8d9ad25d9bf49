"""When mutes hold, and which commands cannot be followed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from schemas.control import Label, Mute, Refresh
from stream.mutes import check, spans

HOUR = 3_600_000
DAY = 24 * HOUR


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def mute(start: str = "2026-03-01T02:00", hours: float | None = 2, **changes: Any) -> Mute:
    start_ms = at(start, changes.get("timezone", "UTC"))
    made = Mute(
        command_id="c",
        at_ms=0,
        mute_id="m",
        matcher="*",
        start_ms=start_ms,
        end_ms=None if hours is None else start_ms + int(hours * HOUR),
    )
    return msgspec.structs.replace(made, **changes)


def test_a_mute_holds_once_from_its_start_to_before_its_end() -> None:
    once = mute()
    assert once.end_ms is not None
    assert spans(once, 0, at("2027-01-01T00:00")) == [(once.start_ms, once.end_ms)]
    assert spans(once, once.end_ms, once.end_ms + DAY) == []
    assert spans(once, once.end_ms - 1, once.end_ms) == [(once.start_ms, once.end_ms)]
    assert spans(once, 0, once.start_ms) == []


def test_without_an_end_it_holds_until_it_is_lifted() -> None:
    ever = mute(hours=None)
    assert spans(ever, 0, at("2026-05-01T00:00")) == [(ever.start_ms, at("2026-05-01T00:00"))]


def test_a_repetition_begins_at_the_same_local_time_though_clocks_change() -> None:
    weekly = mute("2026-03-22T03:00", repeat="FREQ=WEEKLY;BYDAY=SU;COUNT=3", timezone="Europe/Berlin")
    found = spans(weekly, 0, at("2027-01-01T00:00"))
    days = ("2026-03-22T03:00", "2026-03-29T03:00", "2026-04-05T03:00")
    assert [start for start, _ in found] == [at(day, "Europe/Berlin") for day in days]
    assert found[1][0] - found[0][0] == 7 * DAY - HOUR
    assert {end - start for start, end in found} == {2 * HOUR}


def test_repetitions_end_with_their_rule_and_some_are_left_out() -> None:
    daily = mute(repeat="FREQ=DAILY;UNTIL=20260304T020000Z", except_ms=[at("2026-03-02T02:00")])
    starts = [start for start, _ in spans(daily, 0, at("2027-01-01T00:00"))]
    assert starts == [at(f"2026-03-0{day}T02:00") for day in (1, 3, 4)]
    local = mute(repeat="FREQ=DAILY;UNTIL=20260303")
    assert len(spans(local, 0, at("2027-01-01T00:00"))) == 3


def test_a_window_in_the_middle_of_a_long_repetition_is_found() -> None:
    daily = mute(hours=20, repeat="FREQ=DAILY")
    noon = at("2026-06-01T12:00")
    assert spans(daily, noon, noon + 1) == [(at("2026-06-01T02:00"), at("2026-06-01T22:00"))]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (mute(matcher='cpu{host="a"'), "does not end"),
        (mute(hours=-1), "ends before"),
        (mute(hours=None, repeat="FREQ=DAILY"), "needs an end"),
        (mute(repeat="every sunday"), "not a rule"),
        (mute(repeat="FREQ=FORTNIGHTLY"), "FORTNIGHTLY"),
        (mute(repeat="FREQ=MINUTELY"), "more often"),
        (mute(repeat="FREQ=DAILY\nDTSTART:20260101T000000"), "not a rule"),
        (msgspec.structs.replace(mute(), timezone="Mars/Olympus"), "no time zone"),
        (msgspec.structs.replace(mute(), timezone="../etc/passwd"), "no time zone"),
        (mute(start_ms=-1), "1970"),
        (Refresh(command_id="c", at_ms=0, series="{"), "does not end"),
        (Label(command_id="c", at_ms=0, anomaly_id="a", series="s", verdict="true", started_ms=-1), "1970"),
    ],
)
def test_what_cannot_be_followed_is_said(command: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(command)


def test_what_can_be_followed_passes() -> None:
    for each in (mute(), mute(hours=None), mute(repeat="FREQ=MONTHLY;BYDAY=1SU", timezone="Asia/Tokyo")):
        check(each)
