"""AER: a network that predicts both ends of a window and reconstructs what is between, fitted on history.

Wong et al., "AER: Auto-Encoder with Regression for Time Series Anomaly Detection" (arXiv 2212.13558).
`detectors.aer_network` is the network and `detectors.aer_training` fits it, the only parts that need torch;
`detectors.aer_kernel` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self

import numpy as np
from numba import njit

from detectors.aer_kernel import WEIGHTS, WINDOW, unfold, unfolded
from detectors.arena import Arena
from detectors.batch import (
    Artifact,
    FitError,
    Grid,
    History,
    Tail,
    facts_of,
    interval_of,
    on_grid,
    require,
    series_of,
    surprise_of,
)
from detectors.protocol import F32, F64, I64, Bools, Scores
from detectors.rows import Rows
from detectors.tables import TablesDetector

_BEFORE: Final = WINDOW - 1
_LEAST: Final = 2 * WINDOW  # samples of history
_MOST_GAPS: Final = 0.5  # of a window that is learned
_LIMIT: Final = 1e37
_FAR = np.float32(20.0)  # scaled values are cut here: history is within 1
_REVERSE: Final = 0.25  # share of the error backwards in the evidence

RECENT: Final = np.dtype([("learned", "u4"), ("ring", "f8", (_BEFORE,))])
MODEL: Final = np.dtype(
    [
        ("low", "f8"),  # value that is -1
        ("half", "f8"),  # and the distance from there to 0
        ("forward", "f8"),  # mean errors on the history
        ("reverse", "f8"),
        ("reach", "f8"),  # of the band, in scaled units
        ("middle", "f8"),
        ("high", "f8"),
        ("excess", "f8"),
    ]
)


class Params(NamedTuple):
    """``epochs`` at most; ``max_windows`` of the history, evenly spread; ``stack`` series are fitted at a
    time, on ``device`` (``cpu``, ``cuda`` or ``cuda:N``).
    """

    epochs: int = 35
    max_windows: int = 4096
    stack: int = 16
    device: str = "cpu"

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Params:
        if unknown := sorted(set(params) - set(cls._fields)):
            raise ValueError(f"aer has no parameter {unknown[0]!r}; it has {', '.join(cls._fields)}")
        made = cls(**params)
        limits = {"epochs": (1, 1000), "max_windows": (WINDOW, 100_000), "stack": (1, 4096)}
        for name, (least, most) in limits.items():
            value = getattr(made, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"aer: {name} is a whole number from {least} to {most}, not {value!r}")
        if not isinstance(made.device, str) or made.device.split(":")[0] not in {"cpu", "cuda"}:
            raise ValueError(f"aer: device is cpu, cuda or cuda:N, not {made.device!r}")
        return made


class Prepared(NamedTuple):
    """A history as the network sees it: in [-1, 1], means where there was nothing."""

    scaled: F32
    starts: I64  # of the windows to learn
    low: float
    half: float
    grid: Grid

    @classmethod
    def of(cls, history: History, max_windows: int, interval_ms: int = 0) -> Self:
        """Raises `FitError` where there is no window to learn."""
        ts_ms, values = series_of(history, _LEAST)
        grid = on_grid(ts_ms, values[:, None], interval_ms or interval_of(ts_ms))
        column = grid.values[:, 0]
        gaps = np.isnan(column)
        low, high = float(np.nanmin(column)), float(np.nanmax(column))
        if low == high:
            raise FitError("constant", f"all means of {grid.interval_ms} ms are {low:g}")
        half = 0.5 * (high - low)
        scaled = np.where(gaps, np.nanmean(column), column)
        missing = np.convolve(gaps, np.ones(WINDOW), "valid") if len(gaps) >= WINDOW else np.zeros(0)
        starts = np.flatnonzero(missing <= _MOST_GAPS * WINDOW)
        if len(starts) < WINDOW:
            raise FitError("too_little_history", f"{len(starts)} whole windows, at least {WINDOW} are needed")
        thinned = starts[np.linspace(0, len(starts) - 1, min(len(starts), max_windows)).astype(int)]
        return cls(((scaled - low) / half - 1.0).astype(np.float32), thinned, low, half, grid)

    @classmethod
    def tried(cls, history: History, max_windows: int, interval_ms: int = 0) -> Self | FitError:
        """As `of`, with the error as the answer."""
        try:
            return cls.of(history, max_windows, interval_ms)
        except FitError as error:
            return error

    def scaled_as(self, low: float, half: float) -> F32:
        """All values, in the scale of another history."""
        values = self.low + self.half * (self.scaled.astype(np.float64) + 1.0)
        return ((values - low) / half - 1.0).clip(-_FAR, _FAR).astype(np.float32)

    def windows(self) -> F32:
        """The windows to learn (n, 100)."""
        windows: F32 = self.scaled[self.starts[:, None] + np.arange(WINDOW)]
        return windows


class AerDetector(TablesDetector):
    """The error of the value that was predicted from the 98 before it, and of the first value of the window
    (99 samples ago) predicted backwards from those after it, one part in four; nothing later is looked at.

    Scale and threshold come from the history. A step is a sample, a gap is passed over. The band is the
    prediction and 99.8 % of the errors on the history. About 0.2 ms a sample; an artifact is 118 KB, a slot
    takes as much and 0.9 KB.
    """

    name: ClassVar[str] = "aer"
    version: ClassVar[int] = 1
    channels: ClassVar[Literal["one", "many"]] = "one"

    def __init__(self) -> None:
        self._recent, self._models, self._weights = Rows(RECENT), Rows(MODEL), Arena(np.float32)
        super().__init__(recent=self._recent, models=self._models, weights=self._weights)

    @classmethod
    def check(cls, params: Mapping[str, Any]) -> None:
        Params.read(params)

    @classmethod
    def fit(cls, params: Mapping[str, Any], history: History, seed: int) -> Artifact:
        (made,) = cls.fit_many(params, [history], seed)
        if isinstance(made, FitError):
            raise made
        return made

    @classmethod
    def fit_many(
        cls, params: Mapping[str, Any], histories: Sequence[History], seed: int
    ) -> list[Artifact | FitError]:
        """As `fit` for each history, up to rounding, many at a time; a `FitError` where there is no model."""
        from detectors.aer_training import Scaled, train  # noqa: PLC0415  # torch: workers do without

        read = Params.read(params)
        prepared = [Prepared.tried(each, read.max_windows) for each in histories]
        usable = [each for each in prepared if isinstance(each, Prepared)]
        given = [Scaled(each.scaled, each.starts) for each in usable]
        weights = iter(train(given, read.epochs, seed, read.stack, read.device))
        return [
            each if isinstance(each, FitError) else cls._artifact(each, next(weights)) for each in prepared
        ]

    @classmethod
    def _artifact(cls, prepared: Prepared, weights: F32) -> Artifact:
        windows = prepared.windows()
        off = np.abs(unfolded(weights, windows) - windows).astype(np.float64)
        forward, reverse = off[:, -1], off[:, 0]
        means = {"forward": float(forward.mean()) + 1e-9, "reverse": float(reverse.mean()) + 1e-9}
        evidence = (1.0 - _REVERSE) * forward / means["forward"] + _REVERSE * reverse / means["reverse"]
        facts = {"low": prepared.low, "half": prepared.half, "reach": float(np.quantile(forward, 0.998))}
        return Artifact({"weights": weights}, facts_of(cls, **facts, **means, **Tail.of(evidence)._asdict()))

    def adopt(self, slot: int, artifact: Artifact) -> None:
        require(self, artifact)
        weights = artifact.arrays["weights"]
        if weights.shape != (WEIGHTS,):
            raise ValueError(f"artifact of aer with weights {weights.shape}, not ({WEIGHTS},)")
        self._weights.put(slot, weights)
        for name in MODEL.names or ():
            self._models.array[slot][name] = artifact.facts[name]

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        del ts_ms  # a step is a sample
        out = np.full((4, len(slots)), np.nan, np.float32)
        _step(
            self._recent.array, self._models.array, self._weights.data, self._weights.where,
            slots, values.clip(-_LIMIT, _LIMIT), learn, out,
        )  # fmt: skip
        surprise, expected, lower, upper = out
        return Scores(surprise, expected, lower, upper, ~np.isnan(surprise))


@njit(cache=True, nogil=True, inline="always")
def _scaled(x: float, model: Any) -> Any:
    return min(max(np.float32((x - model.low) / model.half - 1.0), -_FAR), _FAR)


@njit(cache=True, nogil=True, inline="always")
def _value(scaled: float, model: Any) -> Any:
    return np.float32(min(max(model.low + model.half * (scaled + 1.0), -3e38), 3e38))


@njit(cache=True, nogil=True)
def _step(rows, models, weights, places, slots, values, learn, out):  # type: ignore[no-untyped-def]
    window, said = np.empty(WINDOW, np.float32), np.empty(WINDOW, np.float32)
    for i in range(slots.shape[0]):
        slot = slots[i]
        row, place = rows[slot], places[slot]
        if place.length > 0 and row.learned >= _BEFORE:
            model = models[slot]
            for back in range(_BEFORE):
                window[back] = _scaled(row.ring[(np.int64(row.learned) + back) % _BEFORE], model)
            window[_BEFORE] = _scaled(values[i], model)
            unfold(weights[place.start : place.start + place.length], window, said)
            forward = abs(float(said[_BEFORE]) - float(window[_BEFORE])) / model.forward
            reverse = abs(float(said[0]) - float(window[0])) / model.reverse
            evidence = (1.0 - _REVERSE) * forward + _REVERSE * reverse
            out[0, i] = surprise_of(evidence, model.middle, model.high, model.excess)
            out[1, i] = _value(said[_BEFORE], model)
            out[2, i] = _value(said[_BEFORE] - model.reach, model)
            out[3, i] = _value(said[_BEFORE] + model.reach, model)
        if learn[i]:
            row.ring[np.int64(row.learned) % _BEFORE] = values[i]
            # Far beyond the ring the count goes on in its last rounds: the place stays, and it never wraps.
            at = row.learned + 1
            row.learned = np.uint32(at if at < 1_000_000 * _BEFORE else at - _BEFORE)
