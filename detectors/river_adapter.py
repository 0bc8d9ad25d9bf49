"""Any river anomaly model as a detector: one model a series, on features of its newest samples.

River models are Python objects without a state that could be written as arrays, so the state here is the
history that makes them. A model is made anew every ``remake_every`` samples from the newest ``memory`` of
them, and learns each sample after that; what it says is thereby a function of at most ``memory +
remake_every`` samples, which is what a snapshot holds. After a restore a series learns them again when it is
next seen. A model may be told to adopt change points: when a drift detector of river finds one in the values,
the model is made anew from the newest samples alone, and knows nothing of what was before.
The price: with the defaults each sample is learned about three times, and a batch pauses for a remake.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import F64, I64, Bools, Scores, State
from detectors.river_model import build, build_drift, is_supervised, says_at_most_1
from detectors.rows import grown

_LAGS: Final = 5
_DAY_MS: Final = 86_400_000
_LIMIT: Final = 1e100  # values beyond it are taken as this, so that sums stay finite
_TWO_PI: Final = 2.0 * math.pi
_DEFAULT: Final = {"HalfSpaceTrees": {"n_trees": 25, "height": 3, "window_size": 250}}
_START: Final = 0.9  # quantile of the model's scores where its tail begins
_CLIP: Final = 5.0  # medians that one score counts at most in it
_MEASURED: Final = 32  # samples between two looks at that tail
_LEAST_EXCESS: Final = 0.05  # mean excess of that tail, in distances from the median to where it begins
_LN10: Final = math.log(10.0)
_ADOPTED: Final = 32  # samples that make the model after a change point; at most as many are of before
_DRIFT_LIMIT: Final = 10.0  # spreads: one sample is no change point


class Params(NamedTuple):
    """Parameters: the model (see `detectors.river_model`), how much history makes it, and what it is of.

    ``target`` (value or difference) is what a model scores that takes a target. ``lags`` adds as many values
    before the newest to the features of models that score features: they find shapes, and fewer spikes, for
    most of what they look at is then usual. ``time_of_day`` adds sine and
    cosine of the day to the features: only for models that remember more than a day, to others every hour
    is new. ``drift`` is a detector of change of `river.drift`, which sees the values in units of their
    spread, to 10: ``{ADWIN: {delta: 0.0001}}`` or ``{PageHinkley: {delta: 0.5, threshold: 30}}``.
    """

    model: Any = _DEFAULT
    memory: int = 512
    remake_every: int = 256
    warm_up: int = 128
    target: str = "value"
    lags: int = 0
    time_of_day: bool = False
    drift: Any = None

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Params:
        if unknown := sorted(set(params) - set(cls._fields)):
            raise ValueError(f"river has no parameter {unknown[0]!r}; it has {', '.join(cls._fields)}")
        made = cls(**params)
        limits = (("memory", 32, 100_000), ("remake_every", 16, 100_000), ("warm_up", 16, 100_000))
        for name, least, most in (*limits, ("lags", 0, _LAGS)):
            value = getattr(made, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"river: {name} is a whole number from {least} to {most}, not {value!r}")
        if made.target not in {"value", "difference"}:
            raise ValueError(f"river: target is value or difference, not {made.target!r}")
        if not isinstance(made.time_of_day, bool):
            raise ValueError(  # noqa: TRY004 (a bad configuration is one kind of error)
                f"river: time_of_day is true or false, not {made.time_of_day!r}"
            )
        return made

    @property
    def ring(self) -> int:
        return self.memory + self.remake_every + _LAGS


class RiverDetector:
    """A model of `river.anomaly` a series, guarded and put on the scale of surprise.

    Features: for models that score features, value, difference and deviation from the last five, squashed to
    [0, 1] around the median of the history, each also as distance from the middle (a linear model sees two
    sides no other way), and lags by choice; for models that score a target (``GaussianScorer``,
    ``PredictiveAnomalyDetection``), the target is the value in units of its spread and the features are lags
    and time of day. The surprise is that of an exponential tail above the 90 % quantile of what the model
    said of the history, so that scores that end at 1 and scores without end come out alike.
    A still series does not surprise until it moves. No band. Samples that may not be learned are scored by
    a copy, for some models change when they score. A sample costs 20 to 500 us, a series 12 KB and its model.
    """

    name: ClassVar[str] = "river"
    version: ClassVar[int] = 2

    def __init__(self, params: Params, seed: int) -> None:
        self._params, self._seed = params, seed
        self._supervised = is_supervised(build(params.model, seed))
        if params.drift is not None:
            build_drift(params.drift, seed)  # a mistake is told now
        self._live: dict[int, _Live] = {}
        self._ts_ms: I64 = np.zeros((0, params.ring), np.int64)
        self._values: F64 = np.zeros((0, params.ring), np.float64)
        self._learned: I64 = np.zeros(0, np.int64)
        self._made: I64 = np.zeros((0, 2), np.int64)  # when the model was made, and from which sample on
        self._slots = 0

    @classmethod
    def create(cls, params: Mapping[str, Any], seed: int) -> Self:
        return cls(Params.read(params), seed)

    def reserve(self, slots: int) -> None:
        self._ts_ms = grown(self._ts_ms, slots)
        self._values = grown(self._values, slots)
        self._learned = grown(self._learned, slots)
        self._made = grown(self._made, slots)
        self._slots = max(self._slots, slots)

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        surprise = np.full(len(slots), np.nan, np.float32)
        for i, (slot, at, value, learned) in enumerate(
            zip(
                slots.tolist(),
                ts_ms.tolist(),
                values.clip(-_LIMIT, _LIMIT).tolist(),
                learn.tolist(),
                strict=True,
            )
        ):
            live = self._live.get(slot) or self._revive(slot)
            if live is not None:
                judge = live if learned else copy.deepcopy(live)
                surprise[i] = judge.score(at, value)
            if learned:
                self._learn(slot, live, at, value)
        nothing = np.full(len(slots), np.nan, np.float32)
        return Scores(surprise, nothing, nothing.copy(), nothing.copy(), ~np.isnan(surprise))

    def _learn(self, slot: int, live: _Live | None, ts_ms: int, value: float) -> None:
        count = int(self._learned[slot])
        place = count % self._params.ring
        self._ts_ms[slot, place], self._values[slot, place] = ts_ms, value
        self._learned[slot] = count + 1
        count += 1
        made_at, first = self._made[slot].tolist()
        if live is not None:
            live.learn(ts_ms, value)
            if live.drifted:
                first = max(count - _ADOPTED, 0)
            elif count - made_at < self._params.remake_every:
                return
        elif count < self._params.warm_up:
            return
        self._made[slot] = count, max(first, count - self._params.memory)
        self._live[slot] = self._make(slot)

    def _revive(self, slot: int) -> _Live | None:
        """Make the model of a restored series again."""
        if self._made[slot, 0] == 0:
            return None
        live = self._live[slot] = self._make(slot)
        for at, value in self._history(slot, int(self._made[slot, 0]), int(self._learned[slot])):
            live.score(at, value)
            live.learn(at, value)
        return live

    def _make(self, slot: int) -> _Live:
        """A new model that has learned what `_made` says."""
        count, start = self._made[slot].tolist()
        history = self._history(slot, start, count)
        lags = [value for _, value in self._history(slot, max(start - _LAGS, 0), start)] or [history[0][1]]
        model = build(self._params.model, self._seed)
        drift = build_drift(self._params.drift, self._seed) if self._params.drift is not None else None
        return _Live(model, self._supervised, self._params, history, lags, drift)

    def _history(self, slot: int, start: int, stop: int) -> list[tuple[int, float]]:
        places = np.arange(start, stop) % self._params.ring
        return list(zip(self._ts_ms[slot, places].tolist(), self._values[slot, places].tolist(), strict=True))

    def evict(self, slots: I64) -> None:
        self._learned[slots] = 0
        self._made[slots] = 0
        self._ts_ms[slots] = 0
        self._values[slots] = 0.0
        for slot in slots.tolist():
            self._live.pop(slot, None)

    def snapshot(self) -> State:
        return {
            "ts_ms": self._ts_ms[: self._slots],
            "values": self._values[: self._slots],
            "learned": self._learned[: self._slots],
            "made": self._made[: self._slots],
        }

    @classmethod
    def restore(cls, params: Mapping[str, Any], seed: int, state: Mapping[str, NDArray[Any]]) -> Self:
        detector = cls.create(params, seed)
        detector.load(state)
        return detector

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot; raises ``ValueError`` when it holds another length of history."""
        if state["values"].shape[1] != self._params.ring:
            raise ValueError(f"river: snapshot holds {state['values'].shape[1]} samples a series")
        self._ts_ms, self._values = state["ts_ms"].copy(), state["values"].copy()
        self._learned, self._slots = state["learned"].copy(), len(state["learned"])
        self._made = state["made"].copy()
        self._live.clear()


class _Live:
    """The model of one series, its scales, and the lags before the next sample."""

    def __init__(
        self,
        model: Any,
        supervised: bool,
        params: Params,
        history: list[tuple[int, float]],
        lags: list[float],
        drift: Any,
    ) -> None:
        values = np.array([value for _, value in history])
        self._model, self._supervised, self._params = model, supervised, params
        self._at_most_1 = says_at_most_1(model)
        self._middle = float(np.median(values))
        distance = np.abs(values - self._middle)
        usual = float(np.mean(np.minimum(distance, np.quantile(distance, 0.95))))
        self._still = usual == 0.0
        self._scale = max(usual, 1e-3 * abs(self._middle), 1e-100)
        self._lags = ([lags[0]] * _LAGS + lags)[-_LAGS:]
        self._typical, self._start, self._excess, self._learned = 0.0, 1.0, 1.0, 0
        self._said: deque[float] = deque(maxlen=max(len(history) // 2, 16))
        self._newest = 0.0
        self._drift = drift
        for at, value in history:
            self.score(at, value)
            self.learn(at, value)
        self.drifted = False  # what it was made from holds no change point that it does not know
        self._measure()

    def _measure(self) -> None:
        """Where the tail of what the model says begins, and how far it goes: models that learn on drift."""
        said = np.array(self._said)
        self._typical, self._start = np.quantile(said, (0.5, _START)).tolist()
        beyond = said[said > self._start] - self._start
        beyond = np.minimum(beyond, _CLIP * np.median(beyond)) if len(beyond) else np.zeros(1)
        least = max(_LEAST_EXCESS * (self._start - self._typical), 1e-3 * abs(self._typical), 1e-6)
        self._excess = max(float(beyond.mean()), least)

    def score(self, ts_ms: int, value: float) -> float:
        """Surprise of the next sample."""
        raw = self._newest = self._raw(ts_ms, value)
        if (self._still and value == self._middle) or self._start <= self._typical:
            return 0.0  # nothing moved, or the model has only ever said one thing (HalfSpaceTrees at first)
        if raw > self._start:
            return 1.0 + (raw - self._start) / (self._excess * _LN10)
        return max((raw - self._typical) / (self._start - self._typical), 0.0)

    def learn(self, ts_ms: int, value: float) -> None:
        """Take in the sample that was scored last."""
        self._said.append(self._newest)
        self._learned += 1
        if self._learned % _MEASURED == 0:
            self._measure()
        if self._drift is not None:
            self._drift.update(min(max(self._scaled(value), -_DRIFT_LIMIT), _DRIFT_LIMIT))
            self.drifted = self._drift.drift_detected
        x, y = self._features(ts_ms, value)
        if self._supervised:
            self._model.learn_one(x, y)
        else:
            self._model.learn_one(x)
        self._lags = [*self._lags[1:], value]

    def _raw(self, ts_ms: int, value: float) -> float:
        """What the model says; 0 where it cannot: before a forecaster is fitted, on a spread of 0."""
        x, y = self._features(ts_ms, value)
        try:
            raw = float(self._model.score_one(x, y) if self._supervised else self._model.score_one(x))
        except (ArithmeticError, LookupError):
            return 0.0
        if self._at_most_1:
            return -math.log10(max(1.0 - raw, 1e-16)) if raw <= 1.0 else 0.0
        return min(max(raw, -1e12), 1e12) if math.isfinite(raw) else 0.0

    def _features(self, ts_ms: int, value: float) -> tuple[dict[str, float], float]:
        phase = _TWO_PI * (ts_ms % _DAY_MS) / _DAY_MS
        y = self._scaled(value)
        lags = [self._scaled(lag) for lag in self._lags]
        x = {"sin": math.sin(phase), "cos": math.cos(phase)} if self._params.time_of_day else {}
        if self._supervised:
            target = y - lags[-1] if self._params.target == "difference" else y
            return x | {f"lag_{i}": lag for i, lag in enumerate(reversed(lags), 1)}, target
        x = {name: 0.5 + 0.5 * part for name, part in x.items()}
        now = {
            "value": _unit(y),
            "difference": _unit(y - lags[-1]),
            "deviation": _unit(y - sum(lags) / _LAGS),
        }
        x |= {f"{name}_far": 2.0 * abs(part - 0.5) for name, part in now.items()}
        x |= {f"lag_{i}": _unit(lag) for i, lag in enumerate(reversed(lags[_LAGS - self._params.lags :]), 1)}
        return x, y

    def _scaled(self, value: float) -> float:
        return min(max(value / self._scale - self._middle / self._scale, -1e3), 1e3)


def _unit(z: float) -> float:
    """Squash to [0, 1]: fine near the middle, at the edge from 17 spreads on."""
    return min(max(0.5 + math.asinh(z) / 7.0, 0.0), 1.0)
