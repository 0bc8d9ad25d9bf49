"""`tocsin check-config`: all that is wrong with a configuration, the parameters of detectors included."""

# ruff: noqa: PLC0415  # a configuration with mistakes is told before the detectors are imported
from __future__ import annotations

from pathlib import Path

import typer

from schemas.config import Config
from stream import config as loader
from stream.config.yaml_lines import Problem


def run(path: Path | None, overrides: list[str], *, show: bool) -> None:
    """Raises `ConfigError` with every problem."""
    loaded = checked(path, overrides)
    if show:
        typer.echo(loader.shown(loaded.config), nl=False)
    where = str(loaded.path) if loaded.path else "no file, the defaults"
    typer.echo(f"{where}: fine (hash {loader.config_hash(loaded.config)})", err=show)


def checked(path: Path | None, overrides: list[str]) -> loader.Loaded:
    """A configuration with which a worker starts; raises `ConfigError` with every problem."""
    loaded = loader.load(path, overrides)
    problems = [*_detectors(loaded.config), *_formats(loaded.config)]
    if problems:
        raise loader.ConfigError(str(loaded.path or "configuration"), problems)
    return loaded


def _detectors(cfg: Config) -> list[Problem]:
    """What the detectors say of their parameters: they must be made for that, which takes a second."""
    from detectors import registry

    problems = []
    for i, detector in enumerate(cfg.engine.detectors):
        try:
            registry.load_for_series(detector.name).create(detector.params, cfg.engine.seed)
        except ValueError as error:
            problems.append(Problem(f"engine.detectors[{i}].params", str(error)))
    return problems


def _formats(cfg: Config) -> list[Problem]:
    from stream.formats import protocol
    from stream.worker.admission import Admission

    problems = []
    for i, source in enumerate(cfg.inputs):
        try:
            protocol.load(source.format).create(source.options, Admission(cfg.admission))
        except ValueError as error:
            problems.append(Problem(f"inputs[{i}].options", str(error)))
    return problems
