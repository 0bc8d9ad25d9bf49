"""River models from a specification: names and parameters as they stand in the configuration file.

A specification is a name (``HalfSpaceTrees``, or ``preprocessing.MinMaxScaler`` with its module), a map of
one name to parameters (``{HalfSpaceTrees: {n_trees: 25}}``), or a list of them, which is a pipeline. A
parameter that is itself a model is written the same way, with its module:
``{time_series.SNARIMAX: {p: 12, d: 0, q: 12}}``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

import river.anomaly
import river.base
import river.compose
import river.drift

_DOTTED: Final = re.compile(r"[a-z_]+(\.[a-z_]+)*\.[A-Z]\w*")


def build(spec: Any, seed: int) -> Any:
    """A new model; ``ValueError`` names what is unknown or impossible.

    Models that take a ``seed`` and are given none get this one, so that two builds are the same.
    """
    if isinstance(spec, list):
        if not spec:
            raise ValueError("river: a pipeline needs a model")
        steps = [build(each, seed) for each in spec]
        return steps[0] if len(steps) == 1 else river.compose.Pipeline(*steps)
    name, params = _named(spec)
    kind = _find(name)
    known = inspect.signature(kind).parameters
    if unknown := sorted(set(params) - set(known)):
        raise ValueError(f"river: {name} has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    made = {key: build(value, seed) if _is_model(value) else value for key, value in params.items()}
    if "seed" in known and made.get("seed") is None:
        made["seed"] = seed
    try:
        return kind(**made)
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"river: {name} refuses {params}: {error}") from error


def build_drift(spec: Any, seed: int) -> Any:
    """A new detector of change of `river.drift`, written as models are; ``ValueError`` for anything else."""
    name, params = _named(spec)
    made = build({name if "." in name else f"drift.{name}": params}, seed)
    if not isinstance(made, river.base.DriftDetector):
        raise ValueError(f"river: {name} detects no drift; use ADWIN, PageHinkley or KSWIN")  # noqa: TRY004
    return made


def is_supervised(model: Any) -> bool:
    """Whether the model scores a target given features (`score_one(x, y)`), rather than the features."""
    return isinstance(_scorer(model), river.base.SupervisedAnomalyDetector)


def says_at_most_1(model: Any) -> bool:
    """Whether all that is far reads nearly 1.0: how near is then what tells."""
    return isinstance(_scorer(model), river.anomaly.GaussianScorer | river.anomaly.HalfSpaceTrees)


def _scorer(model: Any) -> Any:
    """What scores at the end of a pipeline and inside a filter."""
    while isinstance(model, river.compose.Pipeline):
        model = list(model.steps.values())[-1]
    return getattr(model, "anomaly_detector", model)


def _named(spec: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, params = next(iter(spec.items()))
        if isinstance(name, str) and isinstance(params, Mapping | None):
            return name, params or {}
    raise ValueError(f"river: a model is a name, a map of one name to parameters, or a list, not {spec!r}")


def _is_model(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_model(each) for each in value)
    name = next(iter(value)) if isinstance(value, Mapping) and len(value) == 1 else value
    return isinstance(name, str) and _DOTTED.fullmatch(name) is not None


def _find(name: str) -> Any:
    """The class in `river.anomaly`, or in the module that the name says; only river's own models."""
    module, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"river.{module or 'anomaly'}"), last, None)
    except ImportError:
        found = None
    if not (inspect.isclass(found) and issubclass(found, river.base.Base)):
        here = [each for each in dir(river.anomaly) if each[0].isupper() and each != "base"]
        raise ValueError(f"river: there is no model {name!r}; river.anomaly has {', '.join(here)}")
    return found
