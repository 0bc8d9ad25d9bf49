"""Detectors with a fitted part: a trainer fits them on history, a worker adopts what came out.

A fitted part is an `Artifact`: arrays and facts, packed as safetensors, never a pickle. Fitting takes seconds
and happens elsewhere; adopting copies arrays into the rows of a series.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, TypeGuard, runtime_checkable

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F64, I64, Detector

Fact = str | int | float
Reason = Literal["too_little_history", "constant", "not_finite"]
_FACTS: Final = "facts"
MAX_CHANNELS: Final = 16
"""Of a group of series that are judged together."""

_LIMIT: Final = 1e37  # values beyond it are taken as this, so that float32 arrays stay finite


class History(NamedTuple):
    """Samples of one series, or of all channels of a group, in order of time; NaN is a gap.

    ``ts_ms`` has shape (n,) and increases; ``values`` has shape (n, channels), one channel for a series.
    ``channels`` names the columns where there are several.
    """

    ts_ms: I64
    values: F64
    channels: tuple[str, ...] = ()

    @property
    def columns(self) -> F64:
        """``values`` with shape (n, channels), also where those of a series came flat."""
        return np.atleast_2d(self.values.T).T


class Artifact(NamedTuple):
    """A fitted model: arrays by name and single facts. Equal artifacts pack to equal bytes."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Fact]


class FitError(ValueError):
    """There is no model of this history; the one that serves stays. ``reason`` is for metrics."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


@runtime_checkable
class BatchDetector(Detector, Protocol):
    """A detector that scores with a fitted artifact; a slot without one is not ready (surprise NaN).

    With ``channels`` "many" a slot is a group of series, and the values of `step` have the shape
    (n, channels) with NaN for a channel that is missing.
    """

    channels: ClassVar[Literal["one", "many"]]

    @classmethod
    def fit(cls, params: Mapping[str, Any], history: History, seed: int) -> Artifact:
        """Fit on history; the same arguments give the same artifact on one machine.

        Raises `FitError` where the history does not make a model.
        """

    def adopt(self, slot: int, artifact: Artifact) -> None:
        """Score this slot with the artifact from now on; idempotent.

        Raises ``ValueError`` for an artifact of another detector or version.
        """


@runtime_checkable
class ManyFits(BatchDetector, Protocol):
    """A detector whose fits cost less together."""

    @classmethod
    def fit_many(
        cls, params: Mapping[str, Any], histories: Sequence[History], seed: int
    ) -> list[Artifact | FitError]:
        """As `fit` for each history, up to rounding; a `FitError` where there is no model."""


def fits_many(detector: type[Detector]) -> TypeGuard[type[ManyFits]]:
    """Whether histories may be fitted together."""
    return hasattr(detector, "fit_many")


def is_batch(detector: type[Detector]) -> TypeGuard[type[BatchDetector]]:
    """Whether a detector needs to be fitted."""
    return hasattr(detector, "fit") and hasattr(detector, "adopt")


def pack(artifact: Artifact) -> bytes:
    """The artifact as safetensors, with its facts as JSON in the metadata."""
    from safetensors.numpy import save  # noqa: PLC0415  # a worker without batch detectors does without

    arrays = {name: np.ascontiguousarray(artifact.arrays[name]) for name in sorted(artifact.arrays)}
    facts = msgspec.json.encode(dict(sorted(artifact.facts.items()))).decode()
    return save(arrays, {_FACTS: facts})


def unpack(payload: bytes) -> Artifact:
    """The artifact in safetensors bytes; raises ``ValueError`` for anything else."""
    from safetensors import SafetensorError  # noqa: PLC0415  # as above
    from safetensors.numpy import load  # noqa: PLC0415

    try:
        arrays = load(payload)
        (size,) = struct.unpack_from("<Q", payload)
        header = msgspec.json.decode(payload[8 : 8 + size])
        facts = msgspec.json.decode(header["__metadata__"][_FACTS], type=dict[str, Fact])
    except (SafetensorError, struct.error, KeyError, msgspec.MsgspecError) as error:
        raise ValueError(f"this is not an artifact: {error}") from None
    return Artifact(arrays, facts)


def sha256(payload: bytes) -> str:
    """Hex digest by which a manifest names a payload."""
    return hashlib.sha256(payload).hexdigest()


def facts_of(detector: type[Detector], **facts: Fact) -> dict[str, Fact]:
    """Facts of an artifact with the detector that made it, which `require` looks at."""
    return {"detector": detector.name, "version": detector.version, **facts}


def channels_of(artifact: Artifact) -> tuple[str, ...]:
    """The names of the series that a model of a group was fitted on, in the order of its channels.

    Raises ``ValueError`` for a model of one series.
    """
    try:
        names = msgspec.json.decode(str(artifact.facts["names"]), type=tuple[str, ...])
    except (KeyError, msgspec.MsgspecError) as error:
        raise ValueError(f"artifact of {artifact.facts.get('detector')} names no channels") from error
    if not 1 <= len(names) <= MAX_CHANNELS:
        raise ValueError(f"artifact of {len(names)} channels, a group has 1 to {MAX_CHANNELS}")
    return names


def require(detector: Detector, artifact: Artifact) -> None:
    """Raise ``ValueError`` for an artifact that another detector, or another version of it, has made."""
    made_by = (artifact.facts.get("detector"), artifact.facts.get("version"))
    if made_by != (detector.name, detector.version):
        raise ValueError(
            f"artifact of {made_by[0]} version {made_by[1]}, not {detector.name} version {detector.version}"
        )
    for name, array in artifact.arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"artifact of {detector.name} has values that are not finite in {name!r}")


def series_of(history: History, least: int) -> tuple[I64, F64]:
    """The known samples of a history of one channel, clipped to what float32 holds.

    Raises `FitError` for fewer than ``least`` of them, for infinities and for a series that stands still.
    """
    values = history.columns[:, 0]
    known = ~np.isnan(values)
    ts_ms, values = history.ts_ms[known], values[known]
    if len(values) < least:
        raise FitError("too_little_history", f"{len(values)} samples of history, at least {least} are needed")
    if not np.isfinite(values).all():
        raise FitError("not_finite", "the history has infinite values")
    values = values.clip(-_LIMIT, _LIMIT)
    if values.min() == values.max():
        raise FitError("constant", f"all {len(values)} samples of the history are {values[0]:g}")
    return ts_ms, values


def interval_of(ts_ms: I64) -> int:
    """The usual distance of samples in milliseconds: the median."""
    return max(int(np.median(np.diff(ts_ms))), 1) if len(ts_ms) > 1 else 1


class Grid(NamedTuple):
    """Values at ``first_ms + interval_ms * row``, shape (rows, channels), NaN where there were none."""

    first_ms: int
    interval_ms: int
    values: F64


def on_grid(ts_ms: I64, values: F64, interval_ms: int) -> Grid:
    """The mean of each interval, aligned to multiples of it; ``values`` has shape (n, channels)."""
    place = ts_ms // interval_ms
    rows = int(place[-1] - place[0]) + 1
    at = (place - place[0]).astype(np.int64)
    known = ~np.isnan(values)
    out = np.full((rows, values.shape[1]), np.nan)
    for c in range(values.shape[1]):
        mine = known[:, c]
        counts = np.bincount(at[mine], minlength=rows)
        sums = np.bincount(at[mine], values[mine, c], minlength=rows)
        out[counts > 0, c] = sums[counts > 0] / counts[counts > 0]
    return Grid(int(place[0]) * interval_ms, interval_ms, out)


class Tail(NamedTuple):
    """How far a raw score goes on the history, to turn it into surprise: median, 98 % and excess."""

    middle: float
    high: float
    excess: float

    @classmethod
    def of(cls, raw: F64) -> Tail:
        """From raw scores (n,) of the history, of which a few may be anomalies."""
        middle, high, most = np.quantile(raw, (0.5, 0.98, 0.998)).tolist()
        least = 1e-9 + 0.02 * (high - middle)
        return cls(middle, max(high, middle + least), max((most - high) / 2.302585, least))


@njit(cache=True, nogil=True, inline="always")
def surprise_of(raw: float, middle: float, high: float, excess: float) -> Any:
    """-log10 of the tail probability of a raw score under a `Tail`, at most 1e6."""
    if raw <= middle:
        return 0.0
    if raw <= high:
        return 1.69897 * (raw - middle) / (high - middle)
    return min(1.69897 + (raw - high) / (excess * 2.302585), 1e6)
