"""Detectors by name: entry points of the group ``tocsin.detectors``."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from detectors.protocol import Detector

GROUP: Final = "tocsin.detectors"


def names() -> list[str]:
    """What is installed, sorted."""
    return sorted(_points())


def load(name: str) -> type[Detector]:
    """The class of a detector; raises ``ValueError`` that lists what there is and the nearest name."""
    points = _points()
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown detector {name!r}: there is {', '.join(sorted(points))}{hint}")
    detector: type[Detector] = points[name].load()
    return detector


def load_for_series(name: str) -> type[Detector]:
    """As `load`; raises ``ValueError`` for a detector of groups."""
    detector = load(name)
    if getattr(detector, "channels", "one") == "many":
        raise ValueError(f"{name} judges several series together: it belongs under engine.groups")
    return detector


@lru_cache(maxsize=1)
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
