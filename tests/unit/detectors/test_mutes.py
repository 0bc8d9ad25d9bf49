"""A muted anomaly is found, told and named as muted; what is learned meanwhile is a choice."""

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.mutes import MOST, Muted
from detectors.protocol import Samples
from schemas import config
from schemas.event import Status

STEP = 300_000
START = 1_704_672_000_000
DAY = 288
AT = 6 * DAY + 50
CONFIG = config.Engine()


def telemetry(days=8, seed=3):
    at = np.arange(days * DAY)
    return 100 + 20 * np.sin(2 * np.pi * at / DAY) + np.random.default_rng(seed).normal(size=len(at))


def samples(values, start=0, name='load{host="a"}'):
    n = len(values)
    return Samples(
        (name,), np.zeros(n, np.int64), START + STEP * np.arange(start, start + n), np.asarray(values, float)
    )


def at_ms(row):
    return START + STEP * row


def mute(first, last, matcher="load", learn=True, mute_id="m"):
    return Muted(mute_id, matcher, ((at_ms(first), at_ms(last)),), learn)


def spiked(size=60, length=1, at=AT, days=8):
    values = telemetry(days)
    values[at : at + length] += size
    return values


def told(values, *mutes):
    engine = Engine(CONFIG, config.Admission())
    for each in mutes:
        engine.mute(each)
    return engine, engine.process(samples(values))


def test_a_muted_anomaly_is_told_with_the_name_of_the_mute_and_the_same_scores():
    _, said = told(spiked(), mute(AT - 5, AT + 50))
    _, free = told(spiked())
    assert [event.muted_by for event in said.events] == ["m", "m"]
    assert [event.muted_by for event in free.events] == [None, None]
    np.testing.assert_array_equal(said.score, free.score)


@pytest.mark.parametrize(
    "other", [mute(AT + 1, AT + 50), mute(AT - 50, AT), mute(AT - 5, AT + 50, 'load{host="b"}')]
)
def test_other_times_and_other_series_are_not_muted(other):
    _, said = told(spiked(), other)
    assert said.events
    assert said.events[0].muted_by is None


def test_the_close_of_what_was_sent_before_a_mute_is_sent():
    _, said = told(spiked(size=60, length=30), mute(AT + 3, AT + 500))
    first, last = said.events[0], said.events[-1]
    assert (first.status, first.muted_by, last.status, last.muted_by) == (
        Status.OPEN,
        None,
        Status.CLOSE,
        None,
    )


def test_a_lifted_mute_mutes_nothing():
    engine = Engine(CONFIG, config.Admission())
    engine.mute(mute(0, 10 * DAY))
    values = spiked()
    engine.process(samples(values[:AT]))
    engine.unmute("m")
    engine.unmute("never there")
    assert engine.process(samples(values[AT:], AT)).events[0].muted_by is None


def test_an_open_muted_anomaly_is_not_listed_as_open():
    engine, _ = told(spiked(length=5)[: AT + 3], mute(AT - 5, AT + 50))
    assert engine.counts().open_anomalies == 1
    assert engine.open_anomalies(10) == []
    engine.unmute("m")
    assert len(engine.open_anomalies(10)) == 1


def test_a_span_that_is_not_learned_leaves_the_models_as_they_were():
    """A migration at night: afterwards the series is judged as if it had not been."""
    length, after = 60, slice(AT + 60, AT + 70)
    values = 100 + np.random.default_rng(1).normal(size=8 * DAY)
    without = values.copy()
    without[AT : AT + length] = np.nan
    values[AT : AT + length] += 80
    learned = told(values, mute(AT, AT + length))[1]
    unlearned = told(values, mute(AT, AT + length, learn=False))[1]
    apart = told(without)[1]
    expected = [np.abs(said.expected[after] - apart.expected[after]).max() for said in (learned, unlearned)]
    assert expected[0] > 10.0
    assert expected[1] < 1.0


def test_a_mute_without_learning_concerns_series_that_come_later():
    engine = Engine(CONFIG, config.Admission())
    engine.mute(mute(0, 2 * DAY, learn=False))
    said = engine.process(samples(telemetry(3)))
    assert np.isnan(said.score[: 2 * DAY]).all()
    assert not np.isnan(said.score[-10:]).any()


def test_mutes_survive_a_snapshot():
    engine = Engine(CONFIG, config.Admission())
    engine.mute(mute(AT - 5, AT + 50, learn=False))
    values = spiked()
    engine.process(samples(values[:AT]))
    other = Engine.restore(CONFIG, config.Admission(), engine.snapshot())
    said, again = engine.process(samples(values[AT:], AT)), other.process(samples(values[AT:], AT))
    assert said.events == again.events
    assert said.events[0].muted_by == "m"
    np.testing.assert_array_equal(said.score, again.score)


def test_many_mutes_are_bounded_and_the_first_to_end_goes():
    engine = Engine(CONFIG, config.Admission())
    for n in range(MOST + 1):
        engine.mute(mute(AT - 1, AT + 10 + n, mute_id=f"m{n}"))
    assert engine.process(samples(spiked())).events[0].muted_by == "m1"


def test_a_matcher_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="does not end"):
        Engine(CONFIG, config.Admission()).mute(mute(0, 1, "load{"))


@pytest.mark.parametrize(("verdict", "again"), [("true", True), ("false", False), ("expected", False)])
def test_what_a_person_called_false_is_not_told_again_the_next_time(verdict, again):
    values = spiked(60)
    later = AT + 40
    values[later] += 200  # tops what the first has left by a little
    engine = Engine(CONFIG, config.Admission())
    first = engine.process(samples(values[: AT + 30]))
    engine.label('load{host="a"}', "another", "false")  # of an anomaly that is not the newest: nothing
    engine.label('load{host="a"}', first.events[0].anomaly_id, verdict)
    second = engine.process(samples(values[AT + 30 :], AT + 30))
    assert any(event.started_ms == at_ms(later) for event in second.events) == again
