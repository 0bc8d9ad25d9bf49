"""Fewer samples for a display, with all that the eye looks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxLTTBDownsampler


def keep(values: NDArray[np.float64], always: NDArray[np.bool_], at_most: int) -> NDArray[np.int64]:
    """Which samples to draw, in order: about ``at_most`` that keep the shape and the extremes
    (MinMaxLTTB, Van Der Donckt et al. 2023), and those that are to be drawn ``always``.
    """
    n = len(values)
    if n <= at_most:
        return np.arange(n)
    filled = np.where(np.isfinite(values), values, np.nanmean(values) if np.isfinite(values).any() else 0.0)
    chosen = MinMaxLTTBDownsampler().downsample(  # type: ignore[no-untyped-call]
        np.ascontiguousarray(filled), n_out=max(at_most, 4)
    )
    return np.union1d(chosen.astype(np.int64), np.flatnonzero(always)[:at_most])
