"""Which detectors judge which series, and how they share its alert budget."""

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.event import Status
from tests.unit.detectors.streams import assert_same, cut, engine, process

STEP, N = 300_000, 2000
CPU, MEM = 'cpu{host="a"}', 'mem{host="a"}'


def chosen(*entries):
    return [config.DetectorConfig(name=name, match=match, weight=weight) for name, match, weight in entries]


BOTH = chosen(("large", "cpu", 0.5), ("rare", "*", 1.0))


def samples(names=(CPU, MEM), seed=1):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 1, (N, len(names)))
    values[N - 100] += 30
    values[N // 2 : N // 2 + 3] -= 8
    ts_ms = 1_700_000_000_000 + STEP * np.repeat(np.arange(N), len(names))
    return Samples(names, np.tile(np.arange(len(names)), N), ts_ms, values.reshape(-1))


def of(said, name):
    mine = said.series_index == list(said.series).index(name)
    return said.score[mine], said.expected[mine], [e for e in said.events if e.series == name]


@pytest.mark.parametrize(
    ("name", "alone"),
    [
        (CPU, chosen(("large", "*", 0.5), ("rare", "*", 1.0))),
        (MEM, chosen(("rare", "*", 1.0))),
    ],
)
def test_a_series_is_judged_as_if_its_detectors_were_all_there_are(name, alone):
    found = of(engine(detectors=BOTH).process(samples()), name)
    expected = of(engine(detectors=alone).process(samples()), name)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])
    assert [e.event_id for e in found[2]] == [e.event_id for e in expected[2]]
    assert any(e.status == Status.OPEN for e in found[2])


def test_of_two_detectors_the_one_alone_has_the_whole_budget():
    """Half of the weight would have two thirds of it, and a higher threshold."""
    entries = chosen(("large", "cpu", 0.5), ("rare", "mem", 1.0))
    alone, among = (
        of(engine(detectors=each).process(samples()), CPU)[0]
        for each in (entries, chosen(("large", "*", 0.5), ("rare", "nothing", 1.0)))
    )
    np.testing.assert_allclose(alone, among, rtol=1e-6)
    whole = of(engine(detectors=chosen(("large", "*", 1.0))).process(samples()), CPU)[0]
    np.testing.assert_allclose(alone, whole, rtol=1e-5)


def test_a_series_that_no_detector_judges_has_no_score():
    said = engine(detectors=chosen(("large", "cpu", 1.0))).process(samples())
    score, _, events = of(said, MEM)
    assert np.isnan(score).all()
    assert events == []


def test_cuts_and_a_restore_change_nothing():
    rng = np.random.default_rng(5)
    whole = process(engine(detectors=BOTH), [samples()])
    assert_same(whole, process(engine(detectors=BOTH), cut(samples(), [7, 400, 401, 2500], rng)))
    batches = list(cut(samples(), [1500], rng))
    first = engine(detectors=BOTH)
    begun = process(first, batches[:1])
    second = Engine.restore(first._config, config.Admission(), first.snapshot())
    rest = process(second, batches[1:])
    joined = [np.concatenate(pair) for pair in zip(begun[1], rest[1], strict=True)]
    assert_same(whole, (begun[0] + rest[0], joined, begun[2] + rest[2]))


def test_a_slot_that_another_series_gets_has_its_detectors():
    small = config.Admission(max_series_per_partition=1)
    one = engine(small, detectors=chosen(("large", "cpu", 1.0)))
    one.process(samples((CPU,)))
    assert np.isnan(one.process(samples((MEM,))).score).all()
    assert not np.isnan(one.process(samples((CPU,))).score[-1])


def test_days_off_and_matchers_go_together():
    weekend = config.Policy(match="*", weekend=["saturday", "sunday"])
    said = engine(detectors=BOTH, policies=[weekend]).process(samples())
    alone = engine(detectors=chosen(("rare", "*", 1.0)), policies=[weekend]).process(samples())
    np.testing.assert_allclose(of(said, MEM)[0], of(alone, MEM)[0], rtol=1e-5)
