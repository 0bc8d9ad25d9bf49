"""What the default detection finds, how soon and by which name, and what it leaves alone."""

import numpy as np
import pytest

from detectors.protocol import Samples
from schemas import config
from schemas.event import Kind, Status
from tests.unit.detectors.streams import engine

MINUTE = 60_000
START = 1_700_006_400_000  # a midnight
DAY = 288  # samples of five minutes


def telemetry(days=10, seed=3):
    """A daily cycle with noise, every five minutes."""
    at = np.arange(days * DAY)
    return 100 + 20 * np.sin(2 * np.pi * at / DAY) + np.random.default_rng(seed).normal(size=len(at))


def opened(values, ts_ms=None, **changes):
    """Row and closing event of each anomaly."""
    fields = {"detectors": config.Engine().detectors, "warm_up_samples": 24, "alert_budget": 0.1}
    ts_ms = START + 5 * MINUTE * np.arange(len(values)) if ts_ms is None else ts_ms
    one = engine(**{**fields, **changes})
    said = one.process(Samples(("x",), np.zeros(len(values), np.int64), ts_ms, np.asarray(values, float)))
    last = {event.anomaly_id: event for event in said.events}
    rows = np.searchsorted(
        ts_ms, [event.started_ms for event in said.events if event.status == Status.OPEN]
    ).tolist()
    return list(zip(rows, last.values(), strict=True))


AT = 8 * DAY + 70  # where something is planted


def planted(base, start, change):
    values = np.array(base, float)
    change(values[start:])
    return values


def add(size, length=None):
    def change(rest):
        rest[:length] += size

    return change


def times(factor, length=None, middle=0.0):
    """Stretch the distance from a middle: -1 turns a cycle over."""

    def change(rest):
        rest[:length] = middle + factor * (rest[:length] - middle)

    return change


def creep(step):
    def change(rest):
        rest += step * np.arange(len(rest))

    return change


def noise(rng):
    return 100 + rng.normal(size=10 * DAY)


def daily(rng):
    return telemetry(10, rng)


def counts(rng):
    return rng.poisson(20, 10 * DAY).astype(float)


def ratio(rng):
    return 1 - rng.binomial(2000, 0.0005, 10 * DAY) / 2000


def mostly_zero(rng):
    return rng.poisson(0.02, 10 * DAY).astype(float)


def counter(rng):
    return np.cumsum(rng.poisson(50, 10 * DAY)).astype(float)


def restart(rest):
    rest -= rest[0]


PLANTED = {
    "a spike": (daily, add(40, 1), 0, {Kind.SPIKE}),
    "a spike of 8 samples": (daily, add(40, 8), 0, {Kind.SPIKE}),
    "a dip": (daily, add(-40, 1), 0, {Kind.DIP}),
    "a shift": (daily, add(60), 0, {Kind.SHIFT}),
    "a small shift": (daily, add(15), 0, {Kind.SHIFT}),
    "a drift of 14 noises a day": (daily, creep(0.05), DAY, {Kind.DRIFT}),
    "a drift of 6 noises a day": (noise, creep(0.02), DAY, {Kind.DRIFT}),
    "noise 8 times as wide": (noise, times(8, 60, 100), 6, {Kind.SPREAD}),
    "a day turned over": (daily, times(-1, DAY, 100), 0, {Kind.PATTERN}),
    "a count": (counts, add(40, 1), 0, {Kind.SPIKE}),
    "a ratio": (ratio, add(-0.02, 1), 0, {Kind.DIP}),
    "a burst among zeros": (mostly_zero, add(12, 1), 0, {Kind.SPIKE}),
    "a counter that starts again": (counter, restart, 0, {Kind.SHIFT, Kind.PATTERN}),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("what", PLANTED)
def test_what_was_planted_is_found_in_time_and_named(what, seed):
    base, change, delay, kinds = PLANTED[what]
    values = planted(base(np.random.default_rng(seed)), AT, change)
    found = [(row, event) for row, event in opened(values) if AT <= row <= AT + delay]
    assert found, f"nothing within {delay} samples"
    assert found[0][1].kind in kinds


def test_a_level_that_stays_closes_as_the_new_normal_and_says_so():
    (_, event), *more = [
        each for each in opened(planted(telemetry(), AT, add(15))) if AT <= each[0] < AT + DAY
    ]
    assert event.status == Status.CLOSE
    assert "is taken as the new normal" in event.reason
    assert event.samples <= 48
    assert more == []


@pytest.mark.parametrize("seed", range(3))
def test_a_spike_is_found_whatever_the_distances_of_samples(seed):
    rng = np.random.default_rng(seed)
    irregular = START + np.cumsum(rng.exponential(5 * MINUTE, 10 * DAY)).astype(np.int64)
    regular = START + 5 * MINUTE * np.arange(10 * DAY)
    faster = np.r_[regular[:AT], regular[AT] + MINUTE * np.arange(10 * DAY - AT)]
    for ts_ms, at in ((irregular, AT), (faster, AT + 300)):
        values = 100 + 20 * np.sin(2 * np.pi * (ts_ms - START) / 86_400_000) + rng.normal(size=len(ts_ms))
        values[at] += 40
        found = dict(opened(values, ts_ms))
        assert found[at].kind == Kind.SPIKE


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "make",
    [
        lambda rng: telemetry(14, rng.integers(1000)),
        lambda rng: rng.poisson(20.0, 14 * DAY),
        lambda _: np.full(14 * DAY, 0.25),
    ],
    ids=["daily", "counts", "constant"],
)
def test_normal_behaviour_is_nearly_silent(make, seed):
    assert len(opened(make(np.random.default_rng(seed)))) <= 4, "more than three times the budget"


@pytest.mark.parametrize("at", [8 * DAY, 8 * DAY + 54, 8 * DAY + 100, 8 * DAY + 144, 8 * DAY + 200])
def test_a_gap_is_silent_wherever_in_the_cycle(at):
    """A restart of three hours: at the crest, and on the slopes, where the series is elsewhere afterwards."""
    values = telemetry()
    ts_ms = START + 5 * MINUTE * np.arange(len(values))
    keep = np.r_[0:at, at + 36 : len(values)]
    assert [row for row, _ in opened(values[keep], ts_ms[keep]) if at <= row <= at + 100] == []


def test_a_change_of_summer_time_is_nearly_silent():
    """The cycle of the day comes an hour earlier from one day on."""
    late = 100 + 20 * np.sin(2 * np.pi * np.arange(28 * DAY) / DAY)
    early = 100 + 20 * np.sin(2 * np.pi * (np.arange(28 * DAY) + 12) / DAY)
    values = np.r_[late[: 14 * DAY], early[14 * DAY :]] + np.random.default_rng(6).normal(size=28 * DAY)
    assert len([row for row, _ in opened(values) if row >= 14 * DAY]) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_weekends_are_silent_once_they_are_known(seed):
    values = telemetry(28, seed)
    weekend = (np.arange(28 * DAY) // DAY + 1) % 7 >= 5
    values = np.where(weekend, (values - 100) * 0.2 + 80, values)
    assert len([row for row, _ in opened(values) if row >= 14 * DAY]) <= 2


def office(weeks, rng):
    """Busy from 8 to 18 on working days, by no policy; and on which day of the week each sample falls."""
    at = np.arange(weeks * 7 * DAY)
    weekday = (START // 86_400_000 + 3 + at // DAY) % 7
    busy = (at % DAY >= 96) & (at % DAY < 216) & (weekday < 5)
    return 20 + 200 * busy + rng.normal(size=len(at)) * 5, weekday


@pytest.mark.parametrize("seed", range(3))
def test_a_working_day_off_is_told_and_named_within_hours(seed):
    values, weekday = office(7, np.random.default_rng(seed))
    day = 5 * 7 * DAY + int(np.flatnonzero(weekday[::DAY][5 * 7 :] == 2)[0]) * DAY
    values[day + 96 : day + 216] -= 200
    found = [(row, event) for row, event in opened(values) if day + 96 <= row < day + 216]
    assert found, "a Wednesday without work was not told"
    row, event = found[0]
    assert row <= day + 145  # the part of the day that is wholly absent ends at noon
    assert event.kind == Kind.PATTERN
    assert "unlike these hours of earlier weeks" in event.reason
    assert "week" in {spoke.name for spoke in event.detectors}
    assert event.ended_ms <= START + 5 * MINUTE * (day + 216 + 72)


@pytest.mark.parametrize("seed", range(3))
def test_weeks_that_are_alike_are_silent_for_the_profile_of_the_week(seed):
    values, _ = office(10, np.random.default_rng(seed))
    assert not [e for _, e in opened(values) if "week" in {spoke.name for spoke in e.detectors}]


def test_an_hour_of_summer_time_is_no_broken_week():
    rng = np.random.default_rng(3)
    winter, _ = office(6, rng)
    summer, _ = office(6, rng)
    values = np.r_[winter, np.roll(summer, -12)]
    assert not [e for _, e in opened(values) if "week" in {spoke.name for spoke in e.detectors}]


def test_what_repeats_daily_is_told_on_its_first_days_only():
    values = telemetry(20)
    values[DAY - 1 :: DAY] -= 15
    assert len([row for row, _ in opened(values) if row >= 10 * DAY and row % DAY == DAY - 1]) <= 2


def test_a_ratio_has_no_band_beyond_0_and_1():
    values = np.clip(1 - np.abs(np.random.default_rng(2).normal(size=2000)) * 0.1, 0, 1)
    one = engine(detectors=config.Engine().detectors)
    ts_ms = START + 5 * MINUTE * np.arange(2000)
    said = one.process(Samples(("x",), np.zeros(2000, np.int64), ts_ms, values))
    assert np.nanmax(said.upper) <= 1.0
    assert np.nanmin(said.lower) >= 0.0


def test_a_rare_window_is_still_found_long_after_the_series_moved_to_another_scale():
    """The bins, laid out on the first samples, are laid out again where the values are now."""
    rng = np.random.default_rng(4)
    values = np.concatenate((rng.normal(10, 1, 300), rng.normal(5000, 100, 9000)))
    values[9200] += 1500
    assert any(row == 9200 for row, _ in opened(values))


def test_every_alert_names_a_detector():
    values = np.random.default_rng(8).standard_t(3, 40 * DAY)
    found = opened(values, alert_budget=5.0)
    assert len(found) > 10
    assert all(event.detectors for _, event in found)
