import re

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.events import _rarity, _span
from detectors.protocol import Samples
from detectors.tails import between_ms
from schemas import config


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "a moment"),
        (1000, "1 second"),
        (60_000, "1 minute"),
        (150_000, "2 minutes"),
        (7_200_000, "2 hours"),
    ],
)
def test_a_length_of_time_reads_as_people_say_it(milliseconds, words):
    assert _span(milliseconds) == words


@pytest.mark.parametrize(
    ("budget", "interval_ms", "score", "words"),
    [
        (0.1, 60_000, 1.0, " (about once in 10 days)"),  # what the budget says
        (1.0, 60_000, 1.0, " (about once in a day)"),
        (24.0, 60_000, 1.0, " (about once in an hour)"),
        (1.0, 60_000, 1.5, " (about once in 38 days)"),  # 1440 ** 1.5 minutes
        (0.1, 60_000, 3.0, " (less than once in ten years)"),
        (0.1, 60_000, 75.0, " (less than once in ten years)"),  # a probability that floats hardly hold
        (0.1, 0, 3.0, ""),  # a series whose interval is unknown
    ],
)
def test_how_rare_a_score_is_follows_from_the_budget(budget, interval_ms, score, words):
    interval = np.array([interval_ms], np.float32)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        (between,) = between_ms(budget, interval, interval, np.array([score], np.float32))
    assert _rarity(float(between)) == words


def test_a_spike_says_how_rare_it_is():
    ts_ms = 60_000 * np.arange(3_000)
    values = np.random.default_rng(1).normal(10.0, 1.0, len(ts_ms))
    values[-1] = 16.0
    samples = Samples(("cpu",), np.zeros(len(ts_ms), np.int64), ts_ms, values)
    (*_, event) = Engine(config.Engine(), config.Admission()).process(samples).events
    assert re.search(r"score \d\.\d where 1 alerts \((about|less than) once in ", event.reason)
