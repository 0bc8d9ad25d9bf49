"""Calibration of the two families of evidence: two learned tails for large, clusters for rare.

As in `detectors.calibrate` the score is 1.0 at the alert threshold. Anomalies cannot teach a tail: an excess
counts as at most a few means. A rare window stays rare for as long as it is in the features, so that what
matters is how often a cluster of rare samples comes, and how high its peak goes beyond the start: peaks over
threshold, declustered by runs (Leadbetter 1991), with a Lomax distribution as in `detectors.calibrate`. A
cluster is learned when it is over, never while it is judged.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from detectors.calibrate import DAY_MS, Calibrator, Tail
from detectors.protocol import F32, F64, Detector

TWO: Final = np.dtype(
    [
        ("learned", "u4"),
        ("start", "f4", (2,)),  # running quantiles of the evidence: where the tails begin
        ("excess", "f4", (2,)),  # mean excess above them
        ("excesses", "f4", (2,)),  # how many excesses that stands for, bounded
    ]
)
CLUSTER: Final = np.dtype(
    [
        ("samples", "f4"),  # and clusters among them, bounded
        ("clusters", "f4"),
        ("excess", "f4"),  # mean excess of the peaks of clusters
        ("peak", "f4"),  # of the cluster at hand, 0 without one
        ("quiet", "u4"),  # samples since it was beyond the start
    ]
)

_SHARE = (0.1, 0.02)  # of samples in each tail
_CLIP = (1.5, 2.0)  # means that an excess counts at most
_TRUSTED = 1.5  # but never less than this: of few distinct values (counts) most excesses are nearly 0
_START = (3.2, 4.8)
_PRIOR = 0.8  # mean excess
_PRIOR_EXCESSES = (20.0, 10.0)
_LEAST_EXCESS = 0.3  # a steeper tail is one of few distinct values: rare counts
_LEAST_P, _MOST_P = 1e-7, 0.02
_NEVER = 1e-200  # keeps divisions finite

_CLUSTER_START = 1.4  # rarity at which a cluster begins
_CLUSTER_LEAST = 1.8  # no threshold is lower: less is one feature alone
_CLUSTER_APART = 20  # samples below the start that end a cluster, about the length of the features
_CLUSTER_EXCESS = 1.0  # prior mean excess of a cluster's peak
_CLUSTER_WEIGHT = 4.0  # clusters that it stands for
_CLUSTER_EVERY = 1500.0  # prior samples from cluster to cluster
_CLUSTER_EVERY_WEIGHT = 2.0  # clusters
_CLUSTER_CLIP = 4.0  # means that an excess counts at most
_CLUSTER_MEMORY = 60_000.0  # samples after which what was counted is halved


def between_ms(budget: float, interval_ms: F32, exposure_ms: F32, score: F32) -> F64:
    """The time (n,) in which samples (n,) as rare as their scores say come about once, in milliseconds.

    The score is ``log p / log p_alert`` (`detectors.calibrate`), so ``p`` is ``p_alert ** score``;
    ``exposure_ms`` as in `detectors.protocol.Asked`. 0 where the interval is unknown.
    """
    p_alert = np.clip(budget * np.maximum(exposure_ms.astype(np.float64), 1000.0) / DAY_MS, _LEAST_P, _MOST_P)
    often = np.maximum(p_alert ** score.astype(np.float64), _NEVER)
    between: F64 = interval_ms / often
    return between


@njit(cache=True, nogil=True, inline="always")
def _minus_log_p_alert(budget: float, interval_ms: float) -> Any:
    return -np.log(min(max(budget * max(interval_ms, 1000.0) / DAY_MS, _LEAST_P), _MOST_P))


@njit(cache=True, nogil=True, inline="always")
def _minus_log_p(row: Any, evidence: float) -> Any:
    if evidence <= row.start[0]:
        return 0.0
    found = -np.log(_SHARE[0]) + (evidence - row.start[0]) / row.excess[0]
    if evidence > row.start[1]:
        found = min(found, -np.log(_SHARE[1]) + (evidence - row.start[1]) / row.excess[1])
    return found


@njit(cache=True, nogil=True, inline="always")
def _learn_tails(row: Any, evidence: float) -> None:
    step = 5.0 * row.excess[0] * max(0.001, 1.0 / (row.learned + 20.0))
    for e in range(2):
        share, clip = _SHARE[e], _CLIP[e]
        start, mean = float(row.start[e]), float(row.excess[e])
        start += step * (1.0 - share) if evidence > start else -step * share
        if evidence > start:
            limit = max(clip * mean, _TRUSTED)
            excess = min(evidence - start, limit) / (1.0 - np.exp(-limit / mean))
            mean += max(0.01, 1.0 / (row.excesses[e] + 1.0)) * (excess - mean)
            mean = max(mean, _LEAST_EXCESS)
            row.excesses[e] = np.float32(min(row.excesses[e] + 1.0, 1000.0))
        row.start[e], row.excess[e] = start, mean
    if row.learned < 0xFFFFFFFF:
        row.learned += np.uint32(1)


@njit(cache=True, nogil=True)
def _two_scores(  # type: ignore[no-untyped-def]
    rows, budget, slots, surprise, ready, learn, interval_ms, out
):
    for i in range(slots.shape[0]):
        out[i] = np.nan
        if not ready[i]:
            continue
        row = rows[slots[i]]
        if row.learned == 0:
            for e in range(2):
                row.start[e], row.excess[e], row.excesses[e] = _START[e], _PRIOR, _PRIOR_EXCESSES[e]
        out[i] = _minus_log_p(row, surprise[i]) / _minus_log_p_alert(budget, interval_ms[i])
        if learn[i]:
            _learn_tails(row, surprise[i])


@njit(cache=True, nogil=True, inline="always")
def _learn_cluster(row: Any, rarity: float) -> None:
    row.samples += np.float32(1.0)
    if rarity > _CLUSTER_START:
        row.peak = max(row.peak, np.float32(rarity))
        row.quiet = np.uint32(0)
        return
    row.quiet += np.uint32(1)
    if row.peak > 0.0 and row.quiet >= _CLUSTER_APART:
        weight = row.clusters + _CLUSTER_WEIGHT
        excess = min(row.peak - _CLUSTER_START, _CLUSTER_CLIP * row.excess) / (1.0 - np.exp(-_CLUSTER_CLIP))
        row.excess += np.float32((excess - row.excess) / (weight + 1.0))
        row.clusters += np.float32(1.0)
        row.peak = np.float32(0.0)
    if row.samples > _CLUSTER_MEMORY:
        row.samples *= np.float32(0.5)
        row.clusters *= np.float32(0.5)


@njit(cache=True, nogil=True)
def _cluster_scores(  # type: ignore[no-untyped-def]
    rows, budget, slots, surprise, ready, learn, interval_ms, out
):
    for i in range(slots.shape[0]):
        out[i] = np.nan
        if not ready[i]:
            continue
        row = rows[slots[i]]
        if row.samples == 0:
            row.excess = np.float32(_CLUSTER_EXCESS)
        samples = row.samples + _CLUSTER_EVERY_WEIGHT * _CLUSTER_EVERY
        often = (row.clusters + _CLUSTER_EVERY_WEIGHT) / samples
        weight = row.clusters + _CLUSTER_WEIGHT
        need = _minus_log_p_alert(budget, interval_ms[i]) + np.log(often)
        threshold = _CLUSTER_START + row.excess * weight * (np.exp(max(need, 0.0) / weight) - 1.0)
        out[i] = surprise[i] / max(threshold, _CLUSTER_LEAST)
        if learn[i]:
            _learn_cluster(row, surprise[i])


class TwoTails(Tail):
    """Scores of large evidence, 28 bytes a series: exponential tails, of which the heavier decides."""

    record = TWO
    kernel = staticmethod(_two_scores)


class Clusters(Tail):
    """Scores of rare evidence, 20 bytes a series: how often it comes in clusters, and how high they go."""

    record = CLUSTER
    kernel = staticmethod(_cluster_scores)


KINDS: Final[dict[str, type[Tail]]] = {"two_tails": TwoTails, "clusters": Clusters}


def tail_for(detector: Detector, budget: float) -> Tail:
    """What fits a detector's evidence: its ``tail`` says so where it has one."""
    return KINDS.get(getattr(detector, "tail", ""), Calibrator)(budget)
