"""The CPU part of a partition: messages in, scores and events out. No I/O; runs in a thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.batch import unpack
from detectors.buffer import Buffer, bytes_needed
from detectors.engine import Engine
from detectors.protocol import Samples, Scored
from schemas import config
from schemas.artifact import ArtifactMessage
from schemas.control import Mute
from schemas.deadletter import DeadLetter
from schemas.event import AnomalyEvent
from schemas.journal import Adopted, Began, Entry, Labelled, Muted
from schemas.score import SampleState
from stream.control.muting import muted
from stream.formats import protocol
from stream.kafka import Record
from stream.output import encode_scores
from stream.worker.admission import Admission

SLICE_S: Final = 0.25
"""CPU of one call into the engine. Between two of them a partition that is revoked is abandoned, and others
get the thread; longer makes the group wait for an expensive detector."""

FIRST_SLICE: Final = 10_000
"""Samples of the first slice, of which the cost is not known: 7 ms by default, seconds with river."""

MEASURED_SAMPLES: Final = 500
"""Least samples of a slice, and of a measurement: a smaller one is mostly the fixed cost of a call."""


class Output(NamedTuple):
    """What a slice of a batch made; ``states`` counts samples by `SampleState`."""

    events: list[AnomalyEvent]
    scores: list[bytes]
    states: NDArray[np.int64]
    seconds: tuple[float, float]  # engine, encode


class Pipeline:
    """Decoder, admission and engine of one partition, with all their state.

    What comes out depends on the messages and their order alone, so that going back to an offset and the
    state of that offset repeats it.
    """

    def __init__(self, cfg: config.Config, source: config.Input) -> None:
        self._cfg = cfg
        self._admission = Admission(cfg.admission)
        self._format = protocol.load(source.format).create(source.options, self._admission)
        self._emit = cfg.worker.emit_scores
        self._slice = cfg.worker.max_batch_samples
        self._sample_s = 0.0  # CPU, as last measured
        self.engine = Engine(cfg.engine, cfg.admission, time.perf_counter)

    def decode(self, records: Sequence[Record]) -> tuple[Samples, list[DeadLetter]]:
        good, dead = self._admission.screen(records)
        decoded = self._format.decode(good)
        return decoded.samples, dead + decoded.dead

    def slices(self, samples: Samples) -> Iterator[Samples]:
        """The samples in parts of about `SLICE_S` of CPU, at most ``worker.max_batch_samples``.

        Each part is to be processed before the next one is asked for: it tells what a sample costs.
        """
        series, index, ts_ms, values = samples
        start = 0
        while start < len(index):
            part = slice(start, start + self._slice_samples())
            yield Samples(series, index[part], ts_ms[part], values[part])
            start = part.stop

    def _slice_samples(self) -> int:
        affordable = int(SLICE_S / self._sample_s) if self._sample_s else FIRST_SLICE
        return min(max(affordable, MEASURED_SAMPLES), self._slice)

    def score(self, samples: Samples) -> Output:
        """Score a slice; the state moves on."""
        started = time.perf_counter()
        scored = self._process(samples)
        engine_done = time.perf_counter()
        scores = encode_scores(scored, self._emit)
        seconds = (engine_done - started, time.perf_counter() - engine_done)
        states = np.bincount(scored.state, minlength=len(SampleState)).astype(np.int64)
        return Output(scored.events, scores, states, seconds)

    def learn(self, samples: Samples) -> None:
        """As `score`, for a replay: nothing comes out."""
        self._process(samples)

    def _process(self, samples: Samples) -> Scored:
        began = time.thread_time()
        scored = self.engine.process(samples)
        count = len(samples.ts_ms)
        if count >= min(MEASURED_SAMPLES, self._slice):
            self._sample_s = (time.thread_time() - began) / count
        return scored

    def apply(self, entry: Entry, artifact: ArtifactMessage | None = None) -> None:
        """Repeat what the journal says, at its offset; raises ``ValueError`` for what cannot be.

        ``artifact`` is the one that an `Adopted` names.
        """
        match entry:
            case Began():
                pass  # the state began before it, with the messages it names
            case Adopted():
                if artifact is None:
                    raise ValueError(f"artifact {entry.artifact} is missing")
                self.adopt(entry, artifact)
            case Muted(mute=None):
                self.engine.unmute(entry.mute_id)
            case Muted(mute=Mute() as mute):
                self.engine.mute(muted(mute))
            case Labelled():
                self.engine.label(entry.series, entry.anomaly_id, entry.verdict)

    def adopt(self, entry: Adopted, message: ArtifactMessage) -> None:
        """Score a series with a fitted model from here on; raises ``ValueError`` where it cannot be."""
        artifact = unpack(message.payload)
        if not self.engine.adopt(entry.series, entry.detector, artifact, entry.artifact):
            raise ValueError(f"{entry.series} is not here")

    def snapshot(self, into: Buffer | None = None) -> Mapping[str, NDArray[Any]]:
        """All state as arrays, copied; names are prefixed by whose it is."""
        state = {f"format/{name}": array for name, array in self._format.snapshot().items()}
        return state | {f"engine/{name}": array for name, array in self.engine.snapshot(into).items()}

    def snapshot_bytes(self) -> int:
        """Room that the copy of the engine's state needs."""
        return bytes_needed(self.engine.state())

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from `snapshot`; raises ``ValueError`` for that of another configuration."""
        self._format.restore(_part("format/", state))
        cfg = self._cfg
        self.engine = Engine.restore(cfg.engine, cfg.admission, _part("engine/", state), time.perf_counter)


def _part(prefix: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
