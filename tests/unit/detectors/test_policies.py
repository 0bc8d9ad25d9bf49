"""What a policy changes for the series that it selects, and only for them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detectors.calendar import Calendar
from detectors.policy import Policies
from detectors.protocol import Samples
from schemas import config
from schemas.event import Direction, Kind, Severity, Status
from schemas.series import Series
from tests.unit.detectors.streams import engine

STEP = 300_000
START = 1_704_672_000_000  # Monday, 2024-01-08, midnight
DAY = 288
AT = 8 * DAY + 70
SELECTED, OTHER = 'load{host="a"}', 'load{host="b"}'


def telemetry(days=10, seed=3):
    at = np.arange(days * DAY)
    return 100 + 20 * np.sin(2 * np.pi * at / DAY) + np.random.default_rng(seed).normal(size=len(at))


def opened(values, policy=None, start_ms=START, **changes):
    """The opening events of the selected series and of another one with the same values."""
    n = len(values)
    policies = [config.Policy(match='load{host="a"}', **policy)] if policy is not None else []
    fields = {"detectors": config.Engine().detectors, "warm_up_samples": 24, "alert_budget": 0.1}
    one = engine(**{**fields, "policies": policies, **changes})
    said = one.process(
        Samples(
            (SELECTED, OTHER),
            np.tile([0, 1], n),
            np.repeat(start_ms + STEP * np.arange(n), 2),
            np.repeat(np.asarray(values, float), 2),
        )
    )
    events = [event for event in said.events if event.status == Status.OPEN]
    return [e for e in events if e.series == SELECTED], [e for e in events if e.series == OTHER]


def rows(events):
    return [(event.started_ms - START) // STEP for event in events]


def planted(size, length=1, at=AT, days=10):
    values = telemetry(days)
    values[at : at + length] += size
    return values


@pytest.mark.parametrize(("direction", "size"), [("above", -60), ("below", 60)])
def test_the_other_direction_is_not_told(direction, size):
    mine, others = opened(planted(size), {"direction": direction})
    assert (rows(mine), rows(others)) == ([], [AT])


@pytest.mark.parametrize(("direction", "size"), [("above", 60), ("below", -60)])
def test_the_wanted_direction_is_told(direction, size):
    assert rows(opened(planted(size), {"direction": direction})[0]) == [AT]


@pytest.mark.parametrize(
    "policy", [{"min_deviation": 80.0}, {"min_relative_deviation": 0.9}, {"normal_min": 0, "normal_max": 200}]
)
def test_what_does_not_matter_to_people_is_not_told(policy):
    mine, others = opened(planted(60), policy)
    assert (mine, rows(others)) == ([], [AT])


@pytest.mark.parametrize(
    "policy", [{"min_deviation": 30.0}, {"min_relative_deviation": 0.2}, {"normal_min": 0, "normal_max": 150}]
)
def test_what_is_beyond_the_least_deviation_is_told(policy):
    assert rows(opened(planted(60), policy)[0]) == [AT]


def test_a_value_outside_the_allowed_range_is_told_each_time_and_before_anything_is_learned():
    values = telemetry(2)
    bad = [5, 60, 110, 400]
    values[bad] = 131.0
    mine, _ = opened(values, {"allowed_min": 0.0, "allowed_max": 130.0})
    assert rows(mine) == bad
    first = mine[0]
    assert (first.severity, first.kind, first.actual) == (Severity.CRITICAL, Kind.SPIKE, 131.0)
    assert [spoke.name for spoke in mine[-1].detectors][-1] == "limits"
    assert all("above the allowed 130" in event.reason for event in mine)


def test_bands_stay_inside_the_allowed_range():
    values = telemetry(3)
    policy = config.Policy(match="*", allowed_min=0.0, allowed_max=125.0)
    one = engine(detectors=config.Engine().detectors, policies=[policy])
    said = one.process(
        Samples((SELECTED,), np.zeros(len(values), int), START + STEP * np.arange(len(values)), values)
    )
    assert np.nanmax(said.upper) == 125.0
    free = engine(detectors=config.Engine().detectors)
    without = free.process(
        Samples((SELECTED,), np.zeros(len(values), int), START + STEP * np.arange(len(values)), values)
    )
    assert np.nanmax(without.upper) > 125.0


def test_an_anomaly_shorter_than_the_least_duration_is_not_told():
    policy = {"min_duration_samples": 3}
    assert opened(planted(60, 1), policy)[0] == []
    (event,) = opened(planted(60, 6), policy)[0]
    assert rows([event]) == [AT]  # it began with its first sample, and was told with the third
    assert event.detected_ms == event.started_ms + 2 * STEP


def test_a_larger_budget_hears_more():
    values = telemetry(30, seed=1) + np.random.default_rng(2).standard_t(3, size=30 * DAY)
    mine, others = opened(values, {"alert_budget": 5.0})
    assert len(mine) > 2 * max(len(others), 1)


def test_a_longer_warm_up_stays_silent_longer():
    mine, others = opened(planted(60, at=100), {"warm_up_samples": 200})
    assert (rows(mine), rows(others)) == ([], [100])


def office(weeks, holiday=None):
    """Busy from 8 to 18 on working days; Saturday, Sunday and the holiday are as quiet as nights."""
    at = np.arange(weeks * 7 * DAY)
    hour, day = at % DAY / 12, at // DAY
    busy = (hour >= 8) & (hour < 18) & (day % 7 < 5) & (day != holiday)
    return 20 + 200 * busy + np.random.default_rng(4).normal(size=len(at)) * 5


WEEKEND = ["saturday", "sunday"]


def test_a_busy_day_off_is_unusual_only_where_days_off_are_known():
    values = office(6)
    saturday = slice((5 * 7 + 5) * DAY + 8 * 12, (5 * 7 + 5) * DAY + 18 * 12)
    values[saturday] += 200
    mine, others = opened(values, {"weekend": WEEKEND})
    assert saturday.start in rows(mine)
    assert saturday.start not in rows(others)


def test_a_listed_holiday_is_a_day_off():
    thursday = 5 * 7 + 3
    values = office(6, holiday=thursday)
    values[thursday * DAY + 8 * 12 :][: 10 * 12] += 200  # work on a holiday
    listed, _ = opened(values, {"weekend": WEEKEND, "holidays": ["2024-02-15"]})
    unlisted, _ = opened(values, {"weekend": WEEKEND})
    assert [row for row in rows(listed) if row // DAY == thursday] == [thursday * DAY + 8 * 12]
    assert [row for row in rows(unlisted) if row // DAY == thursday] == []


@pytest.mark.parametrize("seed", [4, 5])
def test_public_holidays_and_the_change_of_clocks_are_silent_where_they_are_known(seed):
    """An office in Berlin over Easter 2024, in the middle of which summer time begins, and the week after."""
    local = [
        datetime.fromtimestamp((START + STEP * row) / 1000, ZoneInfo("Europe/Berlin"))
        for row in range(13 * 7 * DAY)
    ]
    off = {(3, 29), (4, 1)}
    busy = [8 <= at.hour < 18 and at.weekday() < 5 and (at.month, at.day) not in off for at in local]
    values = 20 + 200 * np.array(busy) + np.random.default_rng(seed).normal(size=len(local)) * 5
    known, others = opened(values, {"weekend": WEEKEND, "timezone": "Europe/Berlin", "country": "DE"})
    over_easter = [
        [local[row].day for row in rows(events) if (3, 29) <= (local[row].month, local[row].day) <= (4, 4)]
        for events in (known, others)
    ]
    assert over_easter[0] == []
    assert {2, 3} & set(over_easter[1])  # by the clock of UTC and without holidays work seems to begin oddly


def test_countries_bring_their_public_holidays():
    days = Calendar.of(config.Policy(match="*", country="DE"))
    christmas = datetime(2026, 12, 25, 12, tzinfo=UTC).timestamp() * 1000
    assert days.off(np.array([christmas, christmas - 10 * 86_400_000], np.int64)).tolist() == [True, False]
    with pytest.raises(ValueError, match="no holidays for 'QQ'"):
        Calendar.of(config.Policy(match="*", country="QQ"))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_the_local_clock_is_that_of_the_zone_and_never_goes_back(zone):
    ts_ms = np.arange(1_700_000_000_000, 1_740_000_000_000, 1_800_000)
    local = Calendar.of(config.Policy(match="*", timezone=zone)).local_ms(ts_ms)
    assert (np.diff(local) >= 0).all()
    wall = [datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).hour for ms in ts_ms.tolist()]
    differs = np.flatnonzero(local // 3_600_000 % 24 != wall)
    assert len(differs) <= 2  # Lord Howe repeats half an hour


def test_a_zone_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="'Europe/Berln' is no time zone"):
        Calendar.of(config.Policy(match="*", timezone="Europe/Berln"))


def test_the_first_policy_that_matches_is_the_only_one():
    listed = [
        config.Policy(match='load{host="a"}', direction="above"),
        config.Policy(match="load", direction="below"),
    ]
    policies = Policies(config.Engine(policies=listed))
    names = ['load{host="a"}', 'load{host="b"}', "disk"]
    assert [policies.number(Series.of(name)) for name in names] == [1, 2, 0]


def test_other_series_are_untouched_bit_for_bit():
    values = planted(60)
    policy = {"alert_budget": 3.0, "weekend": WEEKEND, "timezone": "Europe/Berlin", "allowed_max": 120.0}
    _, with_policy = opened(values, policy)
    _, without = opened(values)
    assert with_policy == without
    assert with_policy[0].direction == Direction.ABOVE
