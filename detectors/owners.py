"""Whose slot it was: within one step a slot may be taken from a series and given to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from detectors.policy import Limits, Policies
from detectors.series import SeriesTable, Step
from schemas.series import Series


class Owner(NamedTuple):
    """A series as its events name it."""

    text: str
    series: Series
    artifacts: Mapping[str, str]  # ids by detector
    limits: Limits


class Owners:
    """The series of each slot at each position of a step."""

    def __init__(self, table: SeriesTable, policies: Policies, adopted: dict[int, dict[str, str]]) -> None:
        self._table, self._policies, self._adopted = table, policies, adopted
        self._evicted: dict[int, tuple[int, Owner]] = {}

    def begin(self, step: Step) -> None:
        """Note what the slots were that this step takes away, before anything else forgets it."""
        self._evicted = {
            slot: (
                at,
                Owner(text, Series.of(text), self._adopted.pop(slot, {}), self._policies.limits(slot)),
            )
            for slot, at, text in zip(
                step.evicted.tolist(), step.evicted_at.tolist(), step.evicted_texts, strict=True
            )
        }

    def evicted_at(self, slot: int) -> int:
        """Before which sample of the step a slot was taken away."""
        return self._evicted[slot][0]

    def of(self, slot: int, position: int, forgotten: bool = False) -> Owner:
        """The series that had the slot when a sample came; ``forgotten``: the one that lost it."""
        if slot in self._evicted:
            at, owner = self._evicted[slot]
            if forgotten or position < at:
                return owner
        return Owner(
            self._table.text(slot),
            self._table.series(slot),
            self._adopted.get(slot, {}),
            self._policies.limits(slot),
        )
