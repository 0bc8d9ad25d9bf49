"""Prophet as a table: what it finds, how far it reaches, and that a worker never imports it."""

import subprocess
import sys

import numpy as np
import pytest

from detectors.batch import FitError, History, pack
from detectors.engine import Engine
from detectors.prophet_band import Params, ProphetDetector
from detectors.protocol import Samples
from schemas import config

STEP_MS, DAY_MS = 300_000, 86_400_000
START_MS = 1_700_006_400_000  # midnight
WEEK = 7 * DAY_MS // STEP_MS
HORIZON = {"horizon_ms": 2 * DAY_MS}


def times(first, last):
    return START_MS + STEP_MS * np.arange(first, last)


def daily(ts_ms, seed=1, noise=1.0):
    values = 100 + 20 * np.sin(2 * np.pi * ts_ms / DAY_MS)
    return values + noise * np.random.default_rng(seed).normal(size=len(ts_ms))


def history(values=None, rows=WEEK):
    ts_ms = times(0, rows)
    return History(ts_ms, (daily(ts_ms) if values is None else values)[:, None])


def fitted(params=HORIZON, **kwargs):
    return ProphetDetector.fit(params, history(**kwargs), seed=1)


@pytest.fixture(scope="module")
def artifact():
    return fitted()


def said(artifact, ts_ms, values):
    detector = ProphetDetector.create({}, 1)
    detector.reserve(1)
    detector.adopt(0, artifact)
    return detector.step(np.zeros(len(ts_ms), np.int64), ts_ms, values, np.ones(len(ts_ms), np.bool_))


def test_the_forecast_follows_the_day_and_its_band_holds_the_noise(artifact):
    ts_ms = times(WEEK, WEEK + 288)
    values = daily(ts_ms, seed=2)
    found = said(artifact, ts_ms, values)
    assert found.ready.all()
    assert np.abs(found.expected - daily(ts_ms, noise=0)).max() < 1.5
    assert np.mean((values < found.lower) | (values > found.upper)) < 0.02
    assert np.median(found.upper - found.lower) < 10


def test_between_two_rows_of_the_table_is_on_the_line():
    coarse = fitted(HORIZON | {"table_step_ms": 3_600_000})
    hours = times(WEEK, WEEK + 25)[::12]
    inside = said(coarse, hours + 1_800_000, daily(hours)).expected[:-1]
    edges = said(coarse, hours, daily(hours)).expected
    np.testing.assert_allclose(inside, (edges[:-1] + edges[1:]) / 2, rtol=1e-5)


def scored(artifact, values, ts_ms):
    engine = Engine(
        config.Engine(detectors=[config.DetectorConfig(name="prophet")], alert_budget=0.1), config.Admission()
    )

    def process(part):
        index = np.zeros(len(ts_ms[part]), np.int64)
        return engine.process(Samples(["cpu"], index, ts_ms[part], values[part]))

    process(slice(0, 1))
    assert engine.adopt("cpu", "prophet", artifact, "a1")
    return process(slice(1, None))


def test_a_spike_is_an_anomaly_and_nothing_else_is(artifact):
    ts_ms = times(WEEK, WEEK + 288)
    values = daily(ts_ms, seed=3)
    values[200] += 15
    found = scored(artifact, values, ts_ms)
    assert np.flatnonzero(found.score >= 1).tolist() == [199]  # without the first sample
    (event,) = {each.anomaly_id: each for each in found.events}.values()
    assert event.started_ms == ts_ms[200]
    assert event.detectors[0].artifact == "a1"


def test_a_level_shift_is_an_anomaly_from_its_first_sample(artifact):
    ts_ms = times(WEEK, WEEK + 288)
    values = daily(ts_ms, seed=4)
    values[150:] += 12
    found = scored(artifact, values, ts_ms)
    assert not (found.score[:149] >= 1).any()
    assert (found.score[149:152] >= 1).all()


def test_what_is_said_does_not_depend_on_what_comes_later(artifact):
    ts_ms = times(WEEK, WEEK + 288)
    values = daily(ts_ms, seed=5)
    other = values.copy()
    other[100:] = 1e6
    whole, changed = said(artifact, ts_ms, values), said(artifact, ts_ms, other)
    for one, two in zip(whole[:4], changed[:4], strict=True):
        np.testing.assert_array_equal(one[:100], two[:100])


def test_beyond_the_horizon_and_before_the_history_nothing_is_said(artifact):
    ts_ms = times(-10, WEEK + 3 * 288)
    found = said(artifact, ts_ms, daily(ts_ms))
    last_ms = history().ts_ms[-1] + HORIZON["horizon_ms"]
    inside = (ts_ms >= START_MS) & (ts_ms <= last_ms)
    assert found.ready[inside].all()
    outside = (ts_ms < START_MS) | (ts_ms > last_ms + STEP_MS)  # the last row ends a step later
    assert outside.sum() > 280
    for column in found[:4]:
        assert np.isnan(column[outside]).all()
    assert ProphetDetector.reach_ms(HORIZON) == 2 * DAY_MS


def test_a_long_horizon_makes_the_table_coarser_and_not_larger():
    artifact = fitted({"horizon_ms": 600 * DAY_MS})
    assert len(pack(artifact)) < 900_000
    far = times(WEEK, WEEK + 1) + 500 * DAY_MS
    assert said(artifact, far, daily(far)).ready.all()


def test_a_trend_is_held_at_the_end_of_the_history_unless_it_is_to_be_followed():
    ts_ms = times(0, WEEK)
    rising = daily(ts_ms) + 20 * np.arange(WEEK) / WEEK
    later = times(WEEK + 400, WEEK + 500)
    held = said(fitted(values=rising), later, daily(later)).expected - daily(later, noise=0)
    followed = fitted(HORIZON | {"trend": "follow", "changepoint_prior_scale": 0.001}, values=rising)
    went_on = said(followed, later, daily(later)).expected - daily(later, noise=0)
    assert abs(np.mean(held) - 18.6) < 1  # the middle of the last day
    assert abs(np.mean(went_on) - 20 * (WEEK + 450) / WEEK) < 1.5


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full(WEEK, 3.0), "constant"),
        (np.where(np.arange(WEEK) < 99, 1.0 * np.arange(WEEK), np.nan), "too_little_history"),
        (np.where(np.arange(WEEK) == 5, -np.inf, 1.0), "not_finite"),
    ],
)
def test_a_history_that_makes_no_model_is_refused(values, reason):
    with pytest.raises(FitError) as error:
        fitted(values=values)
    assert error.value.reason == reason


def test_a_sampled_band_repeats_with_its_seed_and_leaves_the_common_generator_alone():
    params = HORIZON | {"uncertainty_samples": 100, "table_step_ms": 3_600_000}
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    one, two = fitted(params), fitted(params)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert pack(one) == pack(two)
    assert pack(ProphetDetector.fit(params, history(), seed=2)) != pack(one)
    assert (one.arrays["upper"] > one.arrays["expected"]).all()
    ts_ms = times(WEEK, WEEK + 288)
    found = said(one, ts_ms, daily(ts_ms))
    assert np.mean((daily(ts_ms) >= found.lower) & (daily(ts_ms) <= found.upper)) > 0.98


def test_a_holiday_is_expected_as_those_of_the_history_were():
    """Nothing goes on on German holidays; two are in the history, Whit Monday comes after it."""
    ts_ms = 1_682_640_000_000 + 3_600_000 * np.arange(24 * 34)  # 28 April to 31 May 2023
    days = (ts_ms // DAY_MS).astype("datetime64[D]")
    values = daily(ts_ms)
    values[np.isin(days, np.array(["2023-05-01", "2023-05-18", "2023-05-29"], "datetime64[D]"))] -= 60
    known = days < np.datetime64("2023-05-24")

    def worst(params):
        found = said(
            ProphetDetector.fit(params, History(ts_ms[known], values[known][:, None]), 1), ts_ms, values
        )
        return np.abs(found.expected - values)[days == np.datetime64("2023-05-29")].mean()

    assert worst({"holidays": "DE"}) < 8
    assert worst({}) > 40


def test_hours_are_those_of_the_time_zone_also_when_its_clocks_change():
    """Two weeks of Berlin's working days before 29 October 2023, when an hour came twice."""
    ts_ms = 1_697_328_000_000 + 900_000 * np.arange(96 * 21)  # 15 October to 5 November, by 15 minutes
    summer = ts_ms < 1_698_541_200_000
    local_hours = (ts_ms / 3_600_000 + np.where(summer, 2, 1)) % 24
    values = 100 + 50 * np.sin(2 * np.pi * local_hours / 24)
    before = History(ts_ms[summer], values[summer][:, None])

    def errors(params):
        found = said(ProphetDetector.fit(params, before, 1), ts_ms[~summer], values[~summer])
        return np.abs(found.expected - values[~summer]).mean()

    assert errors({"timezone": "Europe/Berlin"}) < 1
    assert errors({}) > 5


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"interval": 0.9}, "prophet has no parameter 'interval'"),
        ({"interval_width": 1.0}, "interval_width is a number from 0.5 to 0.99999"),
        ({"max_samples": 10.5}, "max_samples is a number"),
        ({"trend": "up"}, "trend is hold or follow"),
        ({"daily_seasonality": "yes"}, "daily_seasonality is auto, true, false or an order"),
        ({"timezone": 3}, "timezone is a text"),
        ({"timezone": "Mars/Base"}, "no time zone"),
        ({"holidays": "XX"}, "no holidays for 'XX'"),
    ],
)
def test_a_parameter_that_is_impossible_is_named(params, text):
    with pytest.raises(ValueError, match=text):
        Params.read(params)


WITHOUT = """
import sys
import stream.worker.worker
from detectors.engine import Engine
from schemas import config
Engine(config.Engine(detectors=[config.DetectorConfig(name=name) for name in {names}]), config.Admission())
print(sorted({{"prophet", "torch", "pandas", "sklearn", "cmdstanpy"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("names", [["large", "rare"], ["large", "prophet", "iforest"]])
def test_a_worker_imports_no_library_that_fits(names):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=names)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
