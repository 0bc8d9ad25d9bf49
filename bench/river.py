"""What each river model costs: time per sample, memory per series, and what it finds of a planted spike.

Run `python -m bench.river`; `--write docs/river.md` makes the page. One series of noise with a spike in a
fresh engine for each model; memory is what Python allocates for some series.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors import registry
from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.event import Status

MODELS: Final[dict[str, Any]] = {
    "HalfSpaceTrees": {"HalfSpaceTrees": {"n_trees": 25, "height": 3, "window_size": 250}},
    "OneClassSVM": {"QuantileFilter": {"anomaly_detector": {"anomaly.OneClassSVM": {"nu": 0.02}}, "q": 0.98}},
    "LocalOutlierFactor": {"LocalOutlierFactor": {"n_neighbors": 10}},
    "GaussianScorer": {"GaussianScorer": {"window_size": 500, "grace_period": 50}},
    "StandardAbsoluteDeviation": "StandardAbsoluteDeviation",
    "PredictiveAnomalyDetection, Holt-Winters": {
        "PredictiveAnomalyDetection": {
            "predictive_model": {"time_series.HoltWinters": {"alpha": 0.3, "beta": 0.05}},
            "horizon": 1,
            "n_std": 30.0,
            "warmup_period": 32,
        }
    },
    "PredictiveAnomalyDetection, SNARIMAX": {
        "PredictiveAnomalyDetection": {
            "predictive_model": {"time_series.SNARIMAX": {"p": 4, "d": 0, "q": 2}},
            "horizon": 1,
            "n_std": 30.0,
            "warmup_period": 32,
        }
    },
}
"""Specifications as they stand in `params.model` of a detector `river`."""

ROWS: Final = 1_500
SPIKE: Final = 1_200
SERIES: Final = 20


class Cost(NamedTuple):
    """Of one model."""

    model: str
    us_per_sample: float
    bytes_per_series: float
    found: bool
    false: int  # anomalies opened elsewhere


def measure(name: str, spec: Any) -> Cost:
    """Replay the series, then fill some series and see what memory they take."""
    values = np.random.default_rng(3).normal(100, 1, ROWS)
    values[SPIKE] += 15
    ts_ms = 1_700_006_400_000 + 300_000 * np.arange(ROWS)
    engine = Engine(
        config.Engine(detectors=[config.DetectorConfig(name="river", params={"model": spec})]),
        config.Admission(),
    )
    began = time.process_time()
    said = engine.process(Samples(("x",), np.zeros(ROWS, np.int64), ts_ms, values))
    seconds = time.process_time() - began
    opened = [event.started_ms for event in said.events if event.status == Status.OPEN]
    near = [abs(at - ts_ms[SPIKE]) <= 300_000 for at in opened]
    return Cost(name, 1e6 * seconds / ROWS, _bytes(spec), any(near), near.count(False))


def _bytes(spec: Any) -> float:
    detector = registry.load("river").create({"model": spec}, 1)
    rows = 200
    index = np.repeat(np.arange(SERIES), rows)
    ts_ms = np.tile(1_700_006_400_000 + 300_000 * np.arange(rows), SERIES)
    values = np.random.default_rng(1).normal(100, 1, len(index))
    tracemalloc.start()
    detector.reserve(SERIES)
    detector.step(index, ts_ms, values, np.ones(len(index), np.bool_))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return grown / SERIES


def page(costs: Sequence[Cost]) -> str:
    """The table as Markdown."""
    rows = [
        f"| {each.model} | {each.us_per_sample:,.0f} | {each.bytes_per_series / 1024:,.0f} "
        f"| {'yes' if each.found else 'no'} | {each.false} |"
        for each in costs
    ]
    specs = "\n".join(f"    {name}: {spec}" for name, spec in MODELS.items())
    return (
        "# river models\n\n"
        "Made by `python -m bench.river --write docs/river.md`. Any anomaly model of river is a detector by "
        "configuration:\n\n"
        "```yaml\nengine:\n  detectors:\n    - name: large\n    - name: rare\n    - name: river\n"
        "      weight: 0.5\n      params:\n        model: {HalfSpaceTrees: {n_trees: 25, height: 3, "
        "window_size: 250}}\n```\n\n"
        "They get features (value, difference, deviation, by choice lags and the time of day), a guard "
        "against values that would poison them, and our calibration, which puts scores that end at 1 and "
        "scores without end on one scale. Shallow trees find a spike, deep ones miss it; `n_std` of "
        "PredictiveAnomalyDetection is where it stops counting: give it 30. None is in the default "
        "configuration: on the Numenta benchmark they find less (see [quality](quality.md)) and cost a "
        "hundred times as much. For comparison, the default detectors take about 0.6 us a sample "
        "together.\n\n"
        "Without more a model forgets an old level only as it is made anew. With `drift` it adopts change "
        "points: when a drift detector of river finds one in the values, in units of their spread, the model "
        "is made from the newest 32 samples:\n\n"
        "```yaml\n      params:\n        model: {GaussianScorer: {window_size: 500, grace_period: 16}}\n"
        "        drift: {PageHinkley: {delta: 0.5, threshold: 30}}   # or {ADWIN: {delta: 0.0001}}\n```\n\n"
        "The default detectors adopt what lasts by rules of their own, in a microsecond. When a fitted model "
        "is refreshed for drift, ADWIN or Page-Hinkley decides as well: `refresh.rules[].drift`.\n\n"
        f"One series of {ROWS:,} samples of noise with one spike of 15 sigma; one core; memory with "
        f"{SERIES} series of 200 samples.\n\n"
        "| model | us of CPU a sample | KiB a series | finds the spike | other alerts |\n"
        "|---|---:|---:|---|---:|\n" + "\n".join(rows) + "\n\nThe specifications:\n\n" + specs + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.river", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to a file as well")
    options = parser.parse_args()
    text = page([measure(name, spec) for name, spec in MODELS.items()])
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
