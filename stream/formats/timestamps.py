"""Times as producers write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

MILLISECONDS_FROM: Final = 100_000_000_000
"""A number above this is milliseconds: as seconds it would be the year 5138, as milliseconds 1973."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def to_ms(ts: float | str) -> int:
    """Unix milliseconds of Unix seconds, milliseconds, or ISO 8601 text (UTC when it names no zone).

    Raises ``ValueError`` for anything else, NaN and infinity included. A fraction of a millisecond is cut
    off from milliseconds and rounded from seconds.
    """
    if isinstance(ts, str):
        return _text_to_ms(ts)
    if isinstance(ts, float) and not math.isfinite(ts):
        raise ValueError(f"{ts} is not a time")
    return int(ts) if ts > MILLISECONDS_FROM else round(ts * 1000)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as ``2026-01-31T23:59:59.999Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_to_iso(ms: int) -> str:
    """`iso` of Unix milliseconds."""
    return iso(_EPOCH + ms * _MS)


def _text_to_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MS
