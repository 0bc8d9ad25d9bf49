"""Several tables of state as one: what detectors with a fitted part have in common, except their step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import I64, State
from detectors.rows import part, prefixed


class Table(Protocol):
    """`detectors.rows.Rows`, `detectors.arena.Arena` or several of them."""

    def reserve(self, slots: int) -> None: ...
    def evict(self, slots: I64) -> None: ...
    def snapshot(self) -> Any: ...
    def load(self, state: Any) -> None: ...


class Tables:
    """Tables with the same slots; in a snapshot their arrays are ``TABLE``, or ``TABLE.ARRAY`` of several."""

    def __init__(self, **tables: Table) -> None:
        self._tables = tables

    def reserve(self, slots: int) -> None:
        for each in self._tables.values():
            each.reserve(slots)

    def evict(self, slots: I64) -> None:
        for each in self._tables.values():
            each.evict(slots)

    def snapshot(self) -> State:
        """Views of the arrays in use."""
        state: State = {}
        for name, table in self._tables.items():
            found = table.snapshot()
            state |= {name: found} if isinstance(found, np.ndarray) else prefixed(name, found)
        return state

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot; raises ``ValueError`` when its layout is another one."""
        for name, table in self._tables.items():
            table.load(state[name] if name in state else part(name, state))


class TablesDetector(Tables):
    """A detector whose state is its tables, made by ``__init__``; only where it is fitted it is random."""

    @classmethod
    def check(cls, params: Mapping[str, Any]) -> None:
        """Raises ``ValueError`` that names a parameter that is unknown or impossible."""
        raise NotImplementedError

    @classmethod
    def create(cls, params: Mapping[str, Any], seed: int) -> Self:
        del seed
        cls.check(params)
        return cls()

    @classmethod
    def restore(cls, params: Mapping[str, Any], seed: int, state: Mapping[str, NDArray[Any]]) -> Self:
        detector = cls.create(params, seed)
        detector.load(state)
        return detector
