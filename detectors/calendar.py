"""Local clocks and days off, as arrays: made from the zone and holiday data that come with Python packages.

A local clock never goes back: in the hour that autumn repeats it stands at the end of that hour, so that the
hour is learned as the hour it is and detectors see times in order.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from detectors.protocol import I64, Bools
from schemas.config import Policy

DAY_MS: Final = 86_400_000
_YEARS: Final = range(1980, 2081)  # outside it the clock is that of the nearest end, and no day is a holiday
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WEEK: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Calendar(NamedTuple):
    """A clock and its days off; ``changes_ms`` (UTC) has one entry fewer than ``offsets_ms``."""

    changes_ms: I64
    offsets_ms: I64
    days_off: Bools  # of the week, Monday first
    holidays: I64  # days since 1970, sorted

    @classmethod
    def of(cls, policy: Policy) -> Calendar:
        """Raises ``ValueError`` that names a zone, country or day that does not exist."""
        changes, offsets = clock_changes(policy.timezone)
        off = np.array([day in policy.weekend for day in _WEEK], np.bool_)
        listed = [(date.fromisoformat(day) - date(1970, 1, 1)).days for day in policy.holidays]
        public = public_holidays(policy.country)
        return cls(changes, offsets, off, np.unique(np.array([*listed, *public], np.int64)))

    def local_ms(self, ts_ms: I64) -> I64:
        """Times by the local clock, as milliseconds since 1970-01-01 there; never less than before."""
        at = np.searchsorted(self.changes_ms, ts_ms, side="right")
        local = ts_ms + self.offsets_ms[at]
        before = np.concatenate(([np.iinfo(np.int64).min], self.changes_ms + self.offsets_ms[:-1] - 1))[at]
        held: I64 = np.maximum(local, before)
        return held

    def off(self, local_ms: I64) -> Bools:
        """Whether these local times lie in days off."""
        days = local_ms // DAY_MS
        found: Bools = self.days_off[(days + 3) % 7] | np.isin(days, self.holidays)
        return found

    @property
    def has_days_off(self) -> bool:
        return bool(self.days_off.any()) or len(self.holidays) > 0


@lru_cache(maxsize=64)
def clock_changes(name: str) -> tuple[I64, I64]:
    """When the offset of a zone changes, and its offsets, found by halving the weeks in which it does.

    Raises ``ValueError`` for a zone that does not exist.
    """
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; write an IANA name such as Europe/Berlin") from None

    def offset_ms(at_ms: int) -> int:
        shift = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).utcoffset()
        return 0 if shift is None else round(shift.total_seconds() * 1000)

    weeks = range(_ms(_YEARS.start), _ms(_YEARS.stop), 7 * DAY_MS)
    changes: list[int] = []
    offsets = [offset_ms(weeks.start)]
    for low, high in pairwise(weeks):
        if offset_ms(high) == offsets[-1]:
            continue
        before, after = low, high
        while after - before > 1000:
            middle = (before + after) // 2000 * 1000
            before, after = (middle, after) if offset_ms(middle) == offsets[-1] else (before, middle)
        changes.append(after)
        offsets.append(offset_ms(high))
    return np.array(changes, np.int64), np.array(offsets, np.int64)


def _ms(year: int) -> int:
    return round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000


@lru_cache(maxsize=64)
def public_holidays(country: str) -> tuple[int, ...]:
    """Days since 1970 that are public holidays; raises ``ValueError`` for a country that nobody knows."""
    if not country:
        return ()
    import holidays  # noqa: PLC0415  # 0.2 s, and only some configurations name a country

    code, _, part = country.partition("-")
    try:
        found = holidays.country_holidays(code, subdiv=part or None, years=_YEARS)
    except NotImplementedError:
        raise ValueError(f"there are no holidays for {country!r}; write DE, DE-BY or US-CA") from None
    return tuple((day - date(1970, 1, 1)).days for day in found)
