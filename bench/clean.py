"""Series in which nothing is wrong, by construction: alerts on them are false, whatever anybody labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.datasets import LabelledSeries, data_folder

DAYS: Final = 30
SEEDS: Final = 4
_MINUTES: Final = DAYS * 1440
_START_MS: Final = 1_700_006_400_000  # a midnight


def synthetic() -> Iterator[LabelledSeries]:
    """A month by minute of each kind, with several seeds."""
    for kind, make in KINDS.items():
        for seed in range(SEEDS):
            yield unlabelled("synthetic", kind, f"{kind}-{seed}", make(np.random.default_rng(seed)))


def unlabelled(
    dataset: str, family: str, name: str, values: NDArray[np.float64], ts_ms: NDArray[np.int64] | None = None
) -> LabelledSeries:
    if ts_ms is None:
        ts_ms = _START_MS + 60_000 * np.arange(len(values), dtype=np.int64)
    return LabelledSeries(dataset, family, name, ts_ms, values, np.zeros(len(values), np.bool_))


def redlab(folder: str | Path | None = None) -> Iterator[LabelledSeries]:
    """A month of one production service; nobody labelled it, so its alerts are not all false."""
    path = data_folder(folder) / "redlab" / "telemetry.csv"
    header = path.open().readline().strip().split(",")
    ts = np.loadtxt(path, delimiter=",", skiprows=1, usecols=0, dtype="datetime64[ms]").astype(np.int64)
    values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(1, len(header)))
    for column, name in enumerate(header[1:]):
        yield unlabelled("redlab", "redlab", name, values[:, column], ts)


def _day() -> NDArray[np.float64]:
    return np.asarray(np.sin(2 * np.pi * np.arange(_MINUTES) / 1440.0))


def _noise(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(100.0, 5.0, _MINUTES)


def _daily(rng: np.random.Generator) -> NDArray[np.float64]:
    return 100.0 + 40.0 * _day() + rng.normal(0.0, 4.0, _MINUTES)


def _counts(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.poisson(3.0 + 2.0 * _day()).astype(np.float64)


def _wandering(rng: np.random.Generator) -> NDArray[np.float64]:
    """First-order autoregressive, with a memory of ten samples."""
    steps, values, level = rng.normal(0.0, 1.0, _MINUTES), np.empty(_MINUTES), 0.0
    for i, step in enumerate(steps.tolist()):
        level = 0.9 * level + step
        values[i] = 50.0 + level
    return values


def _heavy(rng: np.random.Generator) -> NDArray[np.float64]:
    """Response times: log-normal."""
    return np.asarray(0.2 * np.exp(0.6 * rng.normal(0.0, 1.0, _MINUTES)))


def _heavier(rng: np.random.Generator) -> NDArray[np.float64]:
    """Student's t with 4 degrees of freedom: its tail is a power."""
    return np.asarray(100.0 + rng.standard_t(4, _MINUTES))


def _ratio(rng: np.random.Generator) -> NDArray[np.float64]:
    """Share of 2,000 requests that succeeded, near 1."""
    return np.asarray(1.0 - rng.binomial(2000, 0.0005, _MINUTES) / 2000.0)


def _mostly_zero(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.poisson(0.02, _MINUTES).astype(np.float64)


KINDS: Final[dict[str, Callable[[np.random.Generator], NDArray[np.float64]]]] = {
    "noise": _noise,
    "daily cycle": _daily,
    "counts": _counts,
    "autoregressive": _wandering,
    "log-normal": _heavy,
    "t4": _heavier,
    "ratio": _ratio,
    "mostly zero": _mostly_zero,
}
