"""Rates of counters that somebody looks at now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Final

SPAN_S: Final = 30.0
"""Rates are means over so long; longer hides a stop, shorter shows every batch."""

APART_S: Final = 1.0
"""Looks nearer to each other than this tell no rate."""

Counts = Mapping[Hashable, float]


class Rates:
    """What counters rose by each second, in about the last `SPAN_S`; remembers at most a look a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, Counts]] = deque()

    def of(self, counts: Counts) -> dict[Hashable, float | None]:
        """None for a counter that was not there before, or has begun anew since."""
        now = self._clock()
        while len(self._looks) > 1 and self._looks[1][0] <= now - SPAN_S:
            self._looks.popleft()
        if not self._looks or now - self._looks[-1][0] >= APART_S:
            self._looks.append((now, counts))
        since, before = self._looks[0]
        return {key: _rate(before.get(key), count, now - since) for key, count in counts.items()}


def _rate(before: float | None, now: float, seconds: float) -> float | None:
    return None if before is None or now < before or seconds < APART_S else (now - before) / seconds
