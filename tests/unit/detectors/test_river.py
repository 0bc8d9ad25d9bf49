"""River's models by name, nested and in pipelines, on the contract and in the engine."""

import numpy as np
import pytest

from bench.river import MODELS as NAMED
from detectors.checks import CHECKS, Subject
from detectors.engine import Engine
from detectors.protocol import Samples
from detectors.river_adapter import RiverDetector
from detectors.river_model import build
from schemas import config
from schemas.event import Status
from tests.unit.detectors.test_episodes import score

SNARIMAX = {"time_series.SNARIMAX": {"p": 3, "d": 0, "q": 1}}
MODELS = {
    "one-class SVM": {"model": {"OneClassSVM": {"nu": 0.1}}},
    "Gaussian of differences": {"model": "GaussianScorer", "target": "difference"},
    "absolute deviation of differences": {"model": "StandardAbsoluteDeviation", "target": "difference"},
    "forecast": {"model": {"PredictiveAnomalyDetection": {"predictive_model": SNARIMAX}}},
    "adopts what Page-Hinkley finds": {
        "model": {"GaussianScorer": {"window_size": 500, "grace_period": 16}},
        "drift": {"PageHinkley": {"delta": 0.5, "threshold": 30}},
    },
    "adopts what ADWIN finds": {
        "model": {"GaussianScorer": {"window_size": 500, "grace_period": 16}},
        "drift": {"ADWIN": {"delta": 0.0001}},
    },
    "filter of trees": {"model": {"QuantileFilter": {"anomaly_detector": "anomaly.OneClassSVM", "q": 0.99}}},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("params", MODELS.values(), ids=MODELS.keys())
def test_models_keep_the_contract(params, check):
    check(Subject(RiverDetector, params, samples=450))


def test_a_pipeline_is_a_list():
    model = build(["preprocessing.MinMaxScaler", {"HalfSpaceTrees": {"n_trees": 3}}], seed=5)
    assert model["HalfSpaceTrees"].n_trees == 3
    assert model["HalfSpaceTrees"].seed == 5


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "HalfSpaceTree"}, "no model 'HalfSpaceTree'.*HalfSpaceTrees"),
        ({"model": "os.System"}, "no model"),
        ({"model": "anomaly.base"}, "no model"),
        ({"model": {"HalfSpaceTrees": {"trees": 3}}}, "no parameter 'trees'; it has n_trees"),
        ({"model": []}, "a pipeline needs a model"),
        ({"model": {"a": {}, "b": {}}}, "a map of one name"),
        ({"memory": 1}, "memory is a whole number from 32"),
        ({"target": "lag"}, "target is value or difference"),
        ({"depth": 1}, "no parameter 'depth'"),
        ({"drift": "PageHinkly"}, "no model 'drift.PageHinkly'"),
        ({"drift": "anomaly.OneClassSVM"}, "detects no drift; use ADWIN, PageHinkley"),
    ],
)
def test_a_wrong_parameter_is_named(params, message):
    with pytest.raises(ValueError, match=message):
        RiverDetector.create(params, 1)


@pytest.mark.parametrize("what", ["adopts what Page-Hinkley finds", "adopts what ADWIN finds"])
def test_a_change_point_is_adopted(what):
    """A shift widens what a model of both levels takes for usual; one of the new level is sharp."""
    values = 50 + np.random.default_rng(1).normal(size=900)
    values[600:] += 12
    values[700] -= 9
    surprise = []
    for params in (MODELS[what], {**MODELS[what], "drift": None}):
        one = RiverDetector.create(params, 1)
        one.reserve(1)
        at = 60_000 * np.arange(len(values))
        said = one.step(np.zeros(len(values), np.int64), at, values, np.ones(len(values), np.bool_))
        surprise.append(float(said.surprise[700]))
        assert said.surprise[600] > 3.0
    assert surprise[0] > 3.0
    assert surprise[1] < 1.5


def test_a_spike_is_found_by_a_river_model_in_the_engine():
    values = 50 + np.random.default_rng(1).normal(size=900)
    values[800] += 30
    detector = config.DetectorConfig(name="river", params=MODELS["Gaussian of differences"])
    said = score(values, detectors=[detector])
    opened = [event for event in said.events if event.status == Status.OPEN]
    assert [event.started_ms for event in opened] == [1_700_000_000_000 + 800 * 60_000]
    assert opened[0].expected is None
    assert opened[0].detectors[0].name == "river"


@pytest.mark.parametrize("name", NAMED)
def test_each_named_model_alerts_on_a_gross_spike_at_the_default_budget(name):
    short = {"memory": 64, "remake_every": 64, "warm_up": 64} if name == "LocalOutlierFactor" else {}
    n, at = (260, 240) if short else (600, 560)
    values = 100 + np.random.default_rng(3).normal(size=n)
    values[at] += 15
    detector = config.DetectorConfig(name="river", params={"model": NAMED[name], **short})
    ts_ms = 1_700_006_400_000 + 300_000 * np.arange(n)
    one = Engine(config.Engine(detectors=[detector]), config.Admission())
    said = one.process(Samples(("x",), np.zeros(n, np.int64), ts_ms, values))
    assert ts_ms[at] in [event.started_ms for event in said.events if event.status == Status.OPEN]
    assert len({event.anomaly_id for event in said.events}) <= 2


def test_two_detectors_speak_on_one_scale():
    values = 50 + np.random.default_rng(1).normal(size=900)
    values[800] += 40
    river = config.DetectorConfig(name="river", params=MODELS["Gaussian of differences"])
    said = score(values, detectors=[config.DetectorConfig(name="robust"), river])
    assert {spoke.name for spoke in said.events[0].detectors} >= {"robust"}
    assert said.events[0].expected is not None
