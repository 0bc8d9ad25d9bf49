"""The states of a partition and the ways between them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final


class State(enum.StrEnum):
    """Where a partition stands; also the ``state`` label of `tocsin_partition_state`."""

    ASSIGNED = "assigned"  # paused, nothing consumed
    FENCING = "fencing"  # ending the transactions of earlier owners
    RESTORING = "restoring"  # reading the committed offset and the state that belongs to it
    REPLAYING = "replaying"  # learning again what was committed, silently
    RUNNING = "running"
    PAUSED = "paused"  # the breaker has tripped
    RECOVERING = "recovering"  # something failed; waiting to fence again
    STOPPED = "stopped"


LEGAL: Final[Mapping[State, frozenset[State]]] = {
    State.ASSIGNED: frozenset({State.FENCING, State.STOPPED}),
    State.FENCING: frozenset({State.RESTORING, State.RECOVERING, State.STOPPED}),
    State.RESTORING: frozenset({State.REPLAYING, State.RUNNING, State.RECOVERING, State.STOPPED}),
    State.REPLAYING: frozenset({State.RUNNING, State.RECOVERING, State.STOPPED}),
    State.RUNNING: frozenset({State.PAUSED, State.RECOVERING, State.STOPPED}),
    State.PAUSED: frozenset({State.RECOVERING, State.STOPPED}),
    State.RECOVERING: frozenset({State.FENCING, State.STOPPED}),
    State.STOPPED: frozenset(),
}


class Lifecycle:
    """The state of one partition; an illegal transition is a bug and raises."""

    def __init__(self, changed: Callable[[State], None]) -> None:
        self._changed = changed
        self.state = State.ASSIGNED
        changed(self.state)

    def to(self, target: State) -> None:
        if target not in LEGAL[self.state]:
            raise AssertionError(f"a partition cannot go from {self.state} to {target}")
        self.state = target
        self._changed(target)
