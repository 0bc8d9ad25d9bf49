"""What an input format is: messages of one partition in, samples and dead letters out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import F64, I64, Samples
from schemas.deadletter import DeadLetter
from stream.kafka import Record
from stream.worker.admission import Admission

GROUP: Final = "tocsin.formats"


class Decoded(NamedTuple):
    """Samples in the order of the messages, and what could not be read."""

    samples: Samples
    dead: list[DeadLetter]


class Format(Protocol):
    """A decoder of one partition; may keep state from message to message.

    What it gives depends on the messages and their order alone, not on how they are cut into batches.
    """

    @classmethod
    def create(cls, options: Mapping[str, Any], admission: Admission) -> Self:
        """A decoder without state; ``ValueError`` names an option that is unknown or impossible."""

    def decode(self, records: Sequence[Record]) -> Decoded:
        """Read messages that have a value; never raises for what is in them."""

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """The state as arrays, independent of later calls; empty where there is none."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from `snapshot`."""


class Stateless:
    """The half of `Format` that a format without memory shares."""

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        if state:
            raise ValueError(f"this format keeps no state, the snapshot has {sorted(state)}")


def load(name: str) -> type[Format]:
    """The format of this name; ``ValueError`` lists those that there are."""
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise ValueError(f"format {name!r} is not installed; there are {', '.join(sorted(found.names))}")
    return cast("type[Format]", found[name].load())


def no_options(options: Mapping[str, Any]) -> None:
    """Refuse options, for a format that has none."""
    if options:
        raise ValueError(f"unknown options {', '.join(sorted(options))}: this format has none")


def empty() -> Samples:
    return Samples((), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


class Collector:
    """Gathers samples one by one; each canonical text stands once in the dictionary."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.index: list[int] = []
        self.ts_ms: list[int] = []
        self.values: list[float] = []

    def add(self, text: str, ts_ms: int, value: float) -> None:
        names = self.names
        index = names.get(text)
        if index is None:
            index = names[text] = len(names)
        self.index.append(index)
        self.ts_ms.append(ts_ms)
        self.values.append(value)

    def samples(self) -> Samples:
        return Samples(
            list(self.names),  # a tuple would be remembered by the engine
            np.array(self.index, np.int64),
            np.array(self.ts_ms, np.int64),
            np.array(self.values, np.float64),
        )


def concat(parts: Sequence[Samples]) -> Samples:
    """One batch of several; a dictionary that several parts share stands once."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty()
    offsets: dict[int, int] = {}
    series: list[str] = []
    index: list[I64] = []
    for part in parts:
        offset = offsets.get(id(part.series))
        if offset is None:
            offset = offsets[id(part.series)] = len(series)
            series.extend(part.series)
        index.append(part.series_index + offset if offset else part.series_index)
    # All from one dictionary: pass that very object on, so that the engine knows it again.
    dictionary = parts[0].series if len(offsets) == 1 else series
    ts_ms: I64 = np.concatenate([part.ts_ms for part in parts])
    values: F64 = np.concatenate([part.values for part in parts])
    return Samples(dictionary, np.concatenate(index), ts_ms, values)
