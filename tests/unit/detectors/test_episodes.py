"""What an anomaly looks like from outside: one id, few events, the right words."""

import numpy as np
import pytest

from detectors.protocol import Samples
from schemas import config
from schemas.event import Direction, Kind, Severity, Status
from tests.unit.detectors.streams import engine

MINUTE = 60_000
START = 1_700_000_000_000
DAY = 1440


def telemetry(days=3, seed=5):
    """A daily cycle with noise, by minute."""
    n = days * DAY
    return 50 + 10 * np.sin(2 * np.pi * np.arange(n) / DAY) + np.random.default_rng(seed).normal(size=n)


def score(values, name="cpu", **changes):
    fields = {"warm_up_samples": 64, "alert_budget": 0.05, "window": 128, "max_duration_samples": 256}
    one = engine(**{**fields, **changes})
    n = len(values)
    return one.process(
        Samples((name,), np.zeros(n, np.int64), START + MINUTE * np.arange(n), np.asarray(values, float))
    )


def statuses(said):
    return [event.status for event in said.events]


def test_normal_telemetry_is_silent():
    assert score(telemetry()).events == []


@pytest.mark.parametrize(("size", "kind", "direction"), [(40, "spike", "above"), (-40, "dip", "below")])
def test_a_spike_costs_one_open_and_one_close(size, kind, direction):
    values = telemetry()
    values[3000] += size
    said = score(values, 'cpu{host="a"}')
    opened, closed = said.events
    assert (opened.status, closed.status) == (Status.OPEN, Status.CLOSE)
    assert opened.anomaly_id == closed.anomaly_id
    assert opened.event_id != closed.event_id
    assert (opened.revision, closed.revision) == (0, 1)
    assert opened.started_ms == opened.detected_ms == START + 3000 * MINUTE
    assert closed.kind == Kind(kind)
    assert closed.direction == Direction(direction)
    assert closed.ended_ms < closed.detected_ms
    assert opened.actual == values[3000]
    assert opened.lower < opened.expected < opened.upper
    assert (opened.metric, opened.labels, opened.series) == ("cpu", {"host": "a"}, 'cpu{host="a"}')
    assert "large" in [spoke.name for spoke in opened.detectors]
    assert opened.score == opened.peak_score >= 1.0
    assert f"cpu is {values[3000]:.4g}" in opened.reason
    flagged = np.flatnonzero(said.anomaly_started_ms)
    assert flagged[0] == 3000
    assert set(said.anomaly_started_ms[flagged]) == {opened.started_ms}


def test_the_first_sample_of_an_anomaly_is_the_one_that_is_told():
    values = telemetry()
    values[2500:2506] += 60
    opened = score(values).events[0]
    assert opened.started_ms == START + 2500 * MINUTE
    assert opened.severity in {Severity.WARNING, Severity.CRITICAL, Severity.INFO}


def test_a_level_that_stays_closes_as_a_shift_and_is_not_told_again():
    values = telemetry()
    values[2000:] += 80
    said = score(values)
    closed = [event for event in said.events if event.status == Status.CLOSE]
    assert [event.kind for event in closed] == [Kind.SHIFT]
    assert "new" in closed[0].reason
    assert said.events[-1] is closed[0]


def test_what_never_becomes_quiet_closes_at_the_longest_duration():
    values = telemetry()
    values[2000:] += 400 * (np.arange(len(values) - 2000) % 7 == 0)
    said = score(values, max_duration_samples=50, update_every_samples=20)
    closed = next(event for event in said.events if event.status == Status.CLOSE)
    assert closed.samples <= 50
    first = [event for event in said.events if event.anomaly_id == closed.anomaly_id]
    assert [event.revision for event in first] == list(range(len(first)))


def test_a_constant_series_that_moves_is_told_once():
    values = np.full(600, 7.5)
    values[500] = 9.0
    assert statuses(score(values)) == [Status.OPEN, Status.CLOSE]


def test_rare_counts_are_not_told_every_time():
    values = np.random.default_rng(3).poisson(0.02, 14 * DAY).astype(float)
    opened = [event for event in score(values).events if event.status == Status.OPEN]
    assert len(opened) <= 3


def test_nothing_is_told_before_the_warm_up():
    values = telemetry(1)
    values[40] = 1e6
    said = score(values)
    assert all(event.started_ms >= START + 64 * MINUTE for event in said.events)
    assert np.isnan(said.score[:64]).all()
    assert not np.isnan(said.score[64:]).any()


def test_a_detector_of_weight_0_scores_but_does_not_alert():
    values = telemetry()
    values[3000] += 60
    silent = score(values, detectors=[config.DetectorConfig(name="robust", weight=0.0)])
    assert silent.events == []
    assert silent.score[3000] > 1.0
    both = score(
        values,
        detectors=[
            config.DetectorConfig(name="robust"),
            config.DetectorConfig(name="robust", weight=0.0, params={"warm_up": 64}),
        ],
    )
    assert len(both.events[0].detectors) == 2


LAWS = {
    "normal": lambda rng, n: rng.normal(100, 3, n),
    "log-normal": lambda rng, n: 0.2 * np.exp(0.6 * rng.normal(size=n)),
    "t4": lambda rng, n: 100 + rng.standard_t(4, n),
    "ratio": lambda rng, n: 1 - rng.binomial(2000, 0.0005, n) / 2000,
    "counts": lambda rng, n: rng.poisson(3.0, n),
    "mostly zero": lambda rng, n: rng.poisson(0.02, n),
}


def test_false_alarms_stay_within_twice_the_budget_over_the_usual_laws():
    """Which law alarms how often is printed; no law alone goes beyond four times."""
    series, days, budget = 8, 14, 0.1
    rates = {}
    for law, draw in LAWS.items():
        values = draw(np.random.default_rng(11), (days * DAY, series)).astype(float)
        one = engine(detectors=config.Engine().detectors, warm_up_samples=64, alert_budget=budget, window=16)
        said = one.process(
            Samples(
                tuple(map(str, range(series))),
                np.tile(np.arange(series), days * DAY),
                START + MINUTE * np.repeat(np.arange(days * DAY), series),
                values.ravel(),
            )
        )
        opened = sum(event.status == Status.OPEN for event in said.events)
        rates[law] = opened / (budget * series * days)
    print("times the budget:", {law: round(rate, 2) for law, rate in rates.items()})
    assert np.mean(list(rates.values())) <= 2.0
    assert max(rates.values()) <= 4.0
