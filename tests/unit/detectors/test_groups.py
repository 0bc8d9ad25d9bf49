"""Groups of series in the engine: put together by intervals, judged by one model, told as anomalies."""

from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.batch import History
from detectors.engine import Engine
from detectors.moments import Moments
from detectors.multidimensional import MultidimensionalDetector
from detectors.protocol import Samples
from schemas import config
from schemas.event import Status
from tests.unit.detectors.streams import (
    CONFIG,
    NAMES,
    WITH_POLICIES,
    assert_same,
    assert_same_state,
    cut,
    process,
    streams,
)
from tests.unit.detectors.test_multidimensional import STEP_MS, service

PARAMS = {"n_estimators": 20}
METRICS = ("errors", "response", "throughput")
MEMBERS = tuple(f'{metric}{{service="shop"}}' for metric in METRICS)
SHOP = 'service{service="shop"}'
START_MS = 1_700_000_040_000  # on the minute
N = 600


def group(**changes):
    return config.Group(**{"name": "service", "group_by": ["service"], "params": PARAMS, **changes})


def engine(*groups, admission=None, **changes):
    chosen = config.Engine(groups=list(groups) or [group()], **changes)
    return Engine(chosen, admission or config.Admission())


def values(n, seed=2):
    """Columns in the order of `METRICS`."""
    return service(n, seed)[:, [2, 0, 1]]


@cache
def model(members=MEMBERS):
    columns = values(2000, seed=0)[:, [i % 3 for i in range(len(members))]]
    history = History(STEP_MS * np.arange(2000), columns, members)
    return MultidimensionalDetector.fit(PARAMS, history, 1)


def samples(columns, members=MEMBERS, first=0):
    """A sample of each member a minute; NaN where it has sent none."""
    ts_ms = np.repeat(START_MS + STEP_MS * (first + np.arange(len(columns))), len(members))
    sent = ~np.isnan(columns).reshape(-1)
    index = np.tile(np.arange(len(members)), len(columns))
    return Samples(members, index[sent], ts_ms[sent], columns.reshape(-1)[sent])


def run(columns, *, members=MEMBERS, made=None, one=None):
    """Events of the group, judged from the second minute on."""
    made = made or model()
    one = one or engine()
    one.process(samples(columns[:2], members))
    assert one.adopt(SHOP, "multidimensional", made, "m1")
    told = one.process(samples(columns[2:], members, first=2)).events
    return [event for event in told if event.series == SHOP], one


def slow_without_load(at=400):
    columns = values(N)
    low = int(np.argmin(columns[at - 100 : at + 100, 2])) + at - 100
    columns[low : low + 3, 1] = np.quantile(columns[:, 1], 0.95)
    return columns, low


def test_a_group_is_told_with_the_share_of_each_channel():
    columns, low = slow_without_load()
    (opened, *_, closed), _ = run(columns)
    assert (opened.status, closed.status) == (Status.OPEN, Status.CLOSE)
    assert (opened.started_ms - START_MS) // STEP_MS == low
    assert (opened.metric, opened.labels) == ("service", {"service": "shop"})
    assert opened.actual is opened.expected is opened.lower is None
    shares = opened.contributions
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert max(shares, key=shares.get) == MEMBERS[1]
    assert opened.reason.startswith("service is unusual as a whole: response ")
    assert opened.detectors[0].artifact == "m1"
    assert closed.anomaly_id == opened.anomaly_id


def test_a_moment_is_judged_with_the_sample_that_completes_it():
    one, columns = run(values(60))[1], values(N)
    group_of_one = one._groups[0]
    before = group_of_one.judged
    last = samples(columns[60:61], first=60)
    for member in range(3):
        one.process(
            Samples(MEMBERS, last.series_index[[member]], last.ts_ms[[member]], last.values[[member]])
        )
        assert group_of_one.judged == before + (member == 2)


def test_a_channel_that_stops_is_waited_for_and_then_given_up():
    columns, low = slow_without_load()
    columns[300:, 0] = np.nan
    (opened, *_), one = run(columns)
    assert (opened.started_ms - START_MS) // STEP_MS == low
    assert opened.detected_ms == opened.started_ms  # the moment, however late it was complete
    assert MEMBERS[0] not in opened.contributions
    assert one._groups[0].judged == N - 2 - 5 - 2  # the last two still wait


def test_a_partition_with_half_of_the_channels_or_fewer_does_not_judge():
    """So no two partitions judge the same group."""
    columns, _ = slow_without_load()
    four = (*MEMBERS, 'queue{service="shop"}')
    for members, judges in ((MEMBERS[:2], False), (MEMBERS, True)):
        _, one = run(columns[:, : len(members)], members=members, made=model(four))
        assert (one._groups[0].judged > 0) == judges


def test_a_group_goes_with_its_last_member_and_comes_back_without_a_model():
    small = engine(admission=config.Admission(max_series_per_partition=3))
    _, one = run(values(20), one=small)
    others = tuple(f"other{i}" for i in range(3))
    one.process(Samples(others, np.arange(3), np.full(3, START_MS + 30 * STEP_MS), np.ones(3)))
    assert one.serving(SHOP, "multidimensional") is None
    one.process(samples(values(30), first=40))
    assert one.serving(SHOP, "multidimensional") == ""
    assert one.adopt(SHOP, "multidimensional", model(), "m2")


def test_a_model_with_other_channels_begins_anew_and_the_same_goes_on():
    one = run(values(60))[1]
    one.adopt(SHOP, "multidimensional", model(), "m2")
    one.process(samples(values(70)[60:], first=60))
    assert one._groups[0].judged == 70 - 2 - 5
    one.adopt(SHOP, "multidimensional", model(MEMBERS[:2]), "m3")
    one.process(samples(values(80)[70:], first=70))
    assert one._groups[0].judged == 70 - 2 - 5 + 10 - 5


def test_a_person_excuses_the_anomaly_of_a_group():
    columns, _ = slow_without_load()
    (opened, *_), one = run(columns)
    assert one.can_label(SHOP, opened.anomaly_id, "false")
    one.label(SHOP, opened.anomaly_id, "false")
    assert not one.can_label(SHOP, opened.anomaly_id, "false")


def test_what_is_open_is_counted_and_shown():
    columns = values(N)
    columns[-3:, 1] *= 3
    told, one = run(columns)
    assert told[-1].status is not Status.CLOSE
    assert SHOP in {each.series for each in one.open_anomalies(10)}
    assert one.counts().open_anomalies >= 1


def test_samples_of_an_interval_are_their_mean():
    moments = Moments(60_000, 60_000)
    moments.reserve(1)
    moments.begin(0, 2)
    ts_ms = np.array([0, 10_000, 30_000, 59_000, 61_000, 185_000])
    columns = np.array([0, 1, 0, 1, 0, 0])
    distance_ms = np.full(6, 30_000, np.float32)
    out = moments.take(
        np.zeros(6, np.int64), columns, ts_ms, distance_ms, np.arange(6.0), np.array([1, 1, 1, 1, 0, 1], bool)
    )
    # Channel 0 is through with the first minute at 30 s, channel 1 at 59 s; the second one waits in vain.
    assert out.position.tolist() == [3, 5]
    assert out.ts_ms.tolist() == [0, 60_000]
    np.testing.assert_array_equal(out.values[:, :2], [[1.0, 2.0], [4.0, np.nan]])
    assert out.learn.tolist() == [True, False]


def test_an_engine_refuses_a_detector_of_one_series():
    with pytest.raises(ValueError, match="one series at a time"):
        engine(group(detector="iforest"))


# Whatever comes, and however it is cut.

HOSTS = config.Group(name="host", group_by=["host"], params=PARAMS, interval_ms=120_000, wait_ms=240_000)


@cache
def host_model(host):
    members = tuple(name for name in NAMES if f'"{host}"' in name)
    rng = np.random.default_rng(1)
    history = History(120_000 * np.arange(300), rng.normal(size=(300, 2)) + np.arange(2), members)
    return MultidimensionalDetector.fit(PARAMS, history, 1)


def begun(cfg, first, admission=None):
    """An engine whose hosts have a model after these samples, and what was said of them."""
    one = Engine(cfg, admission or config.Admission())
    said = process(one, [first])
    for host in "abcd":
        one.adopt(f'host{{host="{host}"}}', "multidimensional", host_model(host), host)
    return one, said


@given(streams(), st.lists(st.integers(0, 1500), max_size=6), st.sampled_from([CONFIG, WITH_POLICIES]))
def test_cuts_and_a_restore_change_nothing(stream, cuts, base):
    cfg = msgspec.structs.replace(base, groups=[HOSTS])
    admission = config.Admission(max_series_per_partition=6)
    rng = np.random.default_rng(1)
    half = len(stream.ts_ms) // 3
    first, rest = (
        Samples(stream.series, stream.series_index[a:b], stream.ts_ms[a:b], stream.values[a:b])
        for a, b in ((0, half), (half, None))
    )
    one, _ = begun(cfg, first, admission)
    other, _ = begun(cfg, first, admission)
    whole = process(one, [rest])
    parts = list(cut(rest, cuts, rng))
    middle = len(parts) // 2
    begin = process(other, parts[:middle]) if middle else ([], None, [])
    other = Engine.restore(cfg, admission, other.snapshot())
    end = process(other, parts[middle:])
    columns = end[1] if begin[1] is None else [np.concatenate(p) for p in zip(begin[1], end[1], strict=True)]
    assert_same(whole, (begin[0] + end[0], columns, begin[2] + end[2]))
    assert_same_state(one, other)
