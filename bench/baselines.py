"""What Tocsin is measured against, in the same process: rules everybody knows, and river at its defaults."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.datasets import LabelledSeries
from bench.judged import Judgement, Method, tocsin
from detectors import evaluation as ev
from detectors.evaluation.episodes import Episode
from schemas import config

SIGMAS: Final = 3.0  # the usual threshold of a z-score
WARM_UP: Final = 64  # as the engine's
_HALF_LIFE: Final = 5.0  # of the level, as the engine's

RIVER: Final[dict[str, dict[str, Any]]] = {
    "river GaussianScorer": {"GaussianScorer": {}},
    "river HalfSpaceTrees": {"HalfSpaceTrees": {}},
}


def z_score(series: LabelledSeries) -> Judgement:
    """Distance from the mean of all samples before, in their standard deviations; alerts from 3 on."""
    return _rule(_sigmas_of_history(series.values))


def last_value(series: LabelledSeries) -> Judgement:
    """Absolute difference from the sample before, in root mean squares of all before; alerts from 3 on."""
    steps = np.abs(np.diff(series.values, prepend=series.values[:1]))
    before = np.concatenate(([0.0], np.cumsum(steps**2)[:-1])) / np.maximum(np.arange(len(steps)), 1)
    return _rule(_divided(steps, np.sqrt(before)))


def river(model: dict[str, Any]) -> Method:
    """A model of river, behind the engine's features, guards, calibration and episodes."""
    detector = config.DetectorConfig(name="river", params={"model": model})
    return tocsin(config.Engine(detectors=[detector]))


def _sigmas_of_history(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = values - values[0]  # squares of large levels would lose the spread
    n = np.maximum(np.arange(len(values)), 1)
    mean = np.concatenate(([0.0], np.cumsum(shifted)[:-1])) / n
    square = np.concatenate(([0.0], np.cumsum(shifted**2)[:-1])) / n
    return _divided(np.abs(shifted - mean), np.sqrt(np.maximum(square - mean**2, 0.0)))


def _divided(distance: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """In spreads; without a spread any distance is as large as it gets."""
    score = np.where(distance > 0, 1e3, 0.0)
    np.divide(distance, spread, out=score, where=spread > 0)
    return np.minimum(score, 1e3)


def _rule(sigmas: NDArray[np.float64]) -> Judgement:
    """Runs of rows beyond the threshold are the alerts, as such a rule has them."""
    score = sigmas / SIGMAS
    score[:WARM_UP] = 0.0
    episodes = [
        Episode(start, end, start, float(score[start]), float(score[start:end].max()))
        for start, end in ev.runs(score >= 1.0).tolist()
    ]
    ready = np.arange(len(score)) >= WARM_UP
    return Judgement(episodes, _smoothed(score), ready, score)


def _smoothed(score: NDArray[np.float64]) -> NDArray[np.float64]:
    gain, level = 1.0 - 0.5 ** (1.0 / _HALF_LIFE), 0.0
    out = np.empty(len(score))
    for i, each in enumerate(score.tolist()):
        level += gain * (min(each, 10.0) - level)
        out[i] = level
    return out
