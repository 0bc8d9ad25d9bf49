"""A new series borrows scale, profile and tail of its siblings, and says so."""

import numpy as np
import pytest

from bench import siblings
from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.event import Status
from schemas.score import SampleState
from tests.unit.detectors.streams import assert_same, assert_same_state, cut, process

MINUTE = 60_000
START = 1_700_006_400_000  # a midnight
OLD, STEP = 6, 5 * MINUTE
DAY = 288
BORN = 5 * DAY + 60  # sample of the old at which the new one begins


def of_level(level, rng, n, at=0):
    """A day's cycle and noise, both in proportion to the level."""
    cycle = np.sin(2 * np.pi * (at + np.arange(n)) / DAY)
    return level * (1 + 0.3 * cycle + 0.03 * rng.normal(size=n))


def fleet(new, seed=1, metric="latency", levels=None):
    """Six series of levels from 1 to 100,000 for five days and more, and a new one, which has ``new``."""
    rng = np.random.default_rng(seed)
    levels = 10.0 ** np.arange(OLD) if levels is None else levels
    n = BORN + len(new)
    index = np.concatenate((np.repeat(np.arange(n)[:, None], OLD, 1).ravel(), np.arange(BORN, n)))
    series = np.concatenate((np.tile(np.arange(OLD), n), np.full(len(new), OLD)))
    old = np.stack([of_level(level, rng, n) for level in levels], 1)
    values = np.concatenate((old.ravel(), new))
    order = np.argsort(index, kind="stable")
    names = (*(f'latency{{host="{i}"}}' for i in range(OLD)), f'{metric}{{host="new"}}')
    return Samples(names, series[order], START + STEP * index[order], values[order])


def run(samples, **changes):
    said = Engine(config.Engine(**changes), config.Admission()).process(samples)
    mine = said.series_index == OLD
    events = [event for event in said.events if event.labels["host"] == "new"]
    return events, said.state[mine], said._replace(events=[])


def newcomer(n=90, level=37.0, seed=2):
    return of_level(level, np.random.default_rng(seed), n, BORN)


def test_a_fault_in_the_warm_up_is_told_by_the_scale_of_siblings_and_says_so():
    values = newcomer()
    values[14] *= 1.9
    (opened, closed), states, _ = run(fleet(values))
    assert (opened.status, closed.status) == (Status.OPEN, Status.CLOSE)
    assert opened.started_ms == START + STEP * (BORN + 14)
    assert "siblings" in [spoke.name for spoke in opened.detectors]
    assert "judged by its siblings' scale" in opened.reason
    assert opened.lower < values[13] < opened.upper < values[14]
    assert states[:8].tolist() == [SampleState.WARMING_UP] * 8
    assert (states[8:] == SampleState.SCORED).all()


def test_a_series_without_siblings_waits_for_its_own_scale():
    values = newcomer()
    values[14] *= 1.9
    events, states, _ = run(fleet(values, metric="load"))
    assert events == []
    assert (states[:24] == SampleState.WARMING_UP).all()


@pytest.mark.parametrize(
    "policy", [config.Policy(match="*", siblings=False), config.Policy(match="*", warm_up_samples=30)]
)
def test_a_policy_may_ask_for_its_own_scale(policy):
    values = newcomer()
    values[14] *= 1.9
    assert run(fleet(values), policies=[policy])[0] == []


@pytest.mark.parametrize("seed", range(3))
def test_the_profile_of_siblings_is_expected_of_a_new_series(seed):
    """Born at night, it goes up with the others: all within its band, which is theirs in proportion."""
    events, _, said = run(fleet(newcomer(100, seed=seed)))
    assert events == []
    mine = (said.series_index == OLD) & (said.state == SampleState.SCORED)
    young = np.flatnonzero(mine)[:16]
    inside = (said.values[young] > said.lower[young]) & (said.values[young] < said.upper[young])
    assert inside.all()
    assert (said.upper[young] - said.lower[young] < 37 * 1.5).all()


def test_siblings_that_have_nothing_in_common_lend_nothing():
    rng = np.random.default_rng(4)
    new = newcomer(40)
    samples = fleet(new)
    wild = samples.series_index < OLD
    scale = np.exp(3.0 * rng.normal(size=OLD))[samples.series_index[wild]]
    samples.values[wild] = 1e3 * samples.series_index[wild] + scale * rng.normal(size=wild.sum())
    _, states, _ = run(samples)
    assert (states[:24] == SampleState.WARMING_UP).all()


def test_a_start_that_ends_at_the_level_of_siblings_is_no_anomaly():
    """Ten samples of a cold cache, then as the others are."""
    values = newcomer(60, level=10.0)
    values[:10] *= 4
    assert run(fleet(values, levels=[9.0, 10, 11, 10, 9, 11]))[0] == []


@pytest.mark.parametrize("law", ["daily cycle", "counts", "log-normal"])
def test_new_series_of_a_fleet_alarm_no_more_often_than_without_siblings(law):
    new = siblings.fleet(siblings.LAWS[law], 5, 3)
    with_them, without = (len(siblings.opened(new.samples, lends)) for lends in (True, False))
    assert with_them <= without + 2, "of 200 series"


@pytest.mark.parametrize("seed", range(3))
def test_it_does_not_matter_where_batches_end_nor_whether_it_was_restored(seed):
    values = newcomer()
    values[14] *= 1.9
    samples, rng = fleet(values), np.random.default_rng(seed)
    keep = (samples.series_index != 5) | (samples.ts_ms < START + STEP * BORN)  # the new one gets its slot
    samples = Samples(samples.series, *(column[keep] for column in samples[1:]))
    cfg, admission = config.Engine(), config.Admission(max_series_per_partition=OLD)
    whole, parts = Engine(cfg, admission), Engine(cfg, admission)
    cuts = rng.integers(6 * BORN - 200, len(samples.ts_ms), 20).tolist()
    batches = list(cut(samples, cuts, rng))
    said = process(whole, [samples])
    half = process(parts, batches[:10])
    parts = Engine.restore(cfg, admission, {name: a.copy() for name, a in parts.snapshot().items()})
    rest = process(parts, batches[10:])
    joined = (
        half[0] + rest[0],
        [np.r_[a, b] for a, b in zip(half[1], rest[1], strict=True)],
        half[2] + rest[2],
    )
    assert_same(said, joined)
    assert_same_state(whole, parts)
    assert any("siblings" in event.reason for event in said[2])
