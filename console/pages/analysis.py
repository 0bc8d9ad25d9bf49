"""What kind of series this is: correlation, period, seasonal parts, stationarity (statsmodels)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa.seasonal import seasonal_decompose
from statsmodels.tsa.stattools import acf, adfuller, kpss

from stream.refresh.frames import Frame

Values = NDArray[np.float64]

MAX_POINTS: Final = 3_000
"""Means of so many stretches are analysed: periods of hours and days survive it, and it takes no seconds."""

MIN_POINTS: Final = 50
SIGNIFICANT: Final = 0.05
_HIGH: Final = 0.8


class Regular(NamedTuple):
    """A series at a fixed interval, its gaps filled by straight lines."""

    ts_ms: NDArray[np.int64]
    values: Values
    step_ms: int


class Autocorrelation(NamedTuple):
    """``values[k]`` at a lag of k steps; within ``bound`` it may be chance. ``period`` is the lag of the
    first high peak outside it, None without one.
    """

    values: Values
    bound: float
    period: int | None


class Parts(NamedTuple):
    trend: Values
    seasonal: Values
    rest: Values
    strength: float


class Stationarity(NamedTuple):
    """p-values: of the Dickey-Fuller test for a unit root, and of the KPSS test for a constant level."""

    adf: float
    kpss: float

    @property
    def verdict(self) -> str:
        rejects_root, rejects_level = self.adf < SIGNIFICANT, self.kpss < SIGNIFICANT
        if rejects_root and not rejects_level:
            return "stationary"
        if not rejects_root and rejects_level:
            return "wandering"
        return "trend" if rejects_root else "unclear"


def correlations(columns: Mapping[str, Values]) -> Values:
    """Spearman's, of each pair of columns where both have a value; NaN for a constant one."""
    ranked = pd.DataFrame(dict(columns)).corr(method="spearman", min_periods=MIN_POINTS)
    return np.asarray(ranked.to_numpy(), np.float64)


def regular(frame: Frame, name: str) -> Regular | None:
    """Means over equal stretches; None with fewer than `MIN_POINTS` of them."""
    values = frame.columns[name]
    there = np.isfinite(values)
    ts_ms, values = frame.ts_ms[there], values[there]
    if len(ts_ms) < MIN_POINTS:
        return None
    usual = int(np.median(np.diff(ts_ms)))
    span = int(ts_ms[-1] - ts_ms[0])
    step = usual * max(1, -(-span // (usual * MAX_POINTS)))
    bins = (ts_ms - ts_ms[0]) // step
    count = int(bins[-1]) + 1
    sums, many = np.bincount(bins, values, count), np.bincount(bins, minlength=count)
    filled = np.flatnonzero(many)
    means = np.interp(np.arange(count), filled, sums[filled] / many[filled])
    return (
        Regular(ts_ms[0] + step * np.arange(count, dtype=np.int64), means, step)
        if count >= MIN_POINTS
        else None
    )


def autocorrelation(series: Regular) -> Autocorrelation | None:
    """Up to lags of half the series; None for a constant one."""
    if np.ptp(series.values) == 0:
        return None
    lags = len(series.values) // 2
    values = np.asarray(acf(series.values, nlags=lags, fft=True), np.float64)
    bound = 1.96 / float(np.sqrt(len(series.values)))
    return Autocorrelation(values, bound, _period(values, bound))


def _period(values: Values, bound: float) -> int | None:
    """The top of the first high hump after the first fall below zero: what falls slowly has no period.

    A day repeats after two as well, often a little better, so it is the first of the high ones; noise makes
    many small peaks on one hump, so it is the top of it.
    """
    below = np.flatnonzero(values < 0)
    if not len(below):
        return None
    after = values[below[0] :]
    top = after.max()
    if top <= bound:
        return None
    edges = np.flatnonzero(np.diff(np.concatenate(([False], after > top / 2, [False]))))
    humps = [begin + int(np.argmax(after[begin:end])) for begin, end in edges.reshape(-1, 2).tolist()]
    return int(below[0]) + next(at for at in humps if after[at] >= _HIGH * top)


def parts(series: Regular, period: int) -> Parts | None:
    """Trend, seasonal part and rest; None with fewer than two periods. ``strength``: Hyndman's, 0 to 1."""
    if period < 2 or len(series.values) < 2 * period:
        return None
    found = seasonal_decompose(series.values, period=period, extrapolate_trend=period)
    rest, seasonal = np.asarray(found.resid, np.float64), np.asarray(found.seasonal, np.float64)
    both = float(np.var(rest + seasonal))
    strength = max(0.0, 1 - float(np.var(rest)) / both) if both else 0.0
    return Parts(np.asarray(found.trend, np.float64), seasonal, rest, strength)


def stationarity(series: Regular) -> Stationarity | None:
    """None for a constant series."""
    if np.ptp(series.values) == 0:
        return None
    with warnings.catch_warnings():
        # A p-value outside of the test's table is told as its end.
        warnings.simplefilter("ignore", InterpolationWarning)
        return Stationarity(
            float(adfuller(series.values, maxlag=24, autolag=None, result_object=False)[1]),
            float(kpss(series.values, regression="c", nlags="auto", result_object=False)[1]),
        )
