"""What a detector is: columnar, score-then-learn, one object for every series of a partition."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from schemas.event import AnomalyEvent

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
State = dict[str, NDArray[Any]]


class Samples(NamedTuple):
    """A batch as the engine takes it: sample *i* belongs to ``series[series_index[i]]``.

    ``series`` is a dictionary of canonical texts, in which a text may stand twice; values are finite, or
    NaN for a gap.
    """

    series: Sequence[str]
    series_index: I64
    ts_ms: I64
    values: F64


class Scored(NamedTuple):
    """What the engine made of a batch, arrays of length *n*; ``series`` and ``series_index`` as in `Samples`.

    ``state`` holds `schemas.score.SampleState`; ``anomaly_started_ms`` is the start of the anomaly that was
    open when the sample had been seen, 0 where none was. With a lateness allowed, samples come out later
    than they went in, so the columns are the engine's own and not those of the batch.
    """

    series: Sequence[str]
    series_index: I64
    ts_ms: I64
    values: F64
    score: F32
    level: F32
    expected: F32
    lower: F32
    upper: F32
    state: NDArray[np.uint8]
    anomaly_started_ms: I64
    events: list[AnomalyEvent]


class Hint(enum.IntEnum):
    """What in a window is unusual."""

    NOTHING = 0  # or nobody can say
    VALUE = 1  # the newest value
    SPREAD = 2  # how much it varies
    DRIFT = 3  # where its mean went
    PATTERN = 4  # what it is at this hour
    FLAT = 5  # that it stands still
    WEEK = 6  # what it is in this part of the week


class Scores(NamedTuple):
    """What a detector says of *n* samples, each array of length *n*.

    ``surprise`` is -log10 of the tail probability of the sample under what was learned before it, or any
    evidence that grows with unusualness: `detectors.calibrate` maps it to a score whose 1.0 is the alert
    threshold. NaN where not ready. ``expected``, ``lower`` and ``upper`` are in the units of the value, NaN
    where the detector has no band.
    """

    surprise: F32
    expected: F32
    lower: F32
    upper: F32
    ready: Bools
    hint: NDArray[np.uint8] | None = None
    """What kind of thing speaks (`Hint`), where the detector can tell."""
    contributions: F32 | None = None
    """Of a group: the share of each channel in an unusual sample (n, channels), NaN where there is none."""


class Asked(NamedTuple):
    """*n* samples in order, each array of length *n*.

    ``clock_ms`` and ``local_ms`` do not decrease within a slot; ``exposure_ms`` is the learned interval, 0
    while unknown, scaled by the alert budget of the series. ``off`` are the samples in days off, None where
    no series has any.
    """

    slots: I64
    clock_ms: I64  # UTC
    local_ms: I64
    values: F64
    learn: Bools
    exposure_ms: NDArray[np.float32]
    off: Bools | None

    def only(self, rows: I64) -> Asked:
        """Some of the samples."""
        return Asked(*(column[rows] if column is not None else None for column in self))  # type: ignore[arg-type]


@runtime_checkable
class Detector(Protocol):
    """Scores every series of a partition; state is struct-of-arrays, a row (slot) per series.

    Rows are added by `reserve`; a slot never seen, or evicted, starts from nothing.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Of the state layout: a snapshot of another version is not restored."""

    def reserve(self, slots: int) -> None:
        """Make room for slots ``0 .. slots-1``; never shrinks."""

    def step(self, slots: I64, ts_ms: I64, values: F64, learn: Bools) -> Scores:
        """Score, then learn, sample by sample in the order given; a slot may repeat.

        Equal bit for bit whether the samples come in one call or one by one. Values are finite, times do
        not decrease within a slot (the engine sees to both). Inputs are neither kept nor written to.
        """

    def evict(self, slots: I64) -> None:
        """Forget these series; their rows will be reused."""

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """The state as arrays, perhaps views that the next step changes: the caller copies them."""

    @classmethod
    def create(cls, params: Mapping[str, Any], seed: int) -> Self:
        """A detector without series; ``ValueError`` names a parameter that is unknown or impossible."""

    @classmethod
    def restore(cls, params: Mapping[str, Any], seed: int, state: Mapping[str, NDArray[Any]]) -> Self:
        """Continue from `snapshot`, which is copied; the next scores are as if nothing had happened."""
