"""What the configuration says of a refit: the parameters, and the engine that would judge with the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from schemas import config
from schemas.group import Grouping
from schemas.matcher import Matcher
from schemas.request import Refit
from schemas.series import Series
from stream.errors import UserError


class Settings(NamedTuple):
    """``engine`` has this detector alone; ``grouping`` is of a model for a group."""

    params: Mapping[str, Any]
    engine: config.Engine
    grouping: Grouping | None = None


def settings_of(cfg: config.Config, asked: Refit) -> Settings:
    """The entry of this detector that judges the series or group; raises `UserError` where there is none."""
    series = Series.of(asked.series)
    for group in cfg.engine.groups:
        if (group.detector, group.name) == (asked.detector, series.metric):
            quiet = config.DetectorConfig(name="large", weight=0.0)
            alone = msgspec.structs.replace(cfg.engine, detectors=[quiet], groups=[group])
            return Settings(group.params, alone, Grouping(group))
    mine = [each for each in cfg.engine.detectors if each.name == asked.detector]
    for each in mine:
        if Matcher.parse(each.match).matches(series):
            loud = [msgspec.structs.replace(one, weight=1.0) for one in mine]
            return Settings(each.params, msgspec.structs.replace(cfg.engine, detectors=loud, groups=[]))
    raise UserError(
        f"no entry of engine.detectors or engine.groups named {asked.detector} matches {asked.series}"
    )
