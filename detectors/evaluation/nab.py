"""The scoring of the Numenta Anomaly Benchmark: early flags earn, false flags cost.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms" (ICMLA 2015), as the
code of numenta/NAB (v1.1, `nab/sweeper.py`) computes it. A series becomes *steps*: what the
raw score gains or loses when the threshold falls to a given score. Steps of all series
added up give the raw score at every threshold in one sort.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PROBATION_RATIO: Final = 0.15
PROBATION_ROWS: Final = 750  # 15 % of the 5,000 rows beyond which NAB stops counting
SIGMOID_SLOPE: Final = 5.0
FAR: Final = 3.0  # window widths after a window; beyond, a false flag costs its full weight


@dataclass(frozen=True)
class NabProfile:
    """Weights of a true positive, a false positive and a missed window."""

    name: str
    tp: float
    fp: float
    fn: float


STANDARD: Final = NabProfile("standard", 1.0, 0.11, 1.0)
LOW_FP: Final = NabProfile("low FP", 1.0, 0.22, 1.0)
LOW_FN: Final = NabProfile("low FN", 1.0, 0.11, 2.0)


@dataclass(frozen=True)
class NabScore:
    """A normalised score (100 = perfect, 0 = silent) and the threshold that gave it."""

    score: float
    threshold: float


@dataclass(frozen=True)
class NabTally:
    """The steps of one series under one profile: at each `scores[i]`, raw changes by `gains[i]`."""

    scores: NDArray[np.float64]
    gains: NDArray[np.float64]
    windows: int
    profile: NabProfile

    def raw_at(self, threshold: float) -> float:
        """Raw score above the silent detector's, flagging rows with score >= threshold."""
        return float(self.gains[self.scores >= threshold].sum())


def tally(
    scores: NDArray[np.float64],
    windows: Sequence[tuple[int, int]] | NDArray[np.int64],
    profile: NabProfile = STANDARD,
) -> NabTally:
    """Turn the row scores of one series into steps of its raw NAB score.

    `windows` are half-open row ranges, ascending and disjoint. Rows in probation (the first
    15 %, at most 750) and rows with a score that is not above 0 never count as flagged.
    """
    n = len(scores)
    probation = min(int(PROBATION_RATIO * n), PROBATION_ROWS)
    outside = np.ones(n, dtype=np.bool_)
    outside[:probation] = False
    step_scores, step_gains = [], []
    for start, end in windows:
        outside[start:end] = False
        at, gain = _window_steps(scores, int(start), int(end), probation, profile)
        step_scores.append(at)
        step_gains.append(gain)
    cost = _false_flag_cost(n, windows) * profile.fp
    step_scores.append(scores[outside])
    step_gains.append(-cost[outside])
    at, gain = np.concatenate(step_scores), np.concatenate(step_gains)
    counts = at > 0.0
    return NabTally(at[counts], gain[counts], len(windows), profile)


def _window_steps(
    scores: NDArray[np.float64], start: int, end: int, probation: int, profile: NabProfile
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps of one window: only rows that beat all earlier rows can be the earliest flag."""
    inside = scores[max(start, probation) : end]
    if len(inside) == 0:
        return np.empty(0), np.empty(0)
    before = np.concatenate(([-np.inf], np.maximum.accumulate(inside)[:-1]))
    records = np.flatnonzero(inside > before)
    width = float(end - start)
    offset = records.astype(np.float64) + (len(scores[start:end]) - len(inside))
    position = offset / width - 1.0
    weight = _sigmoid(position) / _sigmoid(np.array([-1.0]))[0] * profile.tp
    later = np.concatenate((weight[1:], [-profile.fn]))
    return inside[records], weight - later


def _false_flag_cost(n: int, windows: Sequence[tuple[int, int]] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Cost of a flag per row, in units of the false-positive weight (1 = far from a window)."""
    cost = np.ones(n)
    ends = [int(end) for _, end in windows] + [n]
    for (start, end), following in zip(windows, ends[1:], strict=True):
        rows = np.arange(int(end), following)
        distance = (rows - (int(end) - 1)) / max(int(end - start) - 1, 1)
        cost[rows] = np.where(distance > FAR, 1.0, -_sigmoid(distance))
    return cost


def _sigmoid(y: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 2.0 / (1.0 + np.exp(SIGMOID_SLOPE * y)) - 1.0
    return result


def best(tallies: Iterable[NabTally]) -> NabScore:
    """Return the score at the one threshold for all series that scores best (the protocol)."""
    some = list(tallies)
    at = np.concatenate([t.scores for t in some])
    gain = np.concatenate([t.gains for t in some])
    order = np.argsort(-at, kind="stable")
    at, raw = at[order], np.cumsum(gain[order])
    last_of_tie = np.append(at[1:] != at[:-1], True)[: len(at)]
    at, raw = at[last_of_tie], raw[last_of_tie]
    if len(raw) == 0 or raw.max() <= 0.0:
        return NabScore(0.0, np.inf)
    top = int(np.argmax(raw))
    return NabScore(100.0 * float(raw[top]) / _span(some), float(at[top]))


def at_threshold(tallies: Iterable[NabTally], threshold: float) -> NabScore:
    """Return the score at a threshold chosen beforehand, such as the shipped 1.0."""
    some = list(tallies)
    raw = sum(t.raw_at(threshold) for t in some)
    return NabScore(100.0 * raw / _span(some), threshold)


def leave_one_family_out(families: Mapping[str, Sequence[NabTally]]) -> NabScore:
    """Score each family at the threshold that is best on the others; the threshold is NaN."""
    everything = [t for tallies in families.values() for t in tallies]
    raw = 0.0
    for name, tallies in families.items():
        others = [t for other, ts in families.items() if other != name for t in ts]
        threshold = best(others).threshold
        raw += sum(t.raw_at(threshold) for t in tallies)
    return NabScore(100.0 * raw / _span(everything), np.nan)


def choice_left_out(choices: Sequence[Mapping[str, Sequence[NabTally]]], threshold: float) -> NabScore:
    """Score each family at the choice (say, a setting of a detector) that is best on the other families.

    Every choice holds the same families, judged at the same threshold.
    """
    raw, kept = 0.0, []
    for name in choices[0]:
        gains = [
            sum(t.raw_at(threshold) for other, ts in families.items() if other != name for t in ts)
            for families in choices
        ]
        chosen = choices[int(np.argmax(gains))][name]
        kept += list(chosen)
        raw += sum(t.raw_at(threshold) for t in chosen)
    return NabScore(100.0 * raw / _span(kept), threshold)


def _span(tallies: Sequence[NabTally]) -> float:
    """Distance from the silent detector (fn per window) to the perfect one (tp per window)."""
    return float(sum(t.windows * (t.profile.tp + t.profile.fn) for t in tallies)) or np.nan
