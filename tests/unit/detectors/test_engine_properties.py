"""What must hold for any stream: batches, snapshots, evictions and order in time make no difference."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.engine import Engine
from schemas import config
from schemas.score import SampleState
from tests.unit.detectors.streams import (
    CONFIG,
    WITH_POLICIES,
    assert_same,
    assert_same_state,
    cut,
    engine,
    process,
    streams,
)

CUTS = st.lists(st.integers(0, 1500), max_size=8)
ADMISSIONS = st.sampled_from(
    [
        config.Admission(),
        config.Admission(allowed_lateness_ms=100_000),
        config.Admission(max_series_per_partition=3),
        config.Admission(max_series_per_metric=2),
        config.Admission(max_series_per_partition=5, max_series_per_metric=3, allowed_lateness_ms=50_000),
    ]
)
CONFIGS = st.sampled_from([CONFIG, WITH_POLICIES])
FEW = settings(max_examples=25)


@FEW
@given(streams(), ADMISSIONS, CONFIGS, CUTS, st.integers(0, 1000))
def test_batches_make_no_difference(samples, admission, cfg, cuts, seed):
    whole, parts = Engine(cfg, admission), Engine(cfg, admission)
    rng = np.random.default_rng(seed)
    assert_same(process(whole, [samples]), process(parts, cut(samples, cuts, rng)))
    assert_same_state(whole, parts)
    assert whole.counts() == parts.counts()


@FEW
@given(streams(), ADMISSIONS, CONFIGS, st.integers(0, 1500))
def test_a_restored_engine_goes_on_as_if_nothing_had_happened(samples, admission, cfg, at):
    batches = list(cut(samples, [at], np.random.default_rng(0)))
    one = Engine(cfg, admission)
    process(one, batches[:1])
    other = Engine.restore(cfg, admission, {name: a.copy() for name, a in one.snapshot().items()})
    if batches[1:]:
        assert_same(process(one, batches[1:]), process(other, batches[1:]))
    assert_same_state(one, other)
    assert one.counts() == other.counts()


@FEW
@given(streams(), ADMISSIONS)
def test_every_sample_comes_out_once_or_is_held(samples, admission):
    one = engine(admission)
    names, columns, _ = process(one, [samples])
    counts = one.counts()
    assert len(names) + counts.held == len(samples.ts_ms)
    assert counts.samples == len(names)
    assert counts.active_series <= admission.max_series_per_partition
    gaps = np.isnan(columns[1])
    assert (columns[7][gaps] == SampleState.GAP).all()
    assert (
        np.isnan(columns[2]) | (columns[7] == SampleState.SCORED) | (columns[7] == SampleState.LATE)
    ).all()


@FEW
@given(streams())
def test_an_evicted_series_returns_as_a_new_one(samples):
    """With room for one series, each change of series begins from nothing."""
    one = engine(config.Admission(max_series_per_partition=1))
    names, columns, _ = process(one, [samples])
    starts = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1]), len(names)]
    for a, b in pairwise(starts):
        alone = process(engine(), [samples._replace(
            series_index=samples.series_index[a:b], ts_ms=samples.ts_ms[a:b], values=samples.values[a:b]
        )])  # fmt: skip
        for column, lonely in zip(columns, alone[1], strict=True):
            np.testing.assert_array_equal(column[a:b], lonely)


@FEW
@given(streams(), CUTS)
def test_within_the_allowed_lateness_order_of_arrival_makes_no_difference(samples, cuts):
    """Shuffled within the lateness, distinct times come out as if they had come in order."""
    n = len(samples.ts_ms)
    ordered = samples._replace(ts_ms=1_700_000_000_000 + 10_000 * np.arange(n))
    rng = np.random.default_rng(3)
    shuffle = np.argsort(np.arange(n) + rng.random(n) * 9, kind="stable")
    shuffled = samples._replace(
        series_index=ordered.series_index[shuffle],
        ts_ms=ordered.ts_ms[shuffle],
        values=ordered.values[shuffle],
    )
    admission = config.Admission(allowed_lateness_ms=100_000)
    one, other = engine(admission), engine(admission)
    a, b = process(one, [ordered]), process(other, cut(shuffled, cuts, rng))
    length = min(len(a[0]), len(b[0]))
    assert a[0][:length] == b[0][:length]
    for x, y in zip(a[1], b[1], strict=True):
        np.testing.assert_array_equal(x[:length], y[:length])
