"""Random streams for the engine, and how to compare what it says."""

from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import strategies as st

from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config

COLUMNS = ("ts_ms", "values", "score", "level", "expected", "lower", "upper", "state", "started")
NAMES = [f'{metric}{{host="{host}"}}' for metric in ("cpu", "queue") for host in "abcd"]
CONFIG = config.Engine(window=16, warm_up_samples=12, alert_budget=20.0, max_duration_samples=40)

WITH_POLICIES = msgspec.structs.replace(
    CONFIG,
    policies=[
        config.Policy(match='cpu{host="a"}', weekend=["tuesday"], timezone="Europe/Berlin", country="DE"),
        config.Policy(match='cpu{host="b"}', direction="above", min_duration_samples=2, warm_up_samples=20),
        config.Policy(
            match="queue", allowed_max=9.0, min_deviation=3.0, alert_budget=50.0, weekend=["tuesday"]
        ),
    ],
)


@st.composite
def streams(draw, disorder=True):
    """Samples of a few series with spikes, gaps, duplicates and late ones, drawn from a printed seed."""
    seed = draw(st.integers(0, 2**32 - 1))
    n = draw(st.integers(1, 1500))
    rng = np.random.default_rng(seed)
    index = rng.integers(0, draw(st.integers(1, len(NAMES))), n)
    ts_ms = 1_700_000_000_000 + 10_000 * np.arange(n)
    if disorder:
        ts_ms = ts_ms - 10_000 * rng.integers(0, 40, n) * (rng.random(n) < 0.1)
    values = np.round(rng.normal(size=n), 2) + index
    values[rng.random(n) < 0.02] += 50
    values[rng.random(n) < 0.03] = np.nan
    return Samples(tuple(NAMES), index, ts_ms, values)


def cut(samples, cuts, rng):
    """The same samples in batches, each with a dictionary in an order of its own, as list or tuple."""
    edges = [0, *sorted({c % (len(samples.ts_ms) + 1) for c in cuts}), len(samples.ts_ms)]
    for a, b in pairwise(edges):
        order = rng.permutation(len(samples.series))
        names = [samples.series[entry] for entry in order]
        place = np.argsort(order)[samples.series_index[a:b]]
        yield Samples(
            tuple(names) if rng.random() < 0.5 else names, place, samples.ts_ms[a:b], samples.values[a:b]
        )


def process(engine, batches):
    """Everything said about the batches, by sample, and the events."""
    names, columns, events = [], [], []
    for batch in batches:
        said = engine.process(batch)
        names += [said.series[entry] for entry in said.series_index]
        columns.append(said[2:11])
        events += said.events
    return names, [np.concatenate(column) for column in zip(*columns, strict=True)], events


def assert_same(one, other):
    assert one[0] == other[0]
    for name, a, b in zip(COLUMNS, one[1], other[1], strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert one[2] == other[2]


def assert_same_state(one, other):
    a, b = one.snapshot(), other.snapshot()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name


def engine(admission=None, **changes):
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__struct_fields__}
    return Engine(config.Engine(**{**fields, **changes}), admission or config.Admission())
