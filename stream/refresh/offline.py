"""One detector on a file, without Kafka: which, with which parameters, and with which model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import yaml

from detectors import registry
from detectors.batch import Artifact, BatchDetector, FitError, History, is_batch, pack, unpack
from schemas import config
from stream.errors import UserError
from stream.files.tables import parse_time
from stream.refresh.finding import DEFAULT, canonical


class Learner(NamedTuple):
    """A detector that is fitted, with parameters and seed."""

    detector: type[BatchDetector]
    params: Mapping[str, Any]
    seed: int

    def fit(self, ts_ms: Sequence[int], values: Sequence[float]) -> Artifact:
        """The model of these samples, in any order; raises `UserError` with the reason for none."""
        times, first = np.unique(np.array(ts_ms, np.int64), return_index=True)
        history = History(times, np.array(values, np.float64)[first].reshape(-1, 1))
        try:
            return self.detector.fit(self.params, history, self.seed)
        except FitError as error:
            raise UserError(f"{self.detector.name} has no model: {error}") from None


def alone(cfg: config.Config, name: str, params: Sequence[str]) -> config.Config:
    """The configuration with this detector and no other.

    Its parameters are those of the configuration, then ``params`` such as ``n_estimators=50``. Raises
    `UserError` for a name or a parameter that does not exist.
    """
    name = canonical(name)
    if name == DEFAULT:
        raise UserError("name one detector; without --detector the configured ones work together")
    configured = next((dict(d.params) for d in cfg.engine.detectors if d.name == name), {})
    chosen = configured | dict(_param(text) for text in params)
    try:
        registry.load(name).create(chosen, cfg.engine.seed)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from None
    only = config.DetectorConfig(name=name, params=chosen)
    engine = msgspec.structs.replace(cfg.engine, detectors=[only])
    return msgspec.structs.replace(cfg, engine=engine)


def is_fitted(cfg: config.Config) -> bool:
    """Whether the one detector of such a configuration is."""
    (only,) = cfg.engine.detectors
    return is_batch(registry.load(only.name))


def learner(cfg: config.Config) -> Learner:
    """How it is fitted; raises `UserError` where it is not, or one model takes several series."""
    (only,) = cfg.engine.detectors
    found = registry.load(only.name)
    if not is_batch(found):
        raise UserError(f"{only.name} learns as it goes: there is nothing to fit")
    if found.channels == "many":
        raise UserError(f"{only.name} is fitted on several series at once, and a column is one series")
    return Learner(found, only.params, cfg.engine.seed)


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--param {text}: write name=value, as n_estimators=50")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--param {text}: the value is not YAML") from None


def moment(option: str, text: str | None) -> int:
    """Unix milliseconds of an option's time, far away without one."""
    if text is None:
        return sys.maxsize
    try:
        return parse_time(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}; a time is ISO 8601 or Unix time") from None


def save(path: Path, artifact: Artifact) -> int:
    """Write a file that appears only when it is complete; returns its bytes."""
    payload, part = pack(artifact), path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(payload)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return len(payload)


def load(path: Path) -> Artifact:
    """What `save` has written; raises `UserError`."""
    try:
        return unpack(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
