"""The contract of a detector as assertions: run it on your own class.

    from detectors.checks import Subject, check
    check(Subject(MyDetector, {"depth": 3}))

Each check is a function of a `Subject` and raises ``AssertionError`` with what was broken; `CHECKS` lists
them for a test runner. Nothing here needs a test framework.
"""

# ruff: noqa: S101 (assertions are what this module is for)
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import F64, I64, Bools, Detector, Scores

_STEP_MS = 300_000
_START_MS = 1_700_000_000_000


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

    def create(self, slots: int = 4) -> Detector:
        made = self.detector.create(self.params, self.seed)
        made.reserve(slots)
        return made

    def restore(self, state: Mapping[str, NDArray[Any]]) -> Detector:
        return self.detector.restore(self.params, self.seed, state)

    def noise(self, columns: int = 1) -> F64:
        """A daily cycle with noise, samples x columns."""
        cycle = 10 * np.sin(2 * np.pi * np.arange(self.samples) * _STEP_MS / 86_400_000)
        return 50 + cycle[:, None] + np.random.default_rng(7).normal(size=(self.samples, columns))


def check(subject: Subject) -> None:
    """Run all checks; raises at the first that fails."""
    for each in CHECKS:
        each(subject)


def interleaved(values: F64, slots: I64 | None = None) -> Batch:
    """The arguments of ``step`` for samples x columns, a column a slot, all learned."""
    samples, columns = values.shape
    names = np.arange(columns) if slots is None else slots
    ts_ms = _START_MS + _STEP_MS * np.repeat(np.arange(samples), columns)
    return Batch(np.tile(names, samples), ts_ms, values.ravel(), np.ones(values.size, np.bool_))


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
    """A restored detector scores on as if nothing had happened, and its snapshot is arrays, copied."""
    arrays = interleaved(subject.noise(3))
    for cut in (0, 30, len(arrays[0]) // 2, len(arrays[0]) - 30):
        one = subject.create()
        one.step(*arrays.rows(0, cut))
        state = dict(one.snapshot())
        for name, array in state.items():
            assert isinstance(array, np.ndarray), f"snapshot[{name!r}] is no array but {type(array)}"
            assert not array.dtype.hasobject, f"snapshot[{name!r}] holds Python objects"
        before = {name: array.copy() for name, array in state.items()}
        rest = one.step(*arrays.rows(cut))
        for name, array in state.items():
            assert array.tobytes() == before[name].tobytes(), f"snapshot[{name!r}] changed with a later step"
        again = subject.restore(state).step(*arrays.rows(cut))
        _same(rest, again, f"restored after {cut} samples, the scores differ")


def evicted_rows_leave_nothing_behind(subject: Subject) -> None:
    """A reused row scores as a new one."""
    values = subject.noise(2)
    used = subject.create()
    used.step(*interleaved(1e6 * values))
    used.evict(np.array([1]))
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
    disturbed.step(arrays.slots[:20], newest_ms, np.full(20, 1e4), np.zeros(20, np.bool_))
    rest = arrays.rows(half)
    _same(plain.step(*rest), disturbed.step(*rest), "a sample that was not to be learned was")


def finite_in_is_finite_out(subject: Subject) -> None:
    """Constant, step, spike, seasonal, count, tiny and huge series give finite scores and ordered bands."""
    for name, values in _shapes(subject).items():
        said = subject.create().step(*interleaved(values[:, None]))
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
    """The first samples are never judged, and a regular series is judged in the end."""
    ready = subject.create().step(*interleaved(subject.noise())).ready
    assert not ready[:8].any(), "ready within the first 8 samples"
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


def _shapes(subject: Subject) -> dict[str, F64]:
    n = subject.samples
    rng = np.random.default_rng(11)
    row = np.arange(n)
    return {
        "zeros": np.zeros(n),
        "constant": np.full(n, 42.5),
        "step": np.where(row < n // 2, 1.0, 1000.0),
        "spike": np.where(row == n // 2, 1e6, rng.normal(size=n)),
        "seasonal": subject.noise()[:, 0],
        "counts": rng.poisson(0.1, n).astype(np.float64),
        "tiny": 1e-300 * rng.normal(size=n),
        "huge": 1e308 * np.sign(rng.normal(size=n)),
        "one huge": np.where(row == n // 2, -1e308, rng.normal(size=n)),
    }


def _every(said: Scores, first: int, step: int) -> Scores:
    rows = slice(first, None, step)
    surprise, expected, lower, upper, ready = said[:5]
    hint = None if said.hint is None else said.hint[rows]
    return Scores(surprise[rows], expected[rows], lower[rows], upper[rows], ready[rows], hint)


def _joined(parts: list[Scores]) -> Scores:
    surprise, expected, lower, upper, ready = (
        np.concatenate(columns) for columns in zip(*(said[:5] for said in parts), strict=True)
    )
    hints = [said.hint for said in parts if said.hint is not None]
    return Scores(surprise, expected, lower, upper, ready, np.concatenate(hints) if hints else None)


def _same(one: Scores, other: Scores, message: str) -> None:
    for name, a, b in zip(Scores._fields, one, other, strict=True):
        if a is None or b is None:
            if a is not b:
                raise AssertionError(f"{message}: {name} is there only once")
            continue
        same = np.array_equal(a, b, equal_nan=name not in {"ready", "hint"})
        if same:
            continue
        where = int(np.flatnonzero(~((a == b) | ((a != a) & (b != b))))[0])  # noqa: PLR0124 (NaN is NaN)
        raise AssertionError(f"{message}: {name}[{where}] is {a[where]} and {b[where]}")


def _bytes(detector: Detector) -> int:
    return sum(array.nbytes for array in detector.snapshot().values())
