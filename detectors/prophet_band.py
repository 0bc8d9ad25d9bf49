"""Prophet as a table of what to expect: the trainer fits and forecasts, the worker looks up.

Taylor and Letham, "Forecasting at Scale" (2018). A step between two rows of the table is on the line between
them. Beyond the last row there is no judgement: a forecast that is too old is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.arena import Arena
from detectors.batch import Artifact, History, Tail, facts_of, interval_of, on_grid, require, series_of
from detectors.batch import surprise_of as _surprise_of
from detectors.calendar import clock_changes, public_holidays
from detectors.protocol import F64, I64, Bools, Scores
from detectors.rows import Rows
from detectors.tables import TablesDetector

TABLE: Final = np.dtype([("expected", "f4"), ("lower", "f4"), ("upper", "f4")])
MODEL: Final = np.dtype(
    [
        ("start_ms", "i8"),
        ("step_ms", "i8"),
        ("unit_middle", "f8"),  # the table is in spreads from the middle, so that float32 holds it
        ("unit_spread", "f8"),
        ("middle", "f8"),  # of the tail
        ("high", "f8"),
        ("excess", "f8"),
    ]
)
_LEAST: Final = 100  # samples of history
_DAY_MS: Final = 86_400_000
_MOST_ROWS: Final = 60_000  # of a table: 720 KB
_LIMIT: Final = 1e37
_LEAST_WIDTH: Final = 1e-6  # of the band on one side, in spreads

Seasonality = Literal["auto"] | bool | int


class Params(NamedTuple):
    """Those of Prophet by their names, with the defaults of its users who look for anomalies.

    ``trend`` beyond the history: ``hold`` keeps its median of the last day, for a trend with so many and so
    late changepoints does not extrapolate (on `examples/redlab` residuals of the following week are 2 to 80
    times those of the history with ``follow``, 1 to 3 times with ``hold``). ``uncertainty_samples`` 0 takes
    the band from residuals of the history. ``holidays`` is a country or a part of one (``DE``, ``US-CA``),
    all of whose holidays have one common effect, for a history of weeks has few of them; ``timezone`` is
    where days and hours are counted. Of a history of more than ``max_samples`` means are fitted.
    ``horizon_ms`` is how far beyond the history the table goes: more than the time between two refreshes.
    Rows of the table are ``table_step_ms`` apart, or the interval of the series if that is longer.
    """

    interval_width: float = 0.999
    changepoint_range: float = 0.99
    changepoint_prior_scale: float = 0.5
    n_changepoints: int = 25
    growth: str = "linear"
    trend: str = "hold"
    seasonality_mode: str = "additive"
    seasonality_prior_scale: float = 10.0
    holidays_prior_scale: float = 10.0
    yearly_seasonality: Seasonality = "auto"
    weekly_seasonality: Seasonality = "auto"
    daily_seasonality: Seasonality = "auto"
    holidays: str = ""
    timezone: str = "UTC"
    uncertainty_samples: int = 0
    max_samples: int = 10_080
    horizon_ms: int = 14 * _DAY_MS
    table_step_ms: int = 300_000

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Params:
        """Raises ``ValueError`` for a parameter that is unknown or impossible."""
        if unknown := sorted(set(params) - set(cls._fields)):
            raise ValueError(f"prophet has no parameter {unknown[0]!r}; it has {', '.join(cls._fields)}")
        made = cls(**params)
        for name, (least, most) in _RANGES.items():
            value = getattr(made, name)
            wanted = int if isinstance(cls._field_defaults[name], int) else int | float
            if isinstance(value, bool) or not isinstance(value, wanted) or not least <= value <= most:
                raise ValueError(f"prophet: {name} is a number from {least:g} to {most:g}, not {value!r}")
        for name, choices in _CHOICES.items():
            if getattr(made, name) not in choices:
                raise ValueError(f"prophet: {name} is {' or '.join(choices)}, not {getattr(made, name)!r}")
        for name in ("yearly_seasonality", "weekly_seasonality", "daily_seasonality"):
            value = getattr(made, name)
            if value != "auto" and (not isinstance(value, int) or not 0 <= value <= 100):
                raise ValueError(f"prophet: {name} is auto, true, false or an order to 100, not {value!r}")
        for name in ("holidays", "timezone"):
            if not isinstance(getattr(made, name), str):
                text = f"prophet: {name} is a text, not {getattr(made, name)!r}"
                raise ValueError(text)  # noqa: TRY004  # as for every other wrong parameter
        public_holidays(made.holidays)
        clock_changes(made.timezone)
        return made

    @property
    def of_prophet(self) -> dict[str, Any]:
        """Arguments of its constructor."""
        ours = {"trend", "holidays", "timezone", "max_samples", "horizon_ms", "table_step_ms"}
        return {name: value for name, value in self._asdict().items() if name not in ours}


_RANGES: Final = {
    "interval_width": (0.5, 0.99999),
    "changepoint_range": (0.1, 1.0),
    "changepoint_prior_scale": (1e-4, 100.0),
    "n_changepoints": (0, 500),
    "seasonality_prior_scale": (1e-3, 1000.0),
    "holidays_prior_scale": (1e-3, 1000.0),
    "uncertainty_samples": (0, 10_000),
    "max_samples": (100, 1_000_000),
    "horizon_ms": (1000, 3660 * _DAY_MS),
    "table_step_ms": (1, 30 * _DAY_MS),
}
_CHOICES: Final = {
    "growth": ("linear", "flat"),
    "trend": ("hold", "follow"),
    "seasonality_mode": ("additive", "multiplicative"),
}


class ProphetDetector(TablesDetector):
    """How far a sample is outside of the band that was forecast for its time.

    Evidence is the distance from the expected value in widths of the band on that side, as a tail
    probability of the history. About 0.02 us a sample; 12 bytes a row of the table, which goes from the first
    sample of the history (so that a past range can be judged) to the horizon: 145 KB for 28 days and 14 more.
    Parameters: `Params`.
    """

    name: ClassVar[str] = "prophet"
    version: ClassVar[int] = 1
    channels: ClassVar[Literal["one", "many"]] = "one"

    def __init__(self) -> None:
        self._models, self._forecasts = Rows(MODEL), Arena(TABLE)
        super().__init__(models=self._models, tables=self._forecasts)

    @classmethod
    def check(cls, params: Mapping[str, Any]) -> None:
        Params.read(params)

    @staticmethod
    def reach_ms(params: Mapping[str, Any]) -> int:
        """How long after its history a model still judges, for who plans refreshes."""
        return Params.read(params).horizon_ms

    @classmethod
    def fit(cls, params: Mapping[str, Any], history: History, seed: int) -> Artifact:
        read = Params.read(params)
        ts_ms, values = series_of(history, _LEAST)
        unit = _Unit.of(values)
        grid_ms = max(interval_of(ts_ms), -(-int(ts_ms[-1] - ts_ms[0]) // read.max_samples), 1)
        grid = on_grid(ts_ms, unit.apply(values)[:, None], grid_ms)
        known = ~np.isnan(grid.values[:, 0])
        times = grid.first_ms + grid_ms * np.arange(len(known))
        rows = _rows(int(ts_ms[0]), int(ts_ms[-1]), max(interval_of(ts_ms), read.table_step_ms), read)
        table = _forecast(read, unit, (times[known], grid.values[known, 0]), rows, seed)
        facts = {"start_ms": int(rows[0]), "step_ms": int(rows[1] - rows[0]), **unit._asdict()}
        model = np.zeros(1, MODEL)
        for name, fact in facts.items():
            model[name] = fact
        low = high = 0.0
        if not read.uncertainty_samples:
            share = (1.0 - read.interval_width) / 2.0
            low, high = np.quantile(_look_up(model, table, ts_ms, values)[1], (share, 1.0 - share))
        table["lower"] += min(low, -_LEAST_WIDTH)
        table["upper"] += max(high, _LEAST_WIDTH)
        tail = Tail.of(_look_up(model, table, ts_ms, values)[0])
        arrays: dict[str, NDArray[Any]] = {name: table[name].copy() for name in TABLE.names or ()}
        return Artifact(arrays, facts_of(cls, **facts, **tail._asdict(), trained_to_ms=int(ts_ms[-1])))

    def adopt(self, slot: int, artifact: Artifact) -> None:
        require(self, artifact)
        table = np.zeros(len(artifact.arrays["expected"]), TABLE)
        for name in TABLE.names or ():
            table[name] = artifact.arrays[name]
        self._forecasts.put(slot, table)
        for name in MODEL.names or ():
            self._models.array[slot][name] = artifact.facts[name]

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        del learn  # nothing is learned between two fits
        surprise = np.empty(len(slots), np.float32)
        band = np.empty((3, len(slots)), np.float32)
        _step(  # type: ignore[call-arg]  # numba's types do not know unpacking
            *self._arrays, slots, ts_ms, values.clip(-_LIMIT, _LIMIT), surprise, band
        )
        expected, lower, upper = band
        return Scores(surprise, expected, lower, upper, ~np.isnan(surprise))

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return self._models.array, self._forecasts.data, self._forecasts.where


class _Unit(NamedTuple):
    """Values as spreads from their middle."""

    unit_middle: float
    unit_spread: float

    @classmethod
    def of(cls, values: F64) -> _Unit:
        return cls(float(np.median(values)), max(float(np.std(values)), 1e-300))

    def apply(self, values: F64) -> F64:
        return (values - self.unit_middle) / self.unit_spread


def _rows(first_ms: int, last_ms: int, step_ms: int, read: Params) -> I64:
    """Times of the rows of the table, at least two of them."""
    end_ms = last_ms + read.horizon_ms
    step_ms = max(step_ms, -(-(end_ms - first_ms) // (_MOST_ROWS - 2)))
    return first_ms + step_ms * np.arange((end_ms - first_ms) // step_ms + 2, dtype=np.int64)


def _forecast(read: Params, unit: _Unit, samples: tuple[I64, F64], rows: I64, seed: int) -> NDArray[np.void]:
    """Fit and forecast; without ``uncertainty_samples`` the band has no width yet. Raises ``ValueError``."""
    import cmdstanpy  # noqa: PLC0415  # only a fit needs it, and it takes seconds
    from prophet import Prophet  # noqa: PLC0415  # as above

    times, values = samples
    # Its priors are in units of the largest value, so it gets the level and not the distance from the middle.
    level = unit.unit_middle / unit.unit_spread
    largest = float(np.abs(values + level).max())
    model = Prophet(**read.of_prophet, holidays=_holidays(read.holidays))
    with cmdstanpy.disable_logging(), _seeded(seed):
        try:
            model.fit(_frame(times, read.timezone, y=(values + level) / largest), seed=seed)
            found = model.predict(_frame(rows, read.timezone))
        finally:
            if model.stan_backend is not None:
                model.stan_backend.cleanup()  # its files would stay for the life of the process
    columns = {name: found[name].to_numpy(np.float64) for name in ("yhat", "trend", "multiplicative_terms")}
    moved = _moved(read, columns, rows, times)
    table = np.zeros(len(rows), TABLE)
    names = dict(zip(TABLE.names or (), ("yhat", "yhat_lower", "yhat_upper"), strict=True))
    for ours, theirs in names.items():
        column = found[theirs if read.uncertainty_samples else "yhat"].to_numpy(np.float64)
        table[ours] = (column + moved) * largest - level
    return table


def _moved(read: Params, columns: Mapping[str, F64], rows: I64, times: I64) -> F64:
    """What is added to a forecast so that its trend stays where it was on the last day."""
    trend, last_ms = columns["trend"], times[-1]
    moved = np.zeros(len(rows))
    if read.trend == "hold":
        after = rows > last_ms
        recent = (rows >= last_ms - _DAY_MS) & ~after
        held = np.median(trend[recent]) if recent.any() else trend[~after][-1]
        moved[after] = ((held - trend) * (1.0 + columns["multiplicative_terms"]))[after]
    return moved


def _frame(times: I64, timezone: str, **columns: F64) -> Any:
    import pandas as pd  # noqa: PLC0415  # only a fit needs it

    utc = pd.to_datetime(times, unit="ms", utc=True)
    return pd.DataFrame({"ds": utc.tz_convert(timezone).tz_localize(None), **columns})


def _holidays(country: str) -> Any:
    import pandas as pd  # noqa: PLC0415  # only a fit needs it

    days = public_holidays(country)
    return pd.DataFrame({"ds": pd.to_datetime(list(days), unit="D"), "holiday": "holiday"}) if days else None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Prophet draws from the common generator: it is put back as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _look_up(model: NDArray[np.void], table: NDArray[np.void], ts_ms: I64, values: F64) -> tuple[F64, F64]:
    """Of each sample of the history: distance in widths of the band, and residual in spreads."""
    distances, residuals = np.empty(len(ts_ms)), np.empty(len(ts_ms))
    _judge(model[0], table, ts_ms, values, distances, residuals)
    return distances, residuals


@njit(cache=True, nogil=True, inline="always")
def _between(one: Any, other: Any, share: float) -> Any:
    return one + share * (other - one)


@njit(cache=True, nogil=True)
def _row(model, table, start, length, ts_ms):  # type: ignore[no-untyped-def]
    """Expected, lower and upper in spreads; NaN outside of the table."""
    since = ts_ms - model.start_ms
    at = since // model.step_ms
    if since < 0 or at + 1 >= length:
        return np.nan, np.nan, np.nan
    share = (since - at * model.step_ms) / model.step_ms
    one, other = table[start + at], table[start + at + 1]
    return (
        _between(float(one.expected), float(other.expected), share),
        _between(float(one.lower), float(other.lower), share),
        _between(float(one.upper), float(other.upper), share),
    )


@njit(cache=True, nogil=True, inline="always")
def _distance(value: float, expected: float, lower: float, upper: float) -> Any:
    """In widths of the band on the side of the value."""
    if value >= expected:
        return (value - expected) / max(upper - expected, _LEAST_WIDTH)
    return (expected - value) / max(expected - lower, _LEAST_WIDTH)


@njit(cache=True, nogil=True)
def _judge(model, table, ts_ms, values, distances, residuals):  # type: ignore[no-untyped-def]
    for i in range(ts_ms.shape[0]):
        expected, lower, upper = _row(model, table, 0, table.shape[0], ts_ms[i])
        value = (values[i] - model.unit_middle) / model.unit_spread
        distances[i] = _distance(value, expected, lower, upper)
        residuals[i] = value - expected


@njit(cache=True, nogil=True)
def _step(models, tables, places, slots, ts_ms, values, surprise, band):  # type: ignore[no-untyped-def]
    for i in range(slots.shape[0]):
        slot = slots[i]
        surprise[i] = band[0, i] = band[1, i] = band[2, i] = np.nan
        if places[slot].length == 0:
            continue
        model = models[slot]
        expected, lower, upper = _row(model, tables, places[slot].start, places[slot].length, ts_ms[i])
        if np.isnan(expected):
            continue
        value = (values[i] - model.unit_middle) / model.unit_spread
        distance = _distance(value, expected, lower, upper)
        surprise[i] = _surprise_of(distance, model.middle, model.high, model.excess)
        band[0, i] = model.unit_middle + model.unit_spread * expected
        band[1, i] = model.unit_middle + model.unit_spread * lower
        band[2, i] = model.unit_middle + model.unit_spread * upper
