"""Measure a detector on labelled series: NAB score, segment precision and recall, VUS-PR.

Arrays in, numbers out. Nothing here is used while detecting; `bench/quality.py` and
`tocsin backtest` share it, so both mean the same by a number.
"""

from detectors.evaluation.nab import (
    LOW_FN,
    LOW_FP,
    STANDARD,
    NabProfile,
    NabScore,
    NabTally,
    at_threshold,
    best,
    choice_left_out,
    leave_one_family_out,
    tally,
)
from detectors.evaluation.segments import (
    SegmentCounts,
    compare_segments,
    detection_delays,
    onset,
    runs,
    sum_counts,
)
from detectors.evaluation.vus import DEFAULT_BUFFER, vus_pr

__all__ = [
    "DEFAULT_BUFFER",
    "LOW_FN",
    "LOW_FP",
    "STANDARD",
    "NabProfile",
    "NabScore",
    "NabTally",
    "SegmentCounts",
    "at_threshold",
    "best",
    "choice_left_out",
    "compare_segments",
    "detection_delays",
    "leave_one_family_out",
    "onset",
    "runs",
    "sum_counts",
    "tally",
    "vus_pr",
]
