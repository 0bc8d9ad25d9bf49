"""AER as published, to look back at a range that is over: it is fitted on the range that it judges.

Wong et al. (arXiv 2212.13558), with the numbers of Orion 0.7.1. Scale, thresholds, smoothing and overlapping
windows all see what comes later, so nothing here may judge a stream: for that there is `detectors.aer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.aer import AerDetector, Params, Prepared
from detectors.aer_kernel import WINDOW
from detectors.batch import Artifact, FitError, Grid, History, require
from detectors.evaluation import runs
from detectors.protocol import F32, F64, I64, Bools

Combination = Literal["mult", "sum", "reg", "rec"]
_SMOOTHING: Final = 0.01  # of the windows; as much at the begin is masked
_MOST_SMOOTHED: Final = 200  # of the reconstruction
_WARP: Final = 11  # samples that are warped
_PART: Final = 0.33  # of the scores share a threshold
_STEP: Final = 0.1  # of such a part to the next
_DEVIATIONS: Final = 4.0
_PADDING: Final = 50  # rows on each side of what is above the threshold
_LEAST_FALL: Final = 0.13  # of a peak to the next


class Interval(NamedTuple):
    """Rows ``first`` to ``last``, both inside, and how far their peak is above the threshold."""

    first: int
    last: int
    severity: float


class LookedBack(NamedTuple):
    """The means of each interval, (n,), with their scores, and the intervals that are anomalous.

    ``score`` is in thresholds: from 1.0 on, a row is above one that it shares with its surroundings.
    """

    ts_ms: I64
    values: F64
    score: F64
    intervals: list[Interval]

    def flags(self, ts_ms: I64) -> Bools:
        """Whether samples at these times are inside of an interval."""
        row = np.searchsorted(self.ts_ms, ts_ms, side="right") - 1
        flags = np.zeros(len(ts_ms), np.bool_)
        for each in self.intervals:
            flags |= (row >= each.first) & (row <= each.last)
        return flags


def look_back(
    params: Mapping[str, Any], histories: Sequence[History], seed: int
) -> list[LookedBack | FitError]:
    """What is anomalous in each history; a `FitError` where it makes no model.

    Parameters are those of `detectors.aer.Params`, and ``combination`` (``mult``) of the errors and
    ``interval_ms`` of which means are taken (0: the usual distance of samples).
    """
    from detectors.aer_training import Scaled, train  # noqa: PLC0415  # torch

    given = dict(params)
    how, interval_ms = given.pop("combination", "mult"), given.pop("interval_ms", 0)
    if how not in get_args(Combination):
        raise ValueError(f"aer: combination is {', '.join(get_args(Combination))}, not {how!r}")
    if not isinstance(interval_ms, int) or not 0 <= interval_ms <= 86_400_000:
        raise ValueError(f"aer: interval_ms is a whole number from 0 to 86400000, not {interval_ms!r}")
    read = Params.read(given)
    prepared = [Prepared.tried(each, read.max_windows, interval_ms) for each in histories]
    usable = [Scaled(each.scaled, each.starts) for each in prepared if isinstance(each, Prepared)]
    weights = iter(train(usable, read.epochs, seed, read.stack, read.device))
    return [
        each if isinstance(each, FitError) else _looked_back(each.scaled, each.grid, next(weights), how)
        for each in prepared
    ]


def look_back_with(artifact: Artifact, history: History) -> LookedBack:
    """The same with a network that was fitted before, on another history.

    Raises `FitError` where this history has too few samples, or none that differ, and ``ValueError`` for
    an artifact of another detector or version.
    """
    require(AerDetector(), artifact)
    facts = artifact.facts
    prepared = Prepared.of(history, WINDOW)
    scaled = prepared.scaled_as(float(facts["low"]), float(facts["half"]))
    return _looked_back(scaled, prepared.grid, artifact.arrays["weights"], "mult")


def _looked_back(scaled: F32, grid: Grid, weights: F32, how: Combination) -> LookedBack:
    """About 0.15 ms a sample on a core."""
    from detectors.aer_training import unfolded  # noqa: PLC0415  # torch

    windows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(scaled, WINDOW))
    score = scores(windows, unfolded(weights, windows), how)
    ts_ms = grid.first_ms + grid.interval_ms * np.arange(len(score), dtype=np.int64)
    return LookedBack(ts_ms, grid.values[:, 0], in_thresholds(score), intervals(score))


def scores(windows: F32, said: F32, how: Combination) -> F64:
    """A score for each row, from all windows (n, 100) of the rows and what the network says of them."""
    masked = int(_SMOOTHING * len(windows))
    regression = _regression(windows, said, masked)
    reconstruction = np.zeros(len(regression))
    reconstruction[1:-1] = _reconstruction(windows[:, 1:-1], said[:, 1:-1], masked)
    match how:
        case "reg":
            return regression
        case "rec":
            return reconstruction
        case "sum":
            return 0.5 * _ranged(regression) + 0.5 * _ranged(reconstruction)
        case "mult":
            return (1.0 + _ranged(regression)) * (1.0 + _ranged(reconstruction))


def _ranged(array: F64) -> F64:
    """From 0 to 1."""
    low, high = array.min(), array.max()
    ranged: F64 = (array - low) / (high - low if high > low else 1.0)
    return ranged


def _regression(windows: F32, said: F32, masked: int) -> F64:
    """Smoothed errors of both directions, their mean where there are both."""
    span = max(1, masked)
    off = np.abs(windows - said).astype(np.float64)
    forward, reverse = _smoothed(off[:, -1], span), _smoothed(off[:, 0], span)
    forward[:masked] = 0.0
    reverse[:masked] = reverse.min()
    before = np.zeros(WINDOW - 1)
    total = np.concatenate((before, forward)) + np.concatenate((reverse, before))
    total[WINDOW - 1 + masked : 1 - WINDOW] /= 2.0
    return total


@njit(cache=True, nogil=True)
def _smoothed(off: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """The exponential mean with ``alpha = 2 / (span + 1)``, weights normalised from the begin on."""
    keep = 1.0 - 2.0 / (span + 1.0)
    out = np.empty_like(off)
    total = weight = 0.0
    for i in range(len(off)):
        total, weight = off[i] + keep * total, 1.0 + keep * weight
        out[i] = total / weight
    return out


def _reconstruction(windows: F32, said: F32, masked: int) -> F64:
    """How far the reconstruction, the median over all windows of a row, must be warped; smoothed."""
    true = np.concatenate((windows[:, 0], windows[-1, 1:])).astype(np.float64)
    error = _warped(true, _medians(said), _WARP)
    smoothed = _centred(error, max(1, min(masked, _MOST_SMOOTHED)))
    smoothed[:masked] = smoothed.min()
    return smoothed


@njit(cache=True, nogil=True)
def _medians(said: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row, the median of what the windows over it say."""
    windows, length = said.shape
    out = np.empty(windows + length - 1)
    some = np.empty(length)
    for row in range(len(out)):
        count = 0
        for at in range(max(0, row - windows + 1), min(row + 1, length)):
            some[count] = said[row - at, at]
            count += 1
        out[row] = np.median(some[:count])
    return out


@njit(cache=True, nogil=True)
def _warped(true, said, length):  # type: ignore[no-untyped-def]
    """Dynamic time warping distance of ``length`` rows, zeros at both ends.

    As published it stands half a length behind the middle of these rows; smoothing hides that.
    """
    half, n = length // 2, len(true)
    padded, other = np.zeros(n + 2 * half), np.zeros(n + 2 * half)
    padded[half : half + n], other[half : half + n] = true, said
    out = np.zeros(n)
    cost = np.empty((length + 1, length + 1))
    for first in range(n - length):
        cost[:] = np.inf
        cost[0, 0] = 0.0
        for i in range(length):
            for j in range(length):
                off = padded[first + i] - other[first + j]
                least = min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
                cost[i + 1, j + 1] = off * off + least
        out[first + half] = np.sqrt(cost[length, length])
    return out


def _centred(array: F64, width: int) -> F64:
    """Means of ``width`` rows around each, of fewer at the ends."""
    total = np.concatenate(([0.0], np.cumsum(array)))
    row = np.arange(len(array))
    end = np.minimum(row + (width - 1) // 2 + 1, len(array))
    begin = np.maximum(row + (width - 1) // 2 + 1 - width, 0)
    means: F64 = (total[end] - total[begin]) / (end - begin)
    return means


def _parts(rows: int) -> Iterator[slice]:
    """Thirds of the rows that overlap; the last ends with the rows."""
    size = int(np.ceil(rows * _PART))
    begin = end = 0
    while end < rows:
        end = begin + size
        yield slice(begin, min(end, rows))
        begin += int(np.ceil(size * _STEP))


def _threshold(score: F64) -> float:
    return float(score.mean() + _DEVIATIONS * score.std())


def in_thresholds(score: F64) -> F64:
    """Each score in the least threshold of the parts that it is in."""
    least = np.full(len(score), np.inf)
    for part in _parts(len(score)):
        least[part] = np.minimum(least[part], _threshold(score[part]))
    ratio: F64 = score / np.maximum(least, 1e-12)
    return ratio


def intervals(score: F64) -> list[Interval]:
    """Rows far above the mean of a third of the scores around them, padded, pruned and joined."""
    found: list[Interval] = []
    for part in _parts(len(score)):
        found += _of_part(score[part], part.start)
    return _joined(sorted(found))


def _of_part(score: F64, begin: int) -> list[Interval]:
    threshold, usual = _threshold(score), float(score.mean() + score.std())
    near = np.zeros(len(score), np.bool_)
    for row in np.flatnonzero(score > threshold).tolist():
        near[max(row - _PADDING, 0) : row + _PADDING + 1] = True
    some = sorted(((float(score[a:b].max()), int(a), int(b)) for a, b in runs(near)), reverse=True)
    rest = float(score[~near].max()) if not near.all() else 0.0
    peaks = np.array([each[0] for each in some] + [rest])
    apart = np.flatnonzero((peaks[:-1] - peaks[1:]) >= _LEAST_FALL * peaks[:-1])
    kept = some[: int(apart[-1]) + 1] if len(apart) else []
    return [Interval(begin + a, begin + b - 1, (peak - threshold) / usual) for peak, a, b in kept]


def _joined(found: list[Interval]) -> list[Interval]:
    """Intervals that touch become one, its severity their mean by length."""
    groups: list[list[Interval]] = []
    last = -2
    for each in found:
        if each.first > last + 1:
            groups.append([])
            last = each.last
        groups[-1].append(each)
        last = max(last, each.last)
    return [
        Interval(
            group[0].first,
            max(each.last for each in group),
            float(np.average([g.severity for g in group], weights=[g.last - g.first + 1 for g in group])),
        )
        for group in groups
    ]
