"""All metrics of one service at once: an Isolation Forest on each channel and on how they go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.batch import MAX_CHANNELS, Artifact, FitError, History, facts_of, require, surprise_of
from detectors.forest import Forests, Params, grow, raw
from detectors.protocol import F64, I64, Bools, Scores
from detectors.rows import Rows
from detectors.tables import TablesDetector

_RING: Final = 5
_FEATURES: Final = 3  # of a channel
_LEAST: Final = 200  # samples of history
_LIMIT: Final = 1e37
_FAR: Final = 1e6  # features are cut at so many spreads
_RIDGE: Final = 0.1  # of a sample each: keeps channels that are copies of each other apart
_TELLING: Final = 1.69897  # surprise from which contributions are worked out: 2 % of the history

RECENT: Final = np.dtype([("learned", "u4", (MAX_CHANNELS,)), ("ring", "f8", (MAX_CHANNELS, _RING))])
SCALE: Final = np.dtype(
    [
        ("channels", "u4"),
        ("middle", "f8", (MAX_CHANNELS,)),
        ("spread", "f8", (MAX_CHANNELS,)),
        ("by", "f8", (MAX_CHANNELS, MAX_CHANNELS)),  # what the others say of a channel, in spreads
        ("usual", "f8", (MAX_CHANNELS,)),  # spread of what they leave
        ("reach", "f8", (_FEATURES * MAX_CHANNELS,)),  # how far features go
    ]
)
_SCALES: Final = ("middle", "spread", "by", "usual", "reach")


class MultidimensionalDetector(TablesDetector):
    """How soon a random tree isolates a moment of a group of series.

    Features of each channel, in spreads of the history: its value, its distance from the mean of its last 5,
    and from what the other channels say of it (ridge regression). No tree cuts beyond its history, so that
    what goes beyond 99.8 % of that is added. A channel that is missing counts as usual.
    ``contributions`` of a channel is by how much the score falls without it, as a share of all such falls.
    At most 16 channels; a constant one has no say. About 20 us a sample, and as much for each channel of one
    beyond 98 % of the history; a slot takes 3 KB and its forest. No band. Parameters:
    `detectors.forest.Params`.
    """

    name: ClassVar[str] = "multidimensional"
    version: ClassVar[int] = 1
    channels: ClassVar[Literal["one", "many"]] = "many"

    def __init__(self) -> None:
        self._recent, self._scales, self._forests = Rows(RECENT), Rows(SCALE), Forests()
        super().__init__(recent=self._recent, scales=self._scales, forests=self._forests)

    @classmethod
    def check(cls, params: Mapping[str, Any]) -> None:
        Params.read(cls.name, params)

    @classmethod
    def fit(cls, params: Mapping[str, Any], history: History, seed: int) -> Artifact:
        read = Params.read(cls.name, params)
        values = _usable(history)
        scale = _scale(values)
        features = np.empty((len(values), _FEATURES * values.shape[1]), np.float32)
        _all_features(np.zeros(1, RECENT), scale, values, features)
        features = features[_RING:]
        arrays, facts = grow(features, read, seed)
        scale["reach"][0, : features.shape[1]] = arrays["reach"]
        for name in _SCALES:
            arrays[name] = scale[name][0]
        names = history.channels or tuple(f"channel_{c}" for c in range(values.shape[1]))
        text = msgspec.json.encode(names).decode()
        return Artifact(arrays, facts_of(cls, channels=values.shape[1], names=text, **facts))

    def adopt(self, slot: int, artifact: Artifact) -> None:
        require(self, artifact)
        self._forests.adopt(slot, artifact)
        row = self._scales.array[slot]
        row["channels"] = artifact.facts["channels"]
        for name in _SCALES:
            row[name] = artifact.arrays[name]

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        """``values`` has shape (n, channels), in the order of the history, NaN where a channel is missing.

        A moment without any channel is not judged.
        """
        del ts_ms
        surprise = np.empty(len(slots), np.float32)
        shares = np.full(values.shape, np.nan, np.float32)
        _step(  # type: ignore[call-arg]  # numba's types do not know unpacking
            self._recent.array, self._scales.array, *self._forests.arrays,
            slots, values.clip(-_LIMIT, _LIMIT), learn, surprise, shares,
        )  # fmt: skip
        expected, lower, upper = np.full((3, len(slots)), np.nan, np.float32)
        return Scores(surprise, expected, lower, upper, ~np.isnan(surprise), contributions=shares)


def _usable(history: History) -> F64:
    """The moments (n, channels) with any channel, clipped; raises `FitError` where they make no model."""
    values = history.columns
    if not 1 <= values.shape[1] <= MAX_CHANNELS:
        raise ValueError(f"multidimensional takes 1 to {MAX_CHANNELS} channels, not {values.shape[1]}")
    values = values[~np.isnan(values).all(axis=1)]
    if len(values) < _LEAST:
        raise FitError(
            "too_little_history", f"{len(values)} moments of history, at least {_LEAST} are needed"
        )
    if np.isinf(values).any():
        raise FitError("not_finite", "the history has infinite values")
    values = values.clip(-_LIMIT, _LIMIT)
    known = [column[~np.isnan(column)] for column in values.T]
    if all(len(column) == 0 or column.min() == column.max() for column in known):
        raise FitError("constant", "all channels of the history are constant")
    return values


def _scale(values: F64) -> NDArray[Any]:
    """Middle and spread of each channel, and what the others say of it."""
    channels = values.shape[1]
    scale = np.zeros(1, SCALE)
    scale["channels"], scale["spread"], scale["usual"] = channels, 1.0, 1.0
    standard = np.zeros_like(values)
    for c, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if not len(known):
            continue
        middle = float(np.median(known))
        spread = max(float(np.std(known)), 1e-300)
        scale["middle"][0, c], scale["spread"][0, c] = middle, spread
        standard[:, c] = np.nan_to_num((column - middle) / spread).clip(-_FAR, _FAR)
    for c in range(channels):
        others = np.flatnonzero(np.arange(channels) != c)
        x, y = standard[:, others].clip(-10, 10), standard[:, c].clip(-10, 10)  # outliers say little
        by = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(len(others)), x.T @ y)
        scale["by"][0, c, others] = by
        scale["usual"][0, c] = max(float(np.std(standard[:, c] - standard[:, others] @ by)), 1e-3)
    return scale


@njit(cache=True, nogil=True)
def _features(row, scale, values, without, out):  # type: ignore[no-untyped-def]
    """Features of a moment, as if channel ``without`` were missing; false when all are."""
    channels = np.int64(scale.channels)
    standard = np.zeros(MAX_CHANNELS)
    there = np.zeros(MAX_CHANNELS, np.bool_)
    for c in range(values.shape[0]):
        if c < channels and c != without and not np.isnan(values[c]):
            there[c] = True
            standard[c] = min(max((values[c] - scale.middle[c]) / scale.spread[c], -_FAR), _FAR)
    out[:] = np.float32(0.0)
    for c in range(channels):
        if not there[c]:
            continue
        known = min(int(row.learned[c]), _RING)
        recent = 0.0 if known > 0 else values[c]
        for back in range(known):
            recent += row.ring[c, back] / known
        said = 0.0
        for other in range(channels):
            said += scale.by[c, other] * standard[other]
        moved = (values[c] - recent) / scale.spread[c]
        out[_FEATURES * c] = np.float32(standard[c])
        out[_FEATURES * c + 1] = np.float32(min(max(moved, -_FAR), _FAR))
        apart = (standard[c] - said) / scale.usual[c]
        out[_FEATURES * c + 2] = np.float32(min(max(apart, -_FAR), _FAR))
    return there.any()


@njit(cache=True, nogil=True)
def _learn(row, values):  # type: ignore[no-untyped-def]
    for c in range(values.shape[0]):
        if c < MAX_CHANNELS and not np.isnan(values[c]):
            row.ring[c, np.int64(row.learned[c]) % _RING] = values[c]
            # Far beyond the ring the count goes on in its last rounds: the place stays, and it never wraps.
            at = np.int64(row.learned[c]) + 1
            row.learned[c] = np.uint32(at if at < 1_000_000 * _RING else at - _RING)


@njit(cache=True, nogil=True)
def _all_features(rows, scales, values, out):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        _features(rows[0], scales[0], values[i], -1, out[i])
        _learn(rows[0], values[i])


@njit(cache=True, nogil=True)
def _step(  # type: ignore[no-untyped-def]
    rows, scales, models, nodes, node_places, firsts, first_places, slots, values, learn, surprise, shares
):
    forest = models, nodes, node_places, firsts, first_places
    window = np.empty(_FEATURES * MAX_CHANNELS, np.float32)
    for i in range(slots.shape[0]):
        slot = slots[i]
        row, model, scale = rows[slot], models[slot], scales[slot]
        surprise[i] = np.nan
        if model.trees > 0 and row.learned.max() >= _RING and _features(row, scale, values[i], -1, window):
            said = raw(forest, slot, scale.reach, _FEATURES * np.int64(scale.channels), window)
            surprise[i] = surprise_of(said, model.middle, model.high, model.excess)
            if surprise[i] >= _TELLING:
                _contribute(forest, row, scale, slot, values[i], said, window, shares[i])
        if learn[i]:
            _learn(row, values[i])


@njit(cache=True, nogil=True)
def _contribute(forest, row, scale, slot, values, said, window, shares):  # type: ignore[no-untyped-def]
    """Fill the shares of the channels that are there."""
    total = 0.0
    for c in range(values.shape[0]):
        if c >= scale.channels or np.isnan(values[c]):
            continue
        rest = 0.0
        if _features(row, scale, values, c, window):
            rest = raw(forest, slot, scale.reach, _FEATURES * np.int64(scale.channels), window)
        shares[c] = np.float32(max(said - rest, 0.0))
        total += shares[c]
    for c in range(shares.shape[0]):
        if total > 0.0:
            shares[c] = np.float32(shares[c] / total)
