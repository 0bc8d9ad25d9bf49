"""When a mute holds: its repetitions by RFC 5545, and what makes a command one that can be followed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from schemas.control import Command, Label, Mute, Refresh
from schemas.matcher import Matcher

MAX_TS_MS: Final = 10_413_791_999_999
"""The end of the year 2299, the last that ClickHouse holds."""

_PARTS: Final = re.compile(r"(?:[A-Z]+=[A-Z0-9,+-]+)(?:;[A-Z]+=[A-Z0-9,+-]+)*")
_TOO_OFTEN: Final = re.compile(r"FREQ=(?:SECONDLY|MINUTELY)|BYSECOND=|BYMINUTE=")
_LOCAL_UNTIL: Final = re.compile(r"UNTIL=(\d{8})(?:T(\d{6}))?(?=;|$)")


def check(command: Command) -> None:
    """Raises ``ValueError`` that says what is wrong with a command that cannot be followed."""
    if isinstance(command, Mute):
        _check_mute(command)
    elif isinstance(command, Refresh):
        Matcher.parse(command.series)
    elif isinstance(command, Label):
        _check_times(command.started_ms, command.ended_ms)
    _check_times(command.at_ms, None)


def _check_mute(mute: Mute) -> None:
    Matcher.parse(mute.matcher)
    _check_times(mute.start_ms, mute.end_ms)
    for ts_ms in mute.except_ms:
        _check_times(ts_ms, None)
    if mute.end_ms is not None and mute.end_ms <= mute.start_ms:
        raise ValueError("it ends before it begins")
    if not mute.repeat:
        _zone(mute)
    elif mute.end_ms is None:
        raise ValueError("one that repeats needs an end: how long it lasts each time")
    else:
        _rule(mute)


def spans(mute: Mute, from_ms: int, until_ms: int) -> list[tuple[int, int]]:
    """When it holds, as ``[start, end)`` in milliseconds, as far as that meets ``[from_ms, until_ms)``.

    In order of the starts; repetitions that overlap stay apart. Microseconds without a repetition, with one
    about 10 us for each since the mute began.
    """
    if mute.end_ms is None:
        found = [(mute.start_ms, until_ms)]
    elif not mute.repeat:
        found = [(mute.start_ms, mute.end_ms)]
    else:
        lasts_ms = mute.end_ms - mute.start_ms
        zone = _zone(mute)
        times = _rule(mute).between(_at(from_ms - lasts_ms, zone), _at(until_ms, zone), inc=True)
        starts = {mute.start_ms, *(int(time.timestamp() * 1000) for time in times)} - set(mute.except_ms)
        found = [(start, start + lasts_ms) for start in sorted(starts)]
    return [(start, end) for start, end in found if start < until_ms and end > from_ms]


def _rule(mute: Mute) -> rrule:
    """By the local clock of the mute: each repetition begins at the same time of the day."""
    if not _PARTS.fullmatch(mute.repeat):
        raise ValueError(f"{mute.repeat!r} is not a rule such as FREQ=WEEKLY;BYDAY=SU")
    if _TOO_OFTEN.search(mute.repeat):
        raise ValueError("it repeats more often than hourly: write one mute that lasts")
    zone = _zone(mute)

    def in_utc(found: re.Match[str]) -> str:
        local = datetime.strptime(found[1] + (found[2] or "235959"), "%Y%m%d%H%M%S").replace(tzinfo=zone)
        return f"UNTIL={local.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    start = _at(mute.start_ms, zone)
    found: rrule = rrulestr(_LOCAL_UNTIL.sub(in_utc, mute.repeat), dtstart=start)
    return found


def _zone(mute: Mute) -> ZoneInfo:
    try:
        return ZoneInfo(mute.timezone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {mute.timezone!r}") from None


def _at(ts_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(ts_ms / 1000, zone)


def _check_times(first_ms: int, last_ms: int | None) -> None:
    if not all(0 <= ts_ms <= MAX_TS_MS for ts_ms in (first_ms, last_ms or 0)):
        raise ValueError("a time is outside 1970 to 2299")
