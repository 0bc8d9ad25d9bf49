"""A series that stops sending while others go on is told; pauses, bursts and slow senders are not."""

import numpy as np
import pytest

from detectors.protocol import Samples
from schemas import config
from schemas.event import Kind, Severity, Status
from tests.unit.detectors.streams import engine

MINUTE = 60_000
START = 1_700_006_400_000
NAMES = tuple(f'load{{host="{host}"}}' for host in "abcdef")


def arrivals(n=600, interval=MINUTE, names=NAMES, seed=1):
    """Index of the series, time and value of each sample, in the order of arrival."""
    rng = np.random.default_rng(seed)
    at = np.repeat(START + interval * np.arange(n), len(names)) + rng.integers(
        0, interval // 4, n * len(names)
    )
    index = np.tile(np.arange(len(names)), n)
    order = np.argsort(at, kind="stable")
    return index[order], at[order], rng.normal(100, 1, len(at))


def without(stream, series, first, last):
    """Nothing of a series in rows first to last (minutes)."""
    index, ts_ms, values = stream
    inside = (ts_ms >= START + first * MINUTE) & (ts_ms < START + last * MINUTE)
    keep = ~(np.isin(index, series) & inside)
    return index[keep], ts_ms[keep], values[keep]


def said(stream, admission=None, names=NAMES, **changes):
    fields = {"detectors": config.Engine().detectors, "alert_budget": 0.1, "max_duration_samples": 256}
    one = engine(admission, **{**fields, **changes})
    events = one.process(Samples(names, *stream)).events
    return one, [event for event in events if event.kind == Kind.SILENCE]


def test_silence_is_told_after_five_intervals_and_closes_with_the_next_sample():
    _, (opened, closed) = said(without(arrivals(), [2], 300, 340))
    assert opened.series == NAMES[2]
    assert (opened.status, opened.severity) == (Status.OPEN, Severity.WARNING)
    assert abs(opened.started_ms - (START + 300 * MINUTE)) < MINUTE
    assert 4 * MINUTE < opened.detected_ms - opened.started_ms < 7 * MINUTE
    assert opened.actual is None
    assert opened.reason.startswith("load has sent nothing for 6 minutes, which it does every minute")
    assert closed.anomaly_id == opened.anomaly_id
    assert closed.event_id != opened.event_id
    assert closed.ended_ms == closed.detected_ms >= START + 340 * MINUTE
    assert "it speaks again" in closed.reason


def test_a_silent_series_is_open_until_it_is_taken_as_gone():
    stream = without(arrivals(1000), [2], 300, 10_000)
    one, events = said([part[: 6 * 340] for part in stream], max_duration_samples=100)
    assert [event.status for event in events] == [Status.OPEN]
    assert [each.series for each in one.open_anomalies(9)] == [NAMES[2]]
    assert one.counts().open_anomalies == 1
    one, events = said(stream, max_duration_samples=100)
    assert [event.status for event in events] == [Status.OPEN, Status.CLOSE]
    assert "taken as gone" in events[1].reason
    assert one.open_anomalies(9) == []


def test_several_series_fall_silent_at_once():
    _, events = said(without(arrivals(), [0, 1, 2, 3, 4], 300, 340))
    assert [event.status for event in events] == [Status.OPEN] * 5 + [Status.CLOSE] * 5


def pause(stream):
    """All series stop for an hour: a restart upstream."""
    return without(stream, range(6), 300, 360)


def bursts(stream):
    """One sender delivers ten minutes at once, always."""
    index, ts_ms, values = stream
    came = np.where(index == 2, ts_ms // (10 * MINUTE) * 10 * MINUTE + 10 * MINUTE, ts_ms)
    order = np.argsort(came, kind="stable")
    return index[order], ts_ms[order], values[order]


def behind(stream):
    """One sender is always a quarter of an hour late."""
    index, ts_ms, values = stream
    order = np.argsort(ts_ms + np.where(index == 2, 15 * MINUTE, 0), kind="stable")
    return index[order], ts_ms[order], values[order]


def slow(stream):
    """One series has a sample every half an hour."""
    index, ts_ms, values = stream
    keep = (index != 2) | (ts_ms // MINUTE % 30 == 0)
    return index[keep], ts_ms[keep], values[keep]


def irregular(stream):
    """One series has a sample now and then."""
    index, ts_ms, values = stream
    keep = (index != 2) | (np.random.default_rng(5).random(len(index)) < 0.3)
    return index[keep], ts_ms[keep], values[keep]


@pytest.mark.parametrize("change", [pause, bursts, behind, slow, irregular])
def test_what_is_no_silence_is_not_told(change):
    assert said(change(arrivals(3000)))[1] == []


def test_a_short_pause_of_one_series_is_no_silence():
    assert said(without(arrivals(), [2], 300, 304))[1] == []


def test_it_can_be_turned_off():
    policies = [config.Policy(match='load{host="c"}', silence=False)]
    assert said(without(arrivals(), [2], 300, 340), policies=policies)[1] == []


def test_a_silent_series_that_is_evicted_closes_under_its_own_name():
    """With room for six series, the seventh takes the place of the silent one."""
    index, ts_ms, values = without(arrivals(), [2], 300, 10_000)
    late = ts_ms >= START + 400 * MINUTE
    index[late & (index == 5)] = 6  # another host
    names = (*NAMES, 'load{host="g"}')
    _, events = said((index, ts_ms, values), config.Admission(max_series_per_partition=6), names)
    mine = [event for event in events if event.series == NAMES[2]]
    assert [event.status for event in mine] == [Status.OPEN, Status.CLOSE]
    assert "forgotten" in mine[1].reason
