"""An anomaly ends with its series: nobody waits for the end of what sends no more."""

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.event import Kind, Status
from tests.unit.detectors.streams import assert_same, assert_same_state, cut, process
from tests.unit.detectors.test_silence import MINUTE, NAMES, START, arrivals, without

BAD = NAMES[2]


def broken(last):
    """A series that goes bad after 300 minutes and sends nothing more from minute ``last`` on."""
    index, ts_ms, values = arrivals(1000)
    values[(index == 2) & (ts_ms >= START + 300 * MINUTE)] += 200
    return without((index, ts_ms, values), [2], last, 10_000)


def engine(admission=None, **changes):
    fields = {"max_duration_samples": 100, "update_every_samples": 1000}
    return Engine(config.Engine(**{**fields, **changes}), admission or config.Admission())


def said(stream, admission=None, names=NAMES, **changes):
    events = engine(admission, **changes).process(Samples(names, *stream)).events
    return [event for event in events if event.series == BAD and event.kind != Kind.SILENCE]


def crowd(stream):
    """With room for six series, a seventh comes at minute 400 instead of another one."""
    index, ts_ms, values = stream
    index = index.copy()
    index[(ts_ms >= START + 400 * MINUTE) & (index == 5)] = 6
    return Samples((*NAMES, 'load{host="g"}'), index, ts_ms, values)


SMALL = config.Admission(max_series_per_partition=6)


def test_the_anomaly_of_a_series_that_is_evicted_closes_under_its_own_name():
    opened, closed = (
        event
        for event in engine(SMALL, alert_budget=0.01).process(crowd(broken(310))).events
        if event.series == BAD and event.kind != Kind.SILENCE
    )
    assert (opened.status, closed.status) == (Status.OPEN, Status.CLOSE)
    assert (closed.anomaly_id, closed.revision) == (opened.anomaly_id, 1)
    assert closed.detectors == opened.detectors
    assert closed.ended_ms < START + 310 * MINUTE
    assert closed.detected_ms >= START + 400 * MINUTE
    assert "its series was forgotten, last 30" in closed.reason


@pytest.mark.parametrize("watched", [True, False])
def test_the_anomaly_of_a_series_that_is_gone_closes_whether_or_not_its_silence_is_told(watched):
    opened, closed = said(broken(310), policies=[config.Policy(match="load", silence=watched)])
    assert closed.status == Status.CLOSE
    assert closed.anomaly_id == opened.anomaly_id
    assert closed.detected_ms - closed.ended_ms > 100 * MINUTE
    assert "its series is taken as gone" in closed.reason


def test_a_young_series_that_is_gone_is_told_as_well():
    index, ts_ms, values = broken(310)
    keep = (index != 2) | (ts_ms >= START + 299 * MINUTE)
    limit = [config.Policy(match="load", allowed_max=250)]
    opened, closed = said((index[keep], ts_ms[keep], values[keep]), policies=limit)
    assert (opened.status, closed.status) == (Status.OPEN, Status.CLOSE)
    assert "limits" in [spoke.name for spoke in closed.detectors]


def test_a_pause_of_a_series_leaves_its_anomaly_open():
    index, ts_ms, values = arrivals(1000)
    values[(index == 2) & (ts_ms >= START + 300 * MINUTE) & (ts_ms < START + 380 * MINUTE)] += 200
    _, closed = said(without((index, ts_ms, values), [2], 310, 370))[:2]
    assert closed.detected_ms >= START + 380 * MINUTE


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("last", [310, 399])
def test_it_does_not_matter_where_batches_end(seed, last):
    samples, rng = crowd(broken(last)), np.random.default_rng(seed)
    whole, parts = engine(SMALL), engine(SMALL)
    cuts = rng.integers(0, len(samples.ts_ms), 30)
    assert_same(process(whole, [samples]), process(parts, cut(samples, cuts.tolist(), rng)))
    assert_same_state(whole, parts)
