"""Episodes: one anomaly from open to close, instead of a run of flagged samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.ensemble import Verdict
from detectors.protocol import F32, F64, I64, Bools, Hint, State
from detectors.rows import Rows, grown
from detectors.silence import FORGOTTEN
from schemas.config import Engine

OPEN, UPDATE, CLOSE = 1, 2, 3
SPIKE, DIP, SHIFT, PATTERN, DRIFT, SPREAD, FLAT = 1, 2, 3, 4, 5, 6, 7

EPISODE: Final = np.dtype(
    [
        ("open", "u4"),
        ("revision", "u4"),
        ("samples", "u4"),
        ("quiet", "u4"),  # samples in a row below the lower threshold
        ("inside", "u4"),  # samples in a row inside the band from before it began
        ("told", "u4"),  # samples since the last revision
        ("outside", "u4"),  # hot samples outside the band
        ("above", "u4"),  # samples beyond half of the band from before it began
        ("below", "u4"),
        ("hint", "u4"),  # `Hint` of the sample that opened it
        ("started_ms", "i8"),
        ("hot_ms", "i8"),  # newest hot sample
        ("worst", "f8"),  # value with the peak score, and what was expected then
        ("worst_expected", "f4"),
        ("worst_lower", "f4"),
        ("worst_upper", "f4"),
        ("peak", "f4"),
        ("lower", "f4"),  # the band when it began: what was normal
        ("upper", "f4"),
        ("expected", "f4"),
        ("memory", "f4"),  # the last alert, fading: a new one must exceed it
        ("newest_ms", "i8"),
        ("waiting_ms", "i8"),  # start of what may become an anomaly, and its samples so far
        ("waiting", "u4"),
        ("excused", "u4"),  # a person called it false or expected
        ("value", "f8"),  # newest sample while it is open
        ("score", "f4"),
        ("borrowed", "u4"),  # whether it was opened on the word of its siblings
    ]
)

TOLD: Final = np.dtype(
    [
        ("position", "i8"),  # which sample caused it
        ("slot", "i8"),
        ("started_ms", "i8"),
        ("detected_ms", "i8"),
        ("ended_ms", "i8"),  # 0 while open
        ("actual", "f8"),
        ("score", "f4"),
        ("peak", "f4"),
        ("expected", "f4"),
        ("lower", "f4"),
        ("upper", "f4"),
        ("worst", "f8"),  # of the sample with the peak score
        ("worst_expected", "f4"),
        ("worst_lower", "f4"),
        ("worst_upper", "f4"),
        ("revision", "u4"),
        ("samples", "u4"),
        ("status", "u1"),
        ("kind", "u1"),
        ("adopted", "u1"),
        ("borrowed", "u1"),
        ("week", "u1"),  # whether it was opened for a part of the week that is not as before
        ("left", "u1"),  # the series ended, not the anomaly: `GONE` or `FORGOTTEN`, else 0
    ]
)
LEAVING: Final = np.dtype([("position", "i8"), ("slot", "i8"), ("at_ms", "i8"), ("state", "u1")])
"""Before which sample a series is taken as gone, or forgotten; its open anomaly ends with it."""

_QUIET: Final = np.float32(0.85)  # hysteresis: an anomaly opens at 1.0 and is quiet below this
_MEMORY_MS = 86_400_000.0  # e-fold of what the last alert leaves
_EXCUSED: Final = np.float32(1.25)
_LASTING: Final = np.uint32(32)  # an anomaly this long is told as a shift while it is open
_SETTLED: Final = np.uint32(24)  # quiet samples beyond the old band after which the level is the new normal
_SWINGS: Final = np.uint32(2)  # samples beyond half of the old band on each side: it is the spread that grew
_VALUE, _VARIES = np.uint32(Hint.VALUE), np.uint32(Hint.SPREAD)
_DRIFTS, _HOUR, _STANDS = np.uint32(Hint.DRIFT), np.uint32(Hint.PATTERN), np.uint32(Hint.FLAT)
_WEEK = np.uint32(Hint.WEEK)
_HEARD = 0.5  # a detector with a lower score gives no hint


class Episodes:
    """The state machine of each series; 152 bytes a series and 4 a detector.

    Opens at a score of 1.0 that exceeds what the last alert left in memory, which fades in event time by
    e-fold a day: what repeats is told once. Where a policy asks for more than one sample, opens when as many
    in a row are beyond 0.85 and outside their band: what rings in the window after a spike does not last.
    Quiet below 0.85; closes after ``close_after`` quiet samples in a row that are back inside the band from
    before it began, or as the new normal: after 24 quiet samples, the last of them outside that band, or
    after ``max_duration`` samples. Until then nobody knows whether it is a shift or a long spike. It also
    closes when its series is taken as gone or is forgotten, so that nobody waits for its end for ever.
    """

    def __init__(self, config: Engine) -> None:
        self._limits = (
            config.close_after_samples,
            config.max_duration_samples,
            config.update_every_samples,
        )
        self._rows = Rows(EPISODE)
        self.peaks: F32 = np.zeros((0, len(config.detectors)), np.float32)

    def reserve(self, slots: int) -> None:
        self._rows.reserve(slots)
        self.peaks = grown(self.peaks, slots)

    def advance(
        self,
        position: I64,
        slots: I64,
        ts_ms: I64,
        values: F64,
        counts: Bools,
        verdict: Verdict,
        scores: F32,
        hints: NDArray[np.uint8],
        certain: Bools,
        rules: NDArray[np.uint8],
        borrowed: Bools,
        least: I64,
        leaving: NDArray[Any],
    ) -> tuple[I64, NDArray[Any], F32]:
        """Take *n* samples in order, of which those with ``counts`` can open or close.

        ``position`` increases: it numbers the samples for ``leaving`` (`LEAVING`, in order) and in what is
        told. ``certain`` samples open whatever the last alert was, those with ``rules`` (`Hint.FLAT`,
        `Hint.WEEK`) because of what no detector says, ``borrowed`` ones by the scale of siblings; ``least``
        is how many samples an anomaly needs.
        What is forgotten leaves an empty row.

        Returns the start of the open anomaly after each sample (0 for none), records of `TOLD`, and for
        each record the peak score of every detector in its episode.
        """
        n = len(slots)
        started = np.zeros(n, np.int64)
        told = np.empty(n + len(leaving), TOLD)
        spoke = np.empty((len(told), self.peaks.shape[1]), np.float32)
        rows = self._rows.array
        lines = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
        found = _advance(
            rows, lines, self.peaks, *self._limits, position, slots, ts_ms, values, counts, verdict.score,
            verdict.expected, verdict.lower, verdict.upper, scores, hints,
            certain, rules, borrowed, least, leaving, started, told, spoke,
        )  # fmt: skip
        return started, told[:found], spoke[:found]

    def excuse(self, slot: int) -> None:
        """Let the newest anomaly of a slot be remembered as if it had been a quarter stronger."""
        row = self._rows.array[slot]
        row["memory"] = max(row["memory"], _EXCUSED * row["peak"])
        row["excused"] = 1

    @property
    def open_count(self) -> int:
        return int(np.count_nonzero(self._rows.array["open"][: self._rows.slots]))

    def open_slots(self) -> I64:
        """The slots with an open anomaly, highest peak first."""
        rows = self._rows.array[: self._rows.slots]
        found = np.flatnonzero(rows["open"])
        return found[np.argsort(-rows["peak"][found], kind="stable")]

    def row(self, slot: int) -> np.void:
        """The record of `EPISODE` of a slot."""
        found: np.void = self._rows.array[slot]
        return found

    @property
    def row_bytes(self) -> int:
        return self._rows.row_bytes + 4 * int(self.peaks.shape[1])

    def snapshot(self) -> State:
        return {"rows": self._rows.snapshot(), "peaks": self.peaks[: self._rows.slots]}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._rows.load(state["rows"])
        self.peaks = state["peaks"].copy()


@njit(cache=True, nogil=True, inline="always")
def _fresh(row: Any, ts_ms: int, score: float) -> Any:
    """Whether a score exceeds the faded memory, which it then becomes."""
    gap_ms = min(max(float(ts_ms - row.newest_ms), 0.0), 1e12)
    row.newest_ms = max(row.newest_ms, ts_ms)
    row.memory = np.float32(row.memory * np.exp(-gap_ms / _MEMORY_MS))
    if score > row.memory:
        row.memory = np.float32(score)
        return True
    return False


@njit(cache=True, nogil=True, inline="always")
def _opens(row: Any, ts_ms: int, score: float, fresh: bool, outside: bool, least: int) -> Any:
    """Whether a closed series opens with this sample; one that waits goes on while it is not quiet."""
    if row.waiting == 0:
        if not (fresh and score >= 1.0):
            return False
        row.waiting_ms = ts_ms
    elif score < _QUIET or not outside:
        row.waiting = np.uint32(0)
        return False
    row.waiting += np.uint32(1)
    if row.waiting < least:
        return False
    row.waiting = np.uint32(0)
    return True


@njit(cache=True, nogil=True, inline="always")
def _begin(row: Any, ts_ms: int, expected: float, lower: float, upper: float) -> None:
    row.open = np.uint32(1)
    row.inside = np.uint32(0)
    row.revision = row.samples = row.quiet = row.told = np.uint32(0)
    row.outside = row.above = row.below = row.hint = row.excused = np.uint32(0)
    row.started_ms = ts_ms
    row.peak = np.float32(0.0)
    row.expected = expected
    row.lower = lower
    row.upper = upper


@njit(cache=True, nogil=True, inline="always")
def _away(row: Any, value: float) -> Any:
    """Whether a value is beyond the band from before the anomaly began."""
    return value > row.upper or value < row.lower


@njit(cache=True, nogil=True, inline="always")
def _count(row: Any, ts_ms: int, value: float, score: float, band: tuple[float, float, float]) -> None:
    """One more sample of an open anomaly."""
    row.inside = np.uint32(0) if _away(row, value) else row.inside + np.uint32(1)
    half = 0.5 * max(row.upper - row.expected, row.expected - row.lower)
    row.above += np.uint32(value > row.expected + half)
    row.below += np.uint32(value < row.expected - half)
    row.samples += np.uint32(1)
    row.told += np.uint32(1)
    row.value, row.score = value, score
    if score > row.peak:
        row.peak = score
        row.worst = value
        row.worst_expected, row.worst_lower, row.worst_upper = band
    if score < _QUIET:
        row.quiet += np.uint32(1)
        return
    row.quiet = np.uint32(0)
    row.hot_ms = ts_ms
    row.outside += np.uint32(value < band[1] or value > band[2])


@njit(cache=True, nogil=True, inline="always")
def _kind(row: Any, value: float, adopted: bool) -> Any:
    if row.hint >= _STANDS:  # `Hint.FLAT` or `Hint.WEEK`
        return FLAT if row.hint == _STANDS else PATTERN
    swings = min(row.above, row.below)
    if swings >= _SWINGS or (row.hint == _VARIES and (swings > 0 or row.outside == 0)):
        return SPREAD
    if row.hint == _DRIFTS:
        return DRIFT
    if adopted or (_away(row, value) and (row.samples >= _LASTING or row.quiet > 0)):
        return PATTERN if row.hint == _HOUR else SHIFT
    if row.outside == 0 and row.hint != _VALUE:
        return PATTERN
    above = row.worst > row.worst_upper or row.worst >= row.worst_expected
    return SPIKE if above else DIP


@njit(cache=True, nogil=True, inline="always")
def _loudest(scores: Any, hints: Any) -> Any:
    """The hint of the detector with the largest score among those that have one."""
    found, most = np.uint8(0), np.float32(_HEARD)
    for d in range(scores.shape[0]):
        if hints[d] > 0 and scores[d] > most:
            found, most = hints[d], scores[d]
    return found


@njit(cache=True, nogil=True, inline="always")
def _tell(  # type: ignore[no-untyped-def]
    record, row, slot, position, status, at_ms, expected, lower, upper, adopted, left
):
    """Write the record of an anomaly as it stands after its newest sample."""
    record.position, record.slot, record.status = position, slot, status
    record.started_ms, record.detected_ms, record.ended_ms = row.started_ms, at_ms, 0
    record.actual, record.score, record.peak = row.value, row.score, row.peak
    record.expected, record.lower, record.upper = expected, lower, upper
    record.worst, record.worst_expected = row.worst, row.worst_expected
    record.worst_lower, record.worst_upper = row.worst_lower, row.worst_upper
    record.revision, record.samples = row.revision, row.samples
    record.kind = _kind(row, row.value, adopted)
    record.adopted, record.left, record.borrowed = adopted, left, row.borrowed
    record.week = row.hint == _WEEK
    if status == CLOSE:
        record.ended_ms = at_ms if adopted else row.hot_ms
        row.open = np.uint32(0)
    row.revision += np.uint32(1)
    row.told = np.uint32(0)


@njit(cache=True, nogil=True)
def _leave(rows, lines, peaks, leaving, told, spoke, found):  # type: ignore[no-untyped-def]
    """Close what is open of a series that is no more; returns how many records there are now."""
    slot = leaving.slot
    row = rows[slot]
    if row.open == 1:
        at_ms = max(leaving.at_ms, row.newest_ms)
        _tell(
            told[found], row, slot, leaving.position, CLOSE, at_ms, row.expected, row.lower, row.upper,
            False, leaving.state,
        )  # fmt: skip
        spoke[found] = peaks[slot]
        found += 1
    row.waiting = np.uint32(0)
    if leaving.state == FORGOTTEN:
        lines[slot, :] = np.uint8(0)
        peaks[slot, :] = np.float32(0.0)
    return found


@njit(cache=True, nogil=True)
def _advance(  # type: ignore[no-untyped-def]
    rows, lines, peaks, close_after, max_duration, update_every, position, slots, ts_ms, values, counts,
    score, expected, lower, upper, scores, hints, certain, rules, borrowed, least, leaving, started, told,
    spoke,
):  # fmt: skip
    found = left = 0
    for i in range(slots.shape[0]):
        while left < leaving.shape[0] and leaving[left].position <= position[i]:
            found = _leave(rows, lines, peaks, leaving[left], told, spoke, found)
            left += 1
        slot = slots[i]
        row = rows[slot]
        status = 0
        adopted = False
        fresh = counts[i] and (_fresh(row, ts_ms[i], score[i]) or certain[i])
        outside = rules[i] > 0 or values[i] < lower[i] or values[i] > upper[i]
        if counts[i] and (row.open == 1 or _opens(row, ts_ms[i], score[i], fresh, outside, least[i])):
            if row.open == 0:
                _begin(row, row.waiting_ms, expected[i], lower[i], upper[i])
                row.hint = np.uint32(rules[i] if rules[i] > 0 else _loudest(scores[:, i], hints[:, i]))
                row.borrowed = np.uint32(borrowed[i])
                peaks[slot, :] = np.float32(0.0)
                status = OPEN
            _count(row, ts_ms[i], values[i], score[i], (expected[i], lower[i], upper[i]))
            for d in range(peaks.shape[1]):
                if scores[d, i] > peaks[slot, d]:  # noqa: PLR1730 (max() would take a NaN)
                    peaks[slot, d] = scores[d, i]
            moves_again = row.hint == _STANDS and row.quiet >= close_after
            settled = row.quiet >= max(close_after, _SETTLED) and not moves_again
            adopted = row.samples >= max_duration or (settled and _away(row, values[i]))
            if adopted or settled or moves_again or min(row.quiet, row.inside) >= close_after:
                status = CLOSE
            elif row.told >= update_every and row.samples > 1:
                status = UPDATE
        if status != 0:
            _tell(
                told[found], row, slot, position[i], status, ts_ms[i], expected[i], lower[i], upper[i],
                adopted, 0,
            )  # fmt: skip
            spoke[found] = peaks[slot]
            found += 1
        started[i] = row.started_ms if row.open == 1 else 0
    for j in range(left, leaving.shape[0]):
        found = _leave(rows, lines, peaks, leaving[j], told, spoke, found)
    return found
