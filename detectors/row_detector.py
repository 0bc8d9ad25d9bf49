"""What detectors with one record a series have in common: everything except the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import I64, State
from detectors.rows import Rows


class RowDetector:
    """State by slot in records of ``record``; the only parameter is ``warm_up``, where it has a default."""

    name: ClassVar[str]
    record: ClassVar[np.dtype[Any]]
    default_warm_up: ClassVar[int | None] = None

    def __init__(self, warm_up: int, rows: Rows | None = None) -> None:
        self._warm_up = warm_up
        self._rows = rows or Rows(self.record)

    @classmethod
    def create(cls, params: Mapping[str, Any], seed: int) -> Self:
        del seed  # nothing here is random
        return cls(cls._checked(params))

    @classmethod
    def restore(cls, params: Mapping[str, Any], seed: int, state: Mapping[str, NDArray[Any]]) -> Self:
        del seed
        rows = Rows(cls.record)
        rows.load(state["rows"])
        return cls(cls._checked(params), rows)

    @classmethod
    def _checked(cls, params: Mapping[str, Any]) -> int:
        known = set() if cls.default_warm_up is None else {"warm_up"}
        if unknown := set(params) - known:
            raise ValueError(
                f"{cls.name} has no parameter {min(unknown)!r}; it has {', '.join(known) or 'none'}"
            )
        warm_up = params.get("warm_up", cls.default_warm_up or 8)
        if not isinstance(warm_up, int) or not 8 <= warm_up <= 100_000:
            raise ValueError(f"{cls.name}: warm_up is a whole number from 8 to 100000, not {warm_up!r}")
        return warm_up

    def reserve(self, slots: int) -> None:
        self._rows.reserve(slots)

    def evict(self, slots: I64) -> None:
        self._rows.evict(slots)

    def snapshot(self) -> State:
        return {"rows": self._rows.snapshot()}
