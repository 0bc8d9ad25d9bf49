"""Changes as mutes, maintenance windows of calendars, and what a verdict proposes."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec
import pytest

from schemas import config
from schemas.control import Change, Label, Mute, Verdict
from schemas.matcher import Matcher
from schemas.series import Series
from stream.control import commanding, ical, muting
from stream.control.verdicts import budget_without
from stream.errors import UserError

AT_MS = 1_760_000_000_000
WINDOW = ical.Window('{service="shop"}', "Europe/Berlin", True, "ann", AT_MS)
CALENDAR = b"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test
BEGIN:VEVENT
UID:patch@example
SUMMARY:Patch night
DTSTART;TZID=Europe/Berlin:20260322T030000
DTEND;TZID=Europe/Berlin:20260322T050000
RRULE:FREQ=WEEKLY;BYDAY=SU;UNTIL=20260412T010000Z
EXDATE;TZID=Europe/Berlin:20260405T030000
END:VEVENT
BEGIN:VEVENT
UID:patch@example
SUMMARY:Patch night, moved
RECURRENCE-ID;TZID=Europe/Berlin:20260329T030000
DTSTART;TZID=Europe/Berlin:20260330T030000
DURATION:PT1H
END:VEVENT
BEGIN:VEVENT
UID:holiday@example
SUMMARY:Closed
DTSTART;VALUE=DATE:20261224
END:VEVENT
BEGIN:VEVENT
UID:off@example
STATUS:CANCELLED
DTSTART:20260101T000000Z
DTEND:20260101T010000Z
END:VEVENT
END:VCALENDAR
"""


def starts(mute: Mute) -> list[str]:
    return [
        f"{datetime.fromtimestamp(start / 1000, UTC):%m-%d %H:%M} for {(end - start) // 60_000}"
        for start, end in muting.spans(mute)
    ]


def test_events_of_a_calendar_are_mutes_by_their_local_time_with_exceptions_and_moves() -> None:
    night, moved, closed = ical.mutes(CALENDAR, WINDOW)
    assert starts(night) == ["03-22 02:00 for 120", "04-12 01:00 for 120"]
    assert starts(moved) == ["03-30 01:00 for 60"]
    assert starts(closed) == ["12-23 23:00 for 1440"]
    assert (night.why, night.origin, night.timezone) == ("Patch night", "calendar", "Europe/Berlin")
    assert len({each.mute_id for each in (night, moved, closed)}) == 3


def test_the_same_calendar_again_replaces_its_mutes() -> None:
    again = ical.mutes(CALENDAR, WINDOW._replace(at_ms=AT_MS + 1))
    assert [each.mute_id for each in again] == [each.mute_id for each in ical.mutes(CALENDAR, WINDOW)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"not a calendar", "no iCalendar"),
        (CALENDAR.replace(b"DURATION:PT1H\n", b""), "'Patch night, moved': it has neither"),
        (CALENDAR.replace(b"DTSTART;VALUE=DATE:20261224\n", b""), "'Closed'"),
    ],
)
def test_a_calendar_that_cannot_be_read_is_told(text: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ical.mutes(text, WINDOW)


def test_a_change_mutes_its_series_for_its_minutes_and_the_same_when_told_twice() -> None:
    labels = {"service": 'the "shop"', "zone": "a\\b"}
    change = Change(change_id="deploy/7", at_ms=AT_MS, labels=labels, title="2.1")
    mute = commanding.of_change(change, config.Changes())
    assert mute is not None
    assert mute == commanding.of_change(change, config.Changes())
    assert muting.spans(mute) == [(AT_MS, AT_MS + 15 * 60_000)]
    assert Matcher.parse(mute.matcher).matches(Series("cpu", {**labels, "host": "w"}))
    assert not Matcher.parse(mute.matcher).matches(Series("cpu", {"service": "bank", "zone": "a\\b"}))
    longer = msgspec.structs.replace(change, mute_minutes=60)
    assert muting.spans(commanding.of_change(longer, config.Changes()) or mute)[0][1] == AT_MS + 3_600_000
    assert commanding.of_change(msgspec.structs.replace(change, mute_minutes=0), config.Changes()) is None
    assert commanding.of_change(change, config.Changes(mute_minutes=0)) is None


@pytest.mark.parametrize("score", [1.0, 1.3, 2.0, 3.5])
@pytest.mark.parametrize("per_day", [288.0, 1440.0])
def test_by_the_proposed_budget_the_sample_would_not_have_alerted(score: float, per_day: float) -> None:
    p_seen = (0.1 / per_day) ** score
    proposed = budget_without(score, 0.1, per_day)
    assert 0 < proposed < 0.1
    assert 0.9 < math.log(p_seen) / math.log(proposed / per_day) < 1.0


def test_a_budget_stays_one_that_the_configuration_admits() -> None:
    assert config.Policy(match="*", alert_budget=budget_without(4.0, 0.1, 1440.0)).alert_budget


def test_the_newest_verdict_of_an_anomaly_counts_once_for_each_detector() -> None:
    def label(anomaly_id: str, verdict: Verdict, *detectors: str) -> Label:
        return Label(
            command_id=f"{anomaly_id}{verdict}", at_ms=AT_MS, anomaly_id=anomaly_id, series="cpu",
            verdict=verdict, started_ms=AT_MS, detectors=list(detectors),
        )  # fmt: skip

    verdicts = commanding.Verdicts()
    verdicts.put(label("a", "false", "large", "rare"))
    verdicts.put(label("a", "false", "large", "rare"))
    assert verdicts.put(label("b", "true", "large")) == {
        ("large", "", verdict) for verdict in ("true", "false", "expected")
    }
    assert verdicts.counts["large", "", "false"] == 1
    verdicts.put(label("a", "expected", "large", "rare"))
    assert +verdicts.counts == {
        ("large", "", "expected"): 1, ("rare", "", "expected"): 1, ("large", "", "true"): 1,
    }  # fmt: skip
