import numpy as np
import pytest

from detectors.batch import History
from detectors.engine import Engine
from detectors.multidimensional import MultidimensionalDetector
from schemas import config

STEP_MS = 60_000
PARAMS = {"n_estimators": 100}
CHANNELS = ("response", "throughput", "errors")


def service(n, seed=0):
    """Response time follows throughput, errors do not."""
    rng = np.random.default_rng(seed)
    load = np.sin(2 * np.pi * np.arange(n) / 300) + 0.1 * rng.normal(size=n)
    return np.stack(
        [
            0.2 + 0.05 * load + 0.003 * rng.normal(size=n),
            900 + 300 * load + 10 * rng.normal(size=n),
            np.abs(0.01 * rng.normal(size=n)),
        ],
        axis=1,
    )


def fitted(values):
    detector = MultidimensionalDetector.create(PARAMS, 1)
    detector.reserve(1)
    history = History(STEP_MS * np.arange(len(values)), values, CHANNELS)
    detector.adopt(0, MultidimensionalDetector.fit(PARAMS, history, 1))
    return detector


def step(detector, values):
    n = len(values)
    return detector.step(np.zeros(n, np.int64), STEP_MS * np.arange(n), values, np.ones(n, np.bool_))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_channel_that_is_off_has_the_largest_share(channel):
    values = service(600, seed=2)
    values[400, channel] += 15 * values[:, channel].std()
    said = step(fitted(service(2000)), values)
    assert said.surprise[400] == np.nanmax(said.surprise)
    shares = said.contributions[400]
    assert np.argmax(shares) == channel
    assert shares.sum() == pytest.approx(1.0, abs=1e-6)


def test_channels_that_no_longer_go_together_are_found_though_each_is_in_its_range():
    values = service(600, seed=2)
    low = int(np.argmin(values[300:, 1])) + 300
    values[low, 0] = np.quantile(values[:, 0], 0.9)  # slow without load
    said = step(fitted(service(2000)), values)
    assert said.surprise[low] == np.nanmax(said.surprise)
    assert values[:, 0].min() < values[low, 0] < values[:, 0].max()


def test_a_missing_channel_is_tolerated_and_has_no_share():
    values = service(600, seed=2)
    values[:, 2] = np.nan
    values[400, 0] += 15 * values[:, 0].std()
    said = step(fitted(service(2000)), values)
    assert said.ready[5:].all()
    assert said.surprise[400] == np.nanmax(said.surprise)
    assert np.isnan(said.contributions[400, 2])
    assert np.argmax(np.nan_to_num(said.contributions[400])) == 0
    assert np.median(said.surprise[5:]) < 1.0


def test_a_moment_without_any_channel_is_not_judged():
    values = service(50, seed=2)
    values[30] = np.nan
    ready = step(fitted(service(2000)), values).ready
    assert not ready[30]
    assert ready[31:].all()


def test_usual_moments_have_no_contributions():
    said = step(fitted(service(2000)), service(600, seed=2))
    told = ~np.isnan(said.contributions).all(axis=1)
    assert told.mean() < 0.2
    assert (said.surprise[told] >= 1.69).all()


def test_more_channels_than_there_is_room_for_are_refused():
    with pytest.raises(ValueError, match="16 channels"):
        MultidimensionalDetector.fit(
            PARAMS, History(STEP_MS * np.arange(300), np.random.default_rng(1).normal(size=(300, 17))), 1
        )


def test_an_engine_refuses_a_detector_of_groups_and_says_where_it_belongs():
    chosen = config.Engine(detectors=[config.DetectorConfig(name="multidimensional")])
    with pytest.raises(ValueError, match=r"engine\.groups"):
        Engine(chosen, config.Admission())
