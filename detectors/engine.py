"""The engine of one partition: samples in, scores and anomaly events out. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import registry
from detectors.batch import Artifact, BatchDetector
from detectors.ensemble import Ensemble, Verdict, budgets
from detectors.episode import Episodes
from detectors.events import Ongoing, events, ongoing
from detectors.protocol import F32, Detector, Samples, Scored, State
from detectors.reorder import Reorder
from detectors.rows import part, prefixed
from detectors.series import SeriesTable, Step
from detectors.tails import tail_for
from detectors.window import Windows
from schemas import config as schema
from schemas.event import AnomalyEvent
from schemas.score import SampleState


class Counts(NamedTuple):
    """What an engine has seen since it began (its predecessors before a restore included)."""

    samples: int
    scored: int
    warming_up: int
    gaps: int
    late: int
    duplicates: int
    evicted: int  # series forgotten because of a cap
    held: int  # samples waiting for their place in time
    active_series: int
    open_anomalies: int


class Engine:
    """Windows, gap rules, detectors, calibration, ensemble and episodes of one partition.

    The result is equal bit for bit however the samples are cut into batches, and after `snapshot` and
    `restore`. Not thread-safe; releases the GIL in its loops.
    """

    def __init__(
        self,
        config: schema.Engine,
        admission: schema.Admission,
        timer: Callable[[], float] | None = None,
    ) -> None:
        """``timer`` returns seconds; with one, `cost_s` adds up what each part takes."""
        self._config, self._admission, self._timer = config, admission, timer
        self.cost_s: dict[str, float] = {}
        self.detectors: list[Detector] = [
            registry.load(each.name).create(each.params, config.seed) for each in config.detectors
        ]
        weights = [each.weight for each in config.detectors]
        self._reorder = Reorder(admission.allowed_lateness_ms)
        self.series = SeriesTable(admission.max_series_per_partition, admission.max_series_per_metric)
        self.windows = Windows(config.window, config.warm_up_samples)
        self._calibrators = [
            tail_for(detector, budget)
            for detector, budget in zip(self.detectors, budgets(weights, config.alert_budget), strict=True)
        ]
        self._ensemble = Ensemble(weights, config.level_half_life_samples)
        self._episodes = Episodes(config)
        self._states = np.zeros(len(SampleState), np.int64)
        self.adopted: dict[int, dict[str, str]] = {}
        """Ids of the artifacts in use, by slot and detector."""

    def adopt(self, series: str, detector: str, artifact: Artifact, artifact_id: str = "") -> bool:
        """Score a series with a fitted artifact from the next sample on; idempotent.

        False where the series is not here (yet, or no more): nothing happened, offer it again. Raises
        ``ValueError`` for a detector that is not configured or not fitted, and for an artifact that it
        refuses. ``artifact_id`` is what events will name.
        """
        found = [each for each in self.detectors if each.name == detector]
        if not found:
            raise ValueError(f"no detector {detector!r} is configured")
        slot = self.series.slot(series)
        if slot is None:
            return False
        for each in found:
            if not isinstance(each, BatchDetector):
                raise ValueError(f"detector {detector!r} has nothing to adopt")  # noqa: TRY004
            each.adopt(slot, artifact)
        self.adopted[slot] = self.adopted.get(slot, {}) | {detector: artifact_id}
        return True

    def process(self, samples: Samples) -> Scored:
        """Score a batch, then learn it, sample by sample in order."""
        began = self._now()
        ordered = self._reorder.push(
            Samples(
                samples.series,
                np.array(samples.series_index, np.int64),
                np.array(samples.ts_ms, np.int64),
                np.array(samples.values, np.float64),
            )
        )
        n = len(ordered.ts_ms)
        floats = np.full((5, n), np.nan, np.float32)
        states, started = np.empty(n, np.uint8), np.zeros(n, np.int64)
        told: list[AnomalyEvent] = []
        for step in self.series.steps(ordered.series, ordered.series_index):
            self._make_room(step)
            began = self._spent("series", began)
            rows = slice(step.start, step.stop)
            told += self._run(
                step, ordered.ts_ms[rows], ordered.values[rows], floats[:, rows], states[rows], started[rows]
            )
            began = self._now()
        self._states += np.bincount(states, minlength=len(self._states))
        score, level, expected, lower, upper = floats
        return Scored(*ordered, score, level, expected, lower, upper, states, started, told)

    def _make_room(self, step: Step) -> None:
        rooms: list[Any] = [self.windows, self._ensemble, self._episodes, *self._calibrators, *self.detectors]
        for each in rooms:
            each.reserve(len(self.series))
            if len(step.evicted):
                each.evict(step.evicted)
        for slot in step.evicted.tolist():
            self.adopted.pop(slot, None)

    def _run(
        self,
        step: Step,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float64],
        floats: F32,
        states: NDArray[np.uint8],
        started: NDArray[np.int64],
    ) -> list[AnomalyEvent]:
        """One step: fills ``floats`` (score, level, expected, lower, upper), ``states`` and ``started``."""
        began = self._now()
        admitted = self.windows.admit(step.slots, ts_ms, values)
        states[:] = admitted.states
        began = self._spent("window", began)
        slots, clock_ms, interval_ms, kept = step.slots, admitted.clock_ms, admitted.interval_ms, values
        told_apart = (states == SampleState.GAP) | (states == SampleState.DUPLICATE)
        partial = bool(told_apart.any())
        keep: Any = np.flatnonzero(~told_apart) if partial else slice(None)
        if partial:
            slots, clock_ms, interval_ms = slots[keep], clock_ms[keep], interval_ms[keep]
            kept = values[keep]
        learn = states[keep] != SampleState.LATE
        said = []
        scores = np.empty((len(self.detectors), len(slots)), np.float32)
        for d, detector in enumerate(self.detectors):
            said.append(detector.step(slots, clock_ms, kept, learn))
            began = self._spent(f"detector.{detector.name}", began)
            scores[d] = self._calibrators[d].scores(
                slots, said[d].surprise, said[d].ready, learn, interval_ms
            )
            began = self._spent("calibrate", began)
        hints = np.zeros(scores.shape, np.uint8)
        for row, each in zip(hints, said, strict=True):
            if each.hint is not None:
                row[:] = each.hint
        verdict = self._ensemble.join(slots, clock_ms, interval_ms, learn, said, scores)
        began = self._spent("ensemble", began)
        unripe = (states[keep] == SampleState.WARMING_UP) | np.isnan(verdict.score)
        verdict.score[unripe] = verdict.level[unripe] = np.nan
        after = states[keep]
        after[unripe & learn] = SampleState.WARMING_UP
        states[keep] = after
        counts = learn & ~unripe & self._ensemble.alerts
        began_at, told, peaks = self._episodes.advance(
            slots, ts_ms[keep], kept, counts, verdict, scores, hints
        )
        self._fill(floats, started, keep, verdict, began_at)
        self._spent("episodes", began)
        return events(told, peaks, self.series, self.detectors, self.adopted)

    @staticmethod
    def _fill(
        floats: F32, started: NDArray[np.int64], keep: Any, verdict: Verdict, began_at: NDArray[np.int64]
    ) -> None:
        for row, column in zip(floats, verdict, strict=True):
            row[keep] = column
        started[keep] = began_at

    def _now(self) -> float:
        return self._timer() if self._timer is not None else 0.0

    def _spent(self, name: str, since: float) -> float:
        """Add the time since then to a part's cost; returns now."""
        if self._timer is None:
            return 0.0
        now = self._timer()
        self.cost_s[name] = self.cost_s.get(name, 0.0) + now - since
        return now

    def counts(self) -> Counts:
        totals = self._states
        return Counts(
            samples=int(totals.sum()),
            scored=int(totals[SampleState.SCORED]),
            warming_up=int(totals[SampleState.WARMING_UP]),
            gaps=int(totals[SampleState.GAP]),
            late=int(totals[SampleState.LATE]),
            duplicates=int(totals[SampleState.DUPLICATE]),
            evicted=self.series.evictions,
            held=len(self._reorder),
            active_series=len(self.series),
            open_anomalies=self._episodes.open_count,
        )

    def open_anomalies(self, most: int) -> list[Ongoing]:
        """The open anomalies with the highest peaks; microseconds each."""
        slots = self._episodes.open_slots()[:most].tolist()
        return [ongoing(slot, self._episodes.row(slot), self.series) for slot in slots]

    def _parts(self) -> dict[str, Any]:
        parts = {"reorder": self._reorder, "series": self.series, "window": self.windows}
        return {**parts, "episodes": self._episodes}

    def snapshot(self) -> State:
        """The whole state as arrays by name, independent of later batches."""
        state: State = {"counts": self._states.copy(), "ensemble": self._ensemble.snapshot()}
        state["adopted"] = np.frombuffer(msgspec.msgpack.encode(self.adopted), np.uint8).copy()
        for name, each in self._parts().items():
            state |= prefixed(name, each.snapshot())
        for d, (detector, calibrator) in enumerate(zip(self.detectors, self._calibrators, strict=True)):
            state[f"calibrator{d}"] = calibrator.snapshot()
            state[f"version{d}"] = np.array([detector.version], np.int64)
            state |= prefixed(f"detector{d}", detector.snapshot())
        return state

    @classmethod
    def restore(
        cls,
        config: schema.Engine,
        admission: schema.Admission,
        state: Mapping[str, NDArray[Any]],
        timer: Callable[[], float] | None = None,
    ) -> Self:
        """Continue from a snapshot; raises ``ValueError`` when it has another layout or configuration."""
        engine = cls(config, admission, timer)
        engine._states = state["counts"].copy()
        engine._ensemble.load(state["ensemble"])
        engine.adopted = msgspec.msgpack.decode(state["adopted"].tobytes(), type=dict[int, dict[str, str]])
        for name, each in engine._parts().items():
            each.load(part(name, state))
        for d, each in enumerate(config.detectors):
            detector = registry.load(each.name)
            found = state.get(f"version{d}")
            if found is None or int(found[0]) != detector.version:
                raise ValueError(f"snapshot does not hold detector {each.name!r} version {detector.version}")
            engine._calibrators[d].load(state[f"calibrator{d}"])
            restored = detector.restore(each.params, config.seed, part(f"detector{d}", state))
            engine.detectors[d] = restored
        return engine
