"""Isolation Forest on features of the newest window of a series: the forest is fitted, the window learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numba import njit

from detectors.batch import Artifact, History, facts_of, require, series_of, surprise_of
from detectors.forest import Forests, Params, grow, raw
from detectors.protocol import F32, F64, I64, Bools, Scores
from detectors.rows import Rows
from detectors.tables import TablesDetector

_RING: Final = 30
_FEATURES: Final = 6
_LEAST: Final = 200  # samples of history
_HOUR_MS: Final = 3_600_000
_LIMIT: Final = 1e37
_FAR: Final = 1e6  # features are cut at so many spreads

WINDOW: Final = np.dtype([("learned", "u4"), ("ring", "f8", (_RING,))])
SCALE: Final = np.dtype(
    [("middle", "f8"), ("spread", "f8"), ("hour", "f4", (24,)), ("reach", "f8", (_FEATURES,))]
)


class IsolationForestDetector(TablesDetector):
    """How soon a random tree isolates the window of a sample.

    Features, in units of the spread of the history: the value, the last step, the distance from the mean of
    the last 5 and of the last 30, the standard deviation of the last 10, and the distance from the median of
    its hour (UTC) in the history. No tree cuts beyond its history, so that what goes beyond 99.8 % of that is
    added. No band. About 15 us a sample; a week of 5-minute history is an artifact of
    0.7 MB, and a slot takes as much. Parameters: `detectors.forest.Params`.
    """

    name: ClassVar[str] = "iforest"
    version: ClassVar[int] = 2
    channels: ClassVar[Literal["one", "many"]] = "one"

    def __init__(self) -> None:
        self._windows, self._scales, self._forests = Rows(WINDOW), Rows(SCALE), Forests()
        super().__init__(windows=self._windows, scales=self._scales, forests=self._forests)

    @classmethod
    def check(cls, params: Mapping[str, Any]) -> None:
        Params.read(cls.name, params)

    @classmethod
    def fit(cls, params: Mapping[str, Any], history: History, seed: int) -> Artifact:
        read = Params.read(cls.name, params)
        ts_ms, values = series_of(history, _LEAST)
        scale = np.zeros(1, SCALE)
        middle = float(np.median(values))
        distance = np.abs(values - middle)
        spread = max(float(np.mean(np.minimum(distance, np.quantile(distance, 0.95)))), float(np.std(values)))
        scale["middle"], scale["spread"] = middle, max(spread, 1e-300)
        scale["hour"] = hourly(ts_ms, (values - middle) / scale["spread"])
        windows = np.empty((len(values), _FEATURES), np.float32)
        _windows(np.zeros(1, WINDOW), scale, ts_ms, values, windows)
        windows = windows[_RING:]
        arrays, facts = grow(windows, read, seed)
        arrays["hour"] = scale["hour"][0]
        facts |= {"value_middle": middle, "value_spread": float(scale["spread"][0])}
        return Artifact(arrays, facts_of(cls, **facts))

    def adopt(self, slot: int, artifact: Artifact) -> None:
        require(self, artifact)
        self._forests.adopt(slot, artifact)
        row = self._scales.array[slot]
        row["middle"], row["spread"] = artifact.facts["value_middle"], artifact.facts["value_spread"]
        row["hour"], row["reach"] = artifact.arrays["hour"], artifact.arrays["reach"]

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        surprise = np.empty(len(slots), np.float32)
        _step(  # type: ignore[call-arg]  # numba's types do not know unpacking
            self._windows.array, self._scales.array, *self._forests.arrays,
            slots, ts_ms, values.clip(-_LIMIT, _LIMIT), learn, surprise,
        )  # fmt: skip
        nothing = np.full((3, len(slots)), np.nan, np.float32)
        expected, lower, upper = nothing
        return Scores(surprise, expected, lower, upper, ~np.isnan(surprise))


def hourly(ts_ms: I64, values: F64) -> F32:
    """The median of each hour of the day (UTC), the common one for an hour without samples."""
    hour = (ts_ms // _HOUR_MS) % 24
    common = np.median(values)
    found = [np.median(values[hour == h]) if (hour == h).any() else common for h in range(24)]
    return np.array(found, np.float32)


@njit(cache=True, nogil=True, inline="always")
def _feature(distance: float, spread: float) -> Any:
    return np.float32(min(max(distance / spread, -_FAR), _FAR))


@njit(cache=True, nogil=True)
def _window(row, scale, ts_ms, x, out):  # type: ignore[no-untyped-def]
    """Features of a sample and the ring before it."""
    learned = np.int64(row.learned)
    last = row.ring[(learned - 1) % _RING] if learned > 0 else x
    few = many = 0.0
    total = (x - scale.middle) / scale.spread
    square = total * total
    for back in range(1, _RING + 1):
        value = row.ring[(learned - back) % _RING] if learned >= back else last
        if back <= 5:
            few += value / 5.0
        if back < 10:
            distance = (value - scale.middle) / scale.spread
            total += distance
            square += distance * distance
        many += value / _RING
    hour = (ts_ms // _HOUR_MS) % 24
    out[0] = _feature(x - scale.middle, scale.spread)
    out[1] = _feature(x - last, scale.spread)
    out[2] = _feature(x - few, scale.spread)
    out[3] = _feature(x - many, scale.spread)
    out[4] = _feature(np.sqrt(max(square / 10.0 - (total / 10.0) ** 2, 0.0)), 1.0)
    out[5] = _feature((x - scale.middle) / scale.spread - scale.hour[hour], 1.0)


@njit(cache=True, nogil=True, inline="always")
def _learn(row: Any, x: float) -> None:
    row.ring[np.int64(row.learned) % _RING] = x
    # Far beyond the ring the count goes on in its last rounds: the place stays, and it never wraps.
    row.learned = np.uint32(row.learned + 1 if row.learned < 1_000_000 * _RING else row.learned + 1 - _RING)


@njit(cache=True, nogil=True)
def _windows(rows, scales, ts_ms, values, out):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        _window(rows[0], scales[0], ts_ms[i], values[i], out[i])
        _learn(rows[0], values[i])


@njit(cache=True, nogil=True)
def _step(  # type: ignore[no-untyped-def]
    rows, scales, models, nodes, node_places, firsts, first_places, slots, ts_ms, values, learn, surprise
):
    forest = models, nodes, node_places, firsts, first_places
    window = np.empty(_FEATURES, np.float32)
    for i in range(slots.shape[0]):
        slot = slots[i]
        row, model = rows[slot], models[slot]
        surprise[i] = np.nan
        if model.trees > 0 and row.learned >= _RING:
            _window(row, scales[slot], ts_ms[i], values[i], window)
            said = raw(forest, slot, scales[slot].reach, _FEATURES, window)
            surprise[i] = surprise_of(said, model.middle, model.high, model.excess)
        if learn[i]:
            _learn(row, values[i])
