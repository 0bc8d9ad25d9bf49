"""Commands as people write them: what is wrong with one, and mutes as spans of event time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from detectors.mutes import Muted
from schemas.control import Command, Label, Mute, Refresh
from schemas.matcher import Matcher

FOREVER_MS: Final = 253_402_300_800_000  # the end of the year 9999
MOST_SPANS: Final = 1_000
"""Repetitions that are known beforehand: a weekly window for 19 years. More would slow look-ups."""


MAX_TS_MS: Final = 10_413_791_999_999
"""The end of the year 2299, the last time that ClickHouse holds."""


def check(command: Command) -> None:
    """Raises ``ValueError`` that says what is wrong with a command that nobody can follow."""
    times: list[int | None] = [command.at_ms]
    if isinstance(command, Mute):
        times += [command.start_ms, command.end_ms, *command.except_ms]
    elif isinstance(command, Label):
        times += [command.started_ms, command.ended_ms]
    if not all(0 <= (ts_ms or 0) <= MAX_TS_MS for ts_ms in times):
        raise ValueError("a time is outside 1970 to 2299")
    if isinstance(command, Mute):
        Matcher.parse(command.matcher)
        spans(command)
    elif isinstance(command, Refresh):
        Matcher.parse(command.series)


def muted(mute: Mute) -> Muted:
    """What an engine needs to know; ``ValueError`` tells what is wrong with a mute."""
    return Muted(mute.mute_id, mute.matcher, tuple(spans(mute)), mute.learn)


def spans(mute: Mute) -> list[tuple[int, int]]:
    """``(start_ms, end_ms)`` of the mute and its repetitions, in order.

    Repetitions (RFC 5545) keep the wall clock of the time zone: a window from 2 to 4 o'clock is that in
    summer, too. Raises ``ValueError`` for a rule or zone that cannot be read, or an end before the start.
    """
    end_ms = FOREVER_MS if mute.end_ms is None else mute.end_ms
    if end_ms <= mute.start_ms:
        raise ValueError("the mute ends before it starts")
    if not mute.repeat:
        return [(mute.start_ms, end_ms)]
    if mute.end_ms is None:
        raise ValueError("a mute that repeats needs an end: it is how long each repetition lasts")
    left_out = set(mute.except_ms)
    starts = [start for start in _starts(mute) if start not in left_out]
    return [(start, start + mute.end_ms - mute.start_ms) for start in starts]


def _starts(mute: Mute) -> list[int]:
    try:
        zone = ZoneInfo(mute.timezone)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{mute.timezone!r} is no time zone; write an IANA name such as Europe/Berlin"
        ) from None
    first = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=mute.start_ms)).astimezone(zone)
    try:
        rule = rrulestr(mute.repeat, dtstart=first)
        found = [round(at.timestamp() * 1000) for at, _ in zip(rule, range(MOST_SPANS), strict=False)]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"repeat {mute.repeat!r} is no recurrence rule such as FREQ=WEEKLY;BYDAY=SU: {error}"
        ) from None
    return sorted({mute.start_ms, *found})
