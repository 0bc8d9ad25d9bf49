"""What one model finds in a range of samples: the work behind `/find`, done by the trainers."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import registry
from detectors.batch import Artifact, FitError, History, interval_of, is_batch
from detectors.engine import Engine
from detectors.ensemble import Ensemble, band
from detectors.protocol import Samples
from detectors.tails import tail_for
from schemas import config
from schemas.find import FindTask, Fitted, Found, Interval, IntervalsFound, PointsFound
from stream.errors import UserError
from stream.refresh.frames import Frame

DEFAULT: Final = "default"
"""The detectors of the configuration together, as the worker runs them."""

_ALIASES: Final = {
    "autoencoder": "aer",
    "auto_encoder": "aer",
    "fbprophet": "prophet",
    "isolation_forest": "iforest",
    "multivariate": "multidimensional",
}
_CHUNK: Final = 20_000


def models() -> list[str]:
    """Every name that can be asked for."""
    return [DEFAULT, *registry.names()]


def canonical(name: str) -> str:
    """Our name of a model, as of ``Isolation Forest``; raises `UserError` that lists them."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    plain = _ALIASES.get(plain, plain)
    if plain not in models():
        raise UserError(f"unknown model {name!r}: there is {', '.join(models())}")
    return plain


def takes_many(model: str) -> bool:
    """Whether it looks at several columns at once."""
    return model != DEFAULT and getattr(registry.load(model), "channels", "one") == "many"


def task(
    model: str,
    frame: Frame,
    columns: list[str],
    params: dict[str, Any],
    engine: config.Engine,
    fitted: Fitted | None = None,
) -> FindTask:
    """The question as it travels; ``fitted`` names the artifact to judge with."""
    return FindTask(
        model=model,
        ts_ms=frame.ts_ms.astype("<i8").tobytes(),
        columns={name: frame.columns[name].astype("<f8").tobytes() for name in columns},
        params=params,
        engine=engine,
        fitted=fitted,
    )


def find(asked: FindTask, artifact: Artifact | None = None) -> Found:
    """Answer it; raises `UserError` or ``ValueError`` when the model cannot work on this.

    A model that is fitted judges with ``artifact``, the one that ``asked.fitted`` names, or without it is
    fitted on the samples themselves.
    """
    frame = Frame(
        np.frombuffer(asked.ts_ms, "<i8"),
        {name: np.frombuffer(column, "<f8") for name, column in asked.columns.items()},
    )
    if takes_many(asked.model):
        return _moments(asked, frame)
    (name, values), *others = frame.columns.items()
    if others:
        raise UserError(
            f"{asked.model} takes one column: give column_name, one of {', '.join(frame.columns)}"
        )
    if asked.model == "aer":
        return _intervals(asked, frame.ts_ms, values, artifact)
    return _points(asked, name, frame.ts_ms, values, artifact)


def _used(asked: FindTask, artifact: Artifact | None) -> str:
    return asked.fitted.artifact_id if asked.fitted is not None and artifact is not None else ""


def _intervals(
    asked: FindTask, ts_ms: NDArray[np.int64], values: NDArray[np.float64], artifact: Artifact | None
) -> IntervalsFound:
    """The stretches that AER finds in the way in which it was published."""
    from detectors.aer_offline import look_back, look_back_with  # noqa: PLC0415  # compiles for seconds

    history = History(ts_ms, values.reshape(-1, 1))
    if artifact is None:
        (found,) = look_back(asked.params, [history], asked.engine.seed)
    else:
        found = look_back_with(artifact, history)
    if isinstance(found, FitError):
        raise found
    times = found.ts_ms.tolist()
    return IntervalsFound(
        ts_ms=found.ts_ms.astype("<i8").tobytes(),
        value=_bytes(found.values),
        score=_bytes(found.score),
        intervals=[
            Interval(times[i.first], times[i.last], float(found.score[i.first : i.last + 1].mean()))
            for i in found.intervals
        ],
        artifact=_used(asked, artifact),
    )


def _moments(asked: FindTask, frame: Frame) -> PointsFound:
    """A word on each moment of several columns together, by a model fitted on the whole range."""
    engine, n = _engine(asked), len(frame)
    model = registry.load(asked.model)
    assert is_batch(model)  # noqa: S101  # or it would not take many
    values = np.stack(list(frame.columns.values()), axis=1)
    history = History(frame.ts_ms, values, tuple(frame.columns))
    params = engine.detectors[0].params
    detector = model.create(params, engine.seed)
    ensemble, tail = Ensemble([1.0], engine.level_half_life_samples), tail_for(detector, engine.alert_budget)
    for each in (detector, ensemble, tail):
        each.reserve(1)
    detector.adopt(0, model.fit(params, history, engine.seed))
    slots, learn = np.zeros(n, np.int64), np.ones(n, np.bool_)
    interval_ms = np.full(n, interval_of(frame.ts_ms), np.float32)
    said = detector.step(slots, frame.ts_ms, values, learn)
    scores = tail.scores(slots, said.surprise, said.ready, learn, interval_ms)
    verdict = ensemble.join(slots, frame.ts_ms, interval_ms, learn, scores[None], band([said]))
    nothing = _bytes(np.full(n, np.nan))
    shares = said.contributions if said.contributions is not None else np.full(values.shape, np.nan)
    return PointsFound(
        ts_ms=frame.ts_ms.astype("<i8").tobytes(),
        value=nothing,
        score=_bytes(verdict.score),
        level=_bytes(verdict.level),
        expected=nothing,
        lower=nothing,
        upper=nothing,
        anomaly=(verdict.score >= 1.0).astype(np.uint8).tobytes(),
        contributions={name: _bytes(share) for name, share in zip(frame.columns, shares.T, strict=True)},
    )


def _points(
    asked: FindTask,
    name: str,
    ts_ms: NDArray[np.int64],
    values: NDArray[np.float64],
    fitted: Artifact | None,
) -> PointsFound:
    """A word on each sample.

    An online detector learns as it goes: what it says of a sample depends on those before it alone. One that
    is fitted here has seen the whole range: this is for looking back.
    """
    engine = Engine(_engine(asked), config.Admission())
    artifact = fitted if fitted is not None else _fitted(asked, ts_ms, values)
    columns = []
    for t, v in zip(_chunks(ts_ms), _chunks(values), strict=True):
        columns.append(engine.process(Samples([name], np.zeros(len(v), np.int64), t, v)))
        if artifact is not None and len(columns) == 1:
            engine.adopt(name, asked.model, artifact)  # a series is there with its first sample
    joined = {
        field: np.concatenate([getattr(each, field) for each in columns])
        for field in ("ts_ms", "values", "score", "level", "expected", "lower", "upper", "anomaly_started_ms")
    }
    return PointsFound(
        ts_ms=joined["ts_ms"].astype("<i8").tobytes(),
        value=_bytes(joined["values"]),
        score=_bytes(joined["score"]),
        level=_bytes(joined["level"]),
        expected=_bytes(joined["expected"]),
        lower=_bytes(joined["lower"]),
        upper=_bytes(joined["upper"]),
        anomaly=(joined["anomaly_started_ms"] != 0).astype(np.uint8).tobytes(),
        artifact=_used(asked, fitted),
    )


def _fitted(asked: FindTask, ts_ms: NDArray[np.int64], values: NDArray[np.float64]) -> Artifact | None:
    model = None if asked.model == DEFAULT else registry.load(asked.model)
    if model is None or not is_batch(model):
        return None
    params = {name: value for name, value in asked.params.items() if name != "alert_budget"}
    return model.fit(params, History(ts_ms, values.reshape(-1, 1)), asked.engine.seed)


def _engine(asked: FindTask) -> config.Engine:
    params = dict(asked.params)
    budget = params.pop("alert_budget", asked.engine.alert_budget)
    if not isinstance(budget, int | float) or not 0 < budget <= 1000:
        raise UserError("alert_budget must be a number above 0: false alarms per series and day")
    detectors = asked.engine.detectors
    if asked.model != DEFAULT:
        detectors = [config.DetectorConfig(name=asked.model, params=params)]
    elif params:
        raise UserError(f"{DEFAULT} takes only alert_budget, not {', '.join(params)}")
    return msgspec.structs.replace(asked.engine, detectors=detectors, alert_budget=float(budget))


def _chunks(array: NDArray[Any]) -> list[NDArray[Any]]:
    """The first sample alone, then pieces: an engine does not care how its samples are cut."""
    return [array[:1], *(array[at : at + _CHUNK] for at in range(1, len(array), _CHUNK))]


def _bytes(array: NDArray[Any]) -> bytes:
    return array.astype("<f8").tobytes()
