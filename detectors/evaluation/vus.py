"""VUS-PR: ranking quality of a continuous score that forgives a small shift of the label.

Paparrizos et al., "Volume Under the Surface" (PVLDB 15(11), 2022), as the reference code
(TheDatumOrg/VUS, `RangeAUC_volume`; TSB-AD) computes it: labels get square-root ramps of half
a buffer on both sides, precision and recall are weighed by them, recall is multiplied by the
share of segments touched, and the area is averaged over every buffer from 0 to `buffer`.

Differences that change only speed: thresholds' sums come from one cumulative sum in score
order, and segments are judged by their maximum, so a buffer costs O(n) instead of O(250 n).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.segments import runs

# TSB-AD's default. The older TSB-UAD estimates it per series from the autocorrelation, which
# makes numbers of different series, and of one series at two lengths, incomparable.
DEFAULT_BUFFER: Final = 100
THRESHOLDS: Final = 250  # equally spaced ranks, as in the reference


def vus_pr(scores: NDArray[np.float64], labels: NDArray[np.bool_], buffer: int = DEFAULT_BUFFER) -> float:
    """Return the volume under the range-PR surface, in [0, 1]; NaN without labelled rows."""
    if not labels.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ranks = np.linspace(0, len(scores) - 1, THRESHOLDS).astype(np.int64)
    flagged = np.searchsorted(-ranked, -ranked[ranks], side="right")
    areas = [
        _average_precision(scores, labels, window, order, ranked[ranks], flagged)
        for window in range(buffer + 1)
    ]
    return float(np.mean(areas))


def _average_precision(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    window: int,
    order: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    flagged: NDArray[np.int64],
) -> float:
    """Area under the range-PR curve for one buffer."""
    soft = soften(labels, window)
    true = np.cumsum(soft[order])[flagged - 1]
    positives = (labels.sum() + soft.sum()) / 2.0
    peaks = np.sort([scores[start:end].max() for start, end in runs(soft > 0.0)])
    touched = (len(peaks) - np.searchsorted(peaks, thresholds, side="left")) / len(peaks)
    recall = np.concatenate(([0.0], np.minimum(true / positives, 1.0) * touched))
    return float(np.sum(np.diff(recall) * true / flagged))


def soften(labels: NDArray[np.bool_], window: int) -> NDArray[np.float64]:
    """Extend each labelled segment by ramps sqrt(1 - distance / window) of window // 2 rows."""
    soft = labels.astype(np.float64)
    half = window // 2
    for start, end in runs(labels):
        last = int(end) - 1
        after = np.arange(last, min(last + half, len(soft)))
        soft[after] += np.sqrt(1.0 - (after - last) / max(window, 1))
        before = np.arange(max(int(start) - half, 0), int(start))
        soft[before] += np.sqrt(1.0 - (int(start) - before) / max(window, 1))
    return np.minimum(soft, 1.0)
