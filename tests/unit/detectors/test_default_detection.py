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


def spike(values, at):
    values[at] += 40


def dip(values, at):
    values[at] -= 40


def shift(values, at):
    values[at:] += 60


def spread(values, at):
    values[at : at + 60] += np.random.default_rng(1).normal(size=60) * 8


def broken_season(values, at):
    values[at : at + DAY] = 100 - (values[at : at + DAY] - 100)


@pytest.mark.parametrize(
    ("plant", "delay", "kinds"),
    [
        (spike, 0, {Kind.SPIKE}),
        (dip, 0, {Kind.DIP}),
        (shift, 0, {Kind.SHIFT}),
        (spread, 10, {Kind.SPIKE, Kind.DIP, Kind.PATTERN, Kind.SHIFT}),
        (broken_season, 24, {Kind.SPIKE, Kind.DIP, Kind.PATTERN, Kind.SHIFT}),
    ],
)
def test_what_was_planted_is_found_in_time_and_named(plant, delay, kinds):
    values = telemetry()
    at = 8 * DAY + 70
    plant(values, at)
    found = [(row, event) for row, event in opened(values) if at <= row <= at + delay]
    assert found, f"nothing within {delay} samples of {at}"
    assert found[0][1].kind in kinds


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


def test_a_gap_after_which_the_series_is_where_it_was_is_silent():
    values = telemetry()
    ts_ms = START + 5 * MINUTE * np.arange(len(values))
    at = 8 * DAY + 54  # around the crest
    keep = np.r_[0:at, at + 36 : len(values)]
    assert [row for row, _ in opened(values[keep], ts_ms[keep]) if at <= row <= at + 12] == []


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
