"""The contract of a detector as assertions: run it on your own class.

    from detectors.checks import Subject, check
    check(Subject(MyDetector, {"depth": 3}))

A detector that has to be fitted is fitted on a week of history before the test series, and every slot
adopts the artifact; `BATCH_CHECKS` holds what is asked of it beside that. Each check is a function of a
`Subject` and raises ``AssertionError`` with what was broken; `checks_of` lists those that apply, for a test
runner. Nothing here needs a test framework.
"""

# ruff: noqa: S101 (assertions are what this module is for)
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.batch import Artifact, BatchDetector, FitError, History, is_batch, pack, sha256, unpack
from detectors.protocol import F64, I64, Bools, Detector, Scores

_STEP_MS = 300_000
_START_MS = 1_700_000_000_000
_HISTORY = 2016  # samples: a week
_CHANNELS = 3  # of a group


class Batch(NamedTuple):
    """The arguments of ``Detector.step``."""

    slots: I64
    ts_ms: I64
    values: F64
    learn: Bools

    def rows(self, start: int, stop: int | None = None) -> Batch:
        return Batch(
            self.slots[start:stop], self.ts_ms[start:stop], self.values[start:stop], self.learn[start:stop]
        )


@dataclass(frozen=True)
class Subject:
    """A detector class and how to make one; ``samples`` is how long test series are (beyond its warm-up)."""

    detector: type[Detector]
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1
    samples: int = 600
    _fitted: list[Artifact] = field(default_factory=list, compare=False, repr=False)

    def create(self, slots: int = 4) -> Detector:
        made = self.bare(slots)
        self.outfit(made, range(slots))
        return made

    def bare(self, slots: int = 4) -> Detector:
        """A detector that has not adopted anything."""
        made = self.detector.create(self.params, self.seed)
        made.reserve(slots)
        return made

    def outfit(self, detector: Detector, slots: Iterable[int]) -> None:
        """Let a detector that is fitted adopt the artifact of `history` for these slots."""
        if isinstance(detector, BatchDetector):
            for slot in slots:
                detector.adopt(slot, self.artifact)

    @property
    def batch(self) -> type[BatchDetector]:
        assert is_batch(self.detector), f"{self.detector.name} is not fitted"
        return self.detector

    @property
    def many(self) -> bool:
        return is_batch(self.detector) and self.detector.channels == "many"

    @property
    def artifact(self) -> Artifact:
        """Of `history`, fitted once."""
        if not self._fitted:
            self._fitted.append(self.batch.fit(self.params, self.history(), self.seed))
        return self._fitted[0]

    def history(self, values: F64 | None = None) -> History:
        """A week up to the test series, in its daily cycle; or other values (n,) at these times."""
        rows = np.arange(-_HISTORY, 0)
        if values is None:
            values = _cycle(rows) + np.random.default_rng(5).normal(size=_HISTORY)
        channels = self._channels(values)
        names = tuple(f"channel_{c}" for c in range(channels.shape[1])) if self.many else ()
        return History(_START_MS + _STEP_MS * rows, channels, names)

    def _channels(self, values: F64) -> F64:
        """A column of values as the channels of a group: alike, each with some noise of its own."""
        if not self.many:
            return values[:, None]
        own = np.random.default_rng(3).normal(size=(len(values), _CHANNELS)) * np.std(values[:50])
        return np.nan_to_num(values[:, None] + 0.3 * own, posinf=1e308, neginf=-1e308)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> Detector:
        return self.detector.restore(self.params, self.seed, state)

    def noise(self, columns: int = 1) -> F64:
        """A daily cycle with noise, samples x columns; for a group samples x columns x channels."""
        values = np.random.default_rng(7).normal(size=(self.samples, columns))
        return self.columns(_cycle(np.arange(self.samples))[:, None] + values)

    def columns(self, values: F64) -> F64:
        """Samples x columns as the detector takes them."""
        if not self.many:
            return values
        return np.stack([self._channels(column) for column in values.T], axis=1)


def check(subject: Subject) -> None:
    """Run all checks; raises at the first that fails."""
    for each in checks_of(subject):
        each(subject)


def checks_of(subject: Subject) -> tuple[Callable[[Subject], None], ...]:
    """What is asked of this detector."""
    return CHECKS + BATCH_CHECKS if is_batch(subject.detector) else CHECKS


def _cycle(rows: I64) -> F64:
    return 50 + 10 * np.sin(2 * np.pi * rows * _STEP_MS / 86_400_000)


def interleaved(values: F64, slots: I64 | None = None) -> Batch:
    """The arguments of ``step`` for samples x columns (x channels), a column a slot, all learned."""
    samples, columns = values.shape[:2]
    names = np.arange(columns) if slots is None else slots
    ts_ms = _START_MS + _STEP_MS * np.repeat(np.arange(samples), columns)
    flat = values.reshape(samples * columns, *values.shape[2:]).copy()
    return Batch(np.tile(names, samples), ts_ms, flat, np.ones(len(flat), np.bool_))


def batch_equals_one_by_one(subject: Subject) -> None:
    """However samples are cut into calls, the scores are the same bit for bit."""
    arrays = interleaved(subject.noise(3))
    whole = subject.create().step(*arrays)
    cuts = [0, 1, 2, 50, 51, 300, len(arrays[0])]
    one = subject.create()
    parts = [one.step(*arrays.rows(a, b)) for a, b in pairwise(cuts)]
    _same(whole, _joined(parts), "one call and several calls differ")


def slots_are_independent(subject: Subject) -> None:
    """A series scores the same alone and among others."""
    values = subject.noise(3)
    among = subject.create().step(*interleaved(values))
    alone = subject.create().step(*interleaved(values[:, 1:2], np.array([1])))
    _same(_every(among, 1, 3), alone, "a series depends on its neighbours")


def snapshot_and_restore_continue_identically(subject: Subject) -> None:
    """A restored detector scores on as if nothing had happened, and shares no memory with the first one."""
    arrays = interleaved(subject.noise(3))
    for cut in (0, 30, len(arrays[0]) // 2, len(arrays[0]) - 30):
        one = subject.create()
        one.step(*arrays.rows(0, cut))
        state = dict(one.snapshot())
        for name, array in state.items():
            assert isinstance(array, np.ndarray), f"snapshot[{name!r}] is no array but {type(array)}"
            assert not array.dtype.hasobject, f"snapshot[{name!r}] holds Python objects"
        restored = subject.restore(state)
        rest = one.step(*arrays.rows(cut))
        again = restored.step(*arrays.rows(cut))
        _same(rest, again, f"restored after {cut} samples, the scores differ")


def evicted_rows_leave_nothing_behind(subject: Subject) -> None:
    """A reused row scores as a new one."""
    values = subject.noise(2)
    used = subject.create()
    used.step(*interleaved(1e6 * values))
    used.evict(np.array([1]))
    subject.outfit(used, [1])
    arrays = interleaved(values[:, 1:2], np.array([1]))
    _same(subject.create().step(*arrays), used.step(*arrays), "an evicted row remembers")


def memory_is_bounded_by_slots(subject: Subject) -> None:
    """State does not grow with the number of samples."""
    one = subject.create()
    arrays = interleaved(subject.noise(2))
    one.step(*arrays)
    first = _bytes(one)
    for more in (1, 2, 3):
        one.step(arrays[0], arrays[1] + more * subject.samples * _STEP_MS, arrays[2], arrays[3])
    assert _bytes(one) <= 1.5 * first + 1024, f"state grew from {first} to {_bytes(one)} bytes"


def inputs_are_left_alone(subject: Subject) -> None:
    """Arrays given to ``step`` are neither written to nor kept."""
    arrays = interleaved(subject.noise(2))
    half = len(arrays[0]) // 2
    given = interleaved(subject.noise(2)).rows(0, half)
    one = subject.create()
    one.step(*given)
    for column, original in zip(given, arrays, strict=True):
        assert np.array_equal(column, original[:half]), "step wrote to its input"
        column[:] = 0
    other = subject.create()
    other.step(*arrays.rows(0, half))
    rest = arrays.rows(half)
    _same(other.step(*rest), one.step(*rest), "step kept a reference to its input")


def only_learning_changes_the_state(subject: Subject) -> None:
    """Samples with ``learn`` false are scored and leave no trace."""
    arrays = interleaved(subject.noise())
    half = subject.samples // 2
    plain, disturbed = subject.create(), subject.create()
    for one in (plain, disturbed):
        one.step(*arrays.rows(0, half))
    newest_ms = np.full(20, arrays.ts_ms[half - 1])
    disturbed.step(
        arrays.slots[:20], newest_ms, np.full_like(arrays.values[:20], 1e4), np.zeros(20, np.bool_)
    )
    rest = arrays.rows(half)
    _same(plain.step(*rest), disturbed.step(*rest), "a sample that was not to be learned was")


def finite_in_is_finite_out(subject: Subject) -> None:
    """Constant, step, spike, seasonal, count, tiny and huge series give finite scores and ordered bands."""
    for name, values in _shapes(subject).items():
        said = subject.create().step(*interleaved(subject.columns(values[:, None])))
        ready = said.ready
        assert np.isfinite(said.surprise[ready]).all(), f"{name}: a surprise is not finite"
        assert np.isnan(said.surprise[~ready]).all(), f"{name}: a surprise before the detector is ready"
        band = np.stack((said.lower, said.expected, said.upper))[:, ready]
        known = ~np.isnan(band).any(axis=0)
        assert np.isfinite(band[:, known]).all(), f"{name}: a band is infinite"
        assert (np.diff(band[:, known].astype(np.float64), axis=0) >= 0).all(), (
            f"{name}: a band is out of order"
        )
        for column in said[:4]:
            assert column.dtype == np.float32, f"{name}: scores are {column.dtype}, not float32"
            assert len(column) == len(values), f"{name}: {len(column)} scores for {len(values)} samples"


def not_ready_before_warm_up(subject: Subject) -> None:
    """The first samples are never judged, and a regular series is judged in the end.

    One that was fitted may judge the first sample.
    """
    ready = subject.create().step(*interleaved(subject.noise())).ready
    assert is_batch(subject.detector) or not ready[:8].any(), "ready within the first 8 samples"
    assert ready[-1], f"not ready after {subject.samples} samples"
    assert (np.diff(ready.astype(np.int8)) >= 0).all(), "became unready again on a regular series"


def same_seed_same_result(subject: Subject) -> None:
    """Two detectors with one seed agree bit for bit."""
    arrays = interleaved(subject.noise(2))
    _same(subject.create().step(*arrays), subject.create().step(*arrays), "two runs differ")


def planted_spike_scores_above_its_neighbours(subject: Subject) -> None:
    """A spike of 15 standard deviations surprises more than any of the 20 samples before it."""
    values = subject.noise()
    at = int(0.9 * subject.samples)
    values[at] += 15.0
    surprise = subject.create().step(*interleaved(values)).surprise
    before = surprise[at - 20 : at].max()
    assert surprise[at] > before, f"the spike surprises by {surprise[at]}, a sample before it by {before}"


CHECKS: Final[tuple[Callable[[Subject], None], ...]] = (
    batch_equals_one_by_one,
    slots_are_independent,
    snapshot_and_restore_continue_identically,
    evicted_rows_leave_nothing_behind,
    memory_is_bounded_by_slots,
    inputs_are_left_alone,
    only_learning_changes_the_state,
    finite_in_is_finite_out,
    not_ready_before_warm_up,
    same_seed_same_result,
    planted_spike_scores_above_its_neighbours,
)


def not_ready_without_an_artifact(subject: Subject) -> None:
    """A slot that has adopted nothing is never judged, and does not disturb one that has."""
    arrays = interleaved(subject.noise(2))
    one = subject.bare()
    assert not one.step(*arrays).ready.any(), "ready without an artifact"
    half = subject.bare()
    subject.outfit(half, [1])
    _same(_every(subject.create().step(*arrays), 1, 2), _every(half.step(*arrays), 1, 2), "slots depend")


def adopting_again_changes_nothing(subject: Subject) -> None:
    """The same artifact once more leaves the scores as they were, also after a restore."""
    arrays = interleaved(subject.noise(2))
    half = len(arrays[0]) // 2
    once, again = subject.create(), subject.create()
    once.step(*arrays.rows(0, half))
    again.step(*arrays.rows(0, half))
    subject.outfit(again, [0, 1, 1])
    restored = subject.restore(again.snapshot())
    subject.outfit(restored, [1])
    rest = once.step(*arrays.rows(half))
    _same(rest, again.step(*arrays.rows(half)), "adopting again changed the scores")
    _same(rest, restored.step(*arrays.rows(half)), "adopting again after a restore changed the scores")


def an_artifact_may_come_late(subject: Subject) -> None:
    """Adopted in the middle of a series, an artifact makes it judged, and its neighbour stays as it was."""
    arrays = interleaved(subject.noise(2))
    half = len(arrays[0]) // 2
    one, other = subject.bare(), subject.bare()
    for each in (one, other):
        subject.outfit(each, [1])
        each.step(*arrays.rows(0, half))
    subject.outfit(one, [0])
    rest = one.step(*arrays.rows(half))
    assert _every(rest, 0, 2).ready[-1], "an artifact that came late is not used"
    _same(_every(rest, 1, 2), _every(other.step(*arrays.rows(half)), 1, 2), "adopting disturbed a neighbour")


def artifacts_survive_packing(subject: Subject) -> None:
    """What comes out of safetensors bytes scores the same, and equal artifacts are equal bytes."""
    payload = pack(subject.artifact)
    found = unpack(payload)
    assert sha256(pack(found)) == sha256(payload), "packed again, the artifact has other bytes"
    one = subject.bare()
    assert isinstance(one, BatchDetector)
    for slot in range(4):
        one.adopt(slot, found)
    arrays = interleaved(subject.noise(2))
    _same(subject.create().step(*arrays), one.step(*arrays), "an unpacked artifact scores otherwise")


def foreign_artifacts_are_refused(subject: Subject) -> None:
    """Neither another detector's, nor another version's, nor one with NaN in it is adopted."""
    arrays, facts = subject.artifact
    name = next(name for name, array in sorted(arrays.items()) if array.dtype.kind == "f")
    spoiled = arrays | {name: np.full_like(arrays[name], np.nan)}
    wrong = (Artifact(arrays, facts | {"detector": "other"}), Artifact(arrays, facts | {"version": -1}))
    for each in (*wrong, Artifact(spoiled, facts)):
        one = subject.bare()
        assert isinstance(one, BatchDetector)
        try:
            one.adopt(0, each)
        except ValueError:
            continue
        raise AssertionError(f"adopted an artifact with {each.facts}")


def fits_are_repeatable(subject: Subject) -> None:
    """The same history and seed give the same bytes."""
    again = subject.batch.fit(subject.params, subject.history(), subject.seed)
    assert sha256(pack(again)) == sha256(pack(subject.artifact)), "two fits with one seed differ"


def fits_leave_their_history_alone(subject: Subject) -> None:
    """``fit`` does not write to the arrays it is given."""
    given, kept = subject.history(), subject.history()
    subject.batch.fit(subject.params, given, subject.seed)
    assert np.array_equal(given.values, kept.values), "fit wrote to its history"
    assert np.array_equal(given.ts_ms, kept.ts_ms), "fit wrote to its history"


def unusable_history_is_refused(subject: Subject) -> None:
    """Too little, constant, empty and infinite history raise `FitError` with the reason."""
    full = subject.history()
    infinite = full.values.copy()
    infinite[100] = np.inf
    cases = {
        "too_little_history": [full._replace(ts_ms=full.ts_ms[:9], values=full.values[:9])],
        "constant": [full._replace(values=np.full_like(full.values, 7.5))],
        "not_finite": [full._replace(values=infinite)],
    }
    cases["too_little_history"].append(full._replace(values=np.full_like(full.values, np.nan)))
    for reason, histories in cases.items():
        for each in histories:
            found = _refusal(subject, each)
            assert found == reason, f"a history that is {reason} gives {found}"


def _refusal(subject: Subject, history: History) -> str:
    try:
        subject.batch.fit(subject.params, history, subject.seed)
    except FitError as error:
        return error.reason
    return "an artifact"


def any_finite_history_is_fitted_or_refused(subject: Subject) -> None:
    """Gaps, steps, counts, tiny and huge values: `FitError`, or an artifact with finite scores."""
    noisy = subject.history().values.copy()
    shapes = {name: values for name, values in _shapes(subject, _HISTORY).items() if name != "seasonal"}
    histories = {name: subject.history(values) for name, values in shapes.items()}
    gaps = noisy.copy()
    gaps[500:700] = np.nan
    gaps[::7] = np.nan
    histories["gaps"] = subject.history()._replace(values=gaps)
    for name, history in histories.items():
        try:
            artifact = subject.batch.fit(subject.params, history, subject.seed)
        except FitError:
            assert name != "gaps", "gaps in a history are refused"
            continue
        one = subject.bare()
        assert isinstance(one, BatchDetector)
        one.adopt(0, artifact)
        for said in (
            one.step(*interleaved(subject.noise(1))),
            one.step(*interleaved(1e300 * subject.noise())),
        ):
            ready = said.ready
            assert np.isfinite(said.surprise[ready]).all(), f"fitted on {name}: a surprise is not finite"


BATCH_CHECKS: Final[tuple[Callable[[Subject], None], ...]] = (
    not_ready_without_an_artifact,
    adopting_again_changes_nothing,
    an_artifact_may_come_late,
    artifacts_survive_packing,
    foreign_artifacts_are_refused,
    fits_are_repeatable,
    fits_leave_their_history_alone,
    unusable_history_is_refused,
    any_finite_history_is_fitted_or_refused,
)


def _shapes(subject: Subject, samples: int = 0) -> dict[str, F64]:
    """Series (n,) that have broken detectors."""
    n = samples or subject.samples
    rng = np.random.default_rng(11)
    row = np.arange(n)
    return {
        "zeros": np.zeros(n),
        "constant": np.full(n, 42.5),
        "step": np.where(row < n // 2, 1.0, 1000.0),
        "spike": np.where(row == n // 2, 1e6, rng.normal(size=n)),
        "seasonal": _cycle(row) + rng.normal(size=n),
        "counts": rng.poisson(0.1, n).astype(np.float64),
        "tiny": 1e-300 * rng.normal(size=n),
        "huge": 1e308 * np.sign(rng.normal(size=n)),
        "one huge": np.where(row == n // 2, -1e308, rng.normal(size=n)),
    }


def _every(said: Scores, first: int, step: int) -> Scores:
    rows = slice(first, None, step)
    every = (None if column is None else column[rows] for column in said)
    return Scores(*every)  # type: ignore[arg-type]


def _joined(parts: list[Scores]) -> Scores:
    columns = zip(*parts, strict=True)
    joined = (None if column[0] is None else np.concatenate(column) for column in columns)
    return Scores(*joined)  # type: ignore[arg-type]


def _same(one: Scores, other: Scores, message: str) -> None:
    for name, a, b in zip(Scores._fields, one, other, strict=True):
        if a is None or b is None:
            if a is not b:
                raise AssertionError(f"{message}: {name} is there only once")
            continue
        same = np.array_equal(a, b, equal_nan=name not in {"ready", "hint"})
        if same:
            continue
        where = int(np.argwhere(~((a == b) | ((a != a) & (b != b))))[0][0])  # noqa: PLR0124 (NaN is NaN)
        raise AssertionError(f"{message}: {name}[{where}] is {a[where]} and {b[where]}")


def _bytes(detector: Detector) -> int:
    return sum(array.nbytes for array in detector.snapshot().values())
