"""A lively series that stands still is told; one that may stand still is not."""

import numpy as np
import pytest

from detectors.flat import LEAST_RUN
from schemas import config
from schemas.event import Direction, Kind, Status
from tests.unit.detectors.test_default_detection import AT, DAY, opened, telemetry


def stuck(values, length, at=AT):
    values = np.array(values, float)
    values[at : at + length] = values[at]
    return values


def flats(values, **changes):
    return [(row, event) for row, event in opened(values, **changes) if event.kind == Kind.FLAT]


def test_a_frozen_value_is_told_after_a_dozen_samples_and_closes_when_it_moves():
    ((row, event),) = flats(stuck(telemetry(), 40))
    assert row == AT + LEAST_RUN
    assert (event.status, event.direction) == (Status.CLOSE, Direction.BOTH)
    assert [spoke.name for spoke in event.detectors][-1] == "flat"
    assert event.reason.startswith("x stands still at ")
    assert "it moves again" in event.reason


def test_a_value_that_stays_frozen_becomes_the_new_normal():
    ((_, event),) = flats(stuck(telemetry(14), 5 * DAY), max_duration_samples=100)
    assert event.status == Status.CLOSE
    assert "new normal" in event.reason


def coarse(rng):
    """A gauge of few steps: equal neighbours are usual."""
    return np.round(telemetry(10, rng) / 25) * 25


def mostly_zero(rng):
    return np.where(rng.random(10 * DAY) < 0.02, rng.poisson(5, 10 * DAY), 0).astype(float)


def idle_at_night(rng):
    values = rng.poisson(300, 10 * DAY).astype(float)
    values[np.arange(10 * DAY) % DAY < 80] = 0.0
    return values


def perfect_at_night(rng):
    values = 1 - rng.random(10 * DAY) / 100
    values[np.arange(10 * DAY) % DAY < 80] = 1.0
    return values


def constant(rng):
    return np.full(10 * DAY, 7.0)


def square(rng):
    return np.where(np.arange(10 * DAY) % DAY < 140, 3.0, 9.0)


@pytest.mark.parametrize("series", [coarse, mostly_zero, idle_at_night, perfect_at_night, constant, square])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_may_stand_still_is_left_alone(series, seed):
    assert flats(series(np.random.default_rng(seed))) == []


def test_it_can_be_turned_off():
    assert flats(stuck(telemetry(), 40), policies=[config.Policy(match="*", flat=False)]) == []
