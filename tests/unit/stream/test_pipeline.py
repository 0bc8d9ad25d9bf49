"""How a batch is cut into slices."""

import itertools
import time

import numpy as np

from detectors.protocol import Samples
from schemas import config
from stream.worker.pipeline import FIRST_SLICE, Pipeline


def pipeline(most):
    cfg = config.Config(worker=config.Worker(max_batch_samples=most))
    return Pipeline(cfg, cfg.inputs[0])


def samples(count):
    ts_ms = 1_700_000_000_000 + 60_000 * np.arange(count)
    return Samples(("load",), np.zeros(count, np.int64), ts_ms, np.arange(float(count)))


def test_slices_hold_every_sample_once_and_in_order():
    one = pipeline(most=300)
    taken = []
    for part in one.slices(samples(1000)):
        one.learn(part)
        taken.append(part.values)
    assert [len(values) for values in taken] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate(taken), np.arange(1000.0))


def test_nothing_gives_no_slice():
    assert not list(pipeline(most=300).slices(samples(0)))


def test_slices_shrink_to_a_quarter_second_where_samples_are_dear(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(clock)))  # a call takes a second
    one, sizes = pipeline(most=200_000), []
    for part in one.slices(samples(14_000)):
        one.learn(part)
        sizes.append(len(part.values))
    assert sizes[:4] == [FIRST_SLICE, 2500, 625, 500]
    assert sum(sizes) == 14_000
