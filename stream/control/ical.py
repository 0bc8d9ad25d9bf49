"""Maintenance windows from an iCalendar file (RFC 5545) as mutes."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from icalendar import Calendar

from schemas.control import Mute
from stream.control import muting
from stream.errors import UserError


class Window(NamedTuple):
    """What all mutes of one import share; ``timezone`` is that of times without one."""

    matcher: str
    timezone: str
    learn: bool
    by: str
    at_ms: int


def mutes(text: bytes, window: Window) -> list[Mute]:
    """A mute for each event that is not cancelled; an import of the same file gives the same ids.

    An event moved out of its series (RECURRENCE-ID) is a mute of its own and left out of the series. Raises
    `UserError` that names the event that cannot be read.
    """
    try:
        events: list[Any] = Calendar.from_ical(text).walk("VEVENT")
    except (ValueError, IndexError) as error:
        raise UserError(f"the file is no iCalendar: {error}") from None
    moved: dict[str, list[Any]] = {}
    for each in events:
        if "RECURRENCE-ID" in each:
            moved.setdefault(str(each.get("UID")), []).append(each["RECURRENCE-ID"].dt)
    found = []
    for each in events:
        if str(each.get("STATUS", "")).upper() == "CANCELLED":
            continue
        name = str(each.get("SUMMARY", "")) or str(each.get("UID", "an event"))
        try:
            exceptions = [] if "RECURRENCE-ID" in each else moved.get(str(each.get("UID")), [])
            mute = _mute(each, exceptions, name, window)
            muting.check(mute)
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"event {name!r}: {error}") from None
        found.append(mute)
    return found


def _mute(event: Any, moved: list[Any], name: str, window: Window) -> Mute:
    first = event["DTSTART"].dt
    zone = _zone(first, window.timezone)
    start, end = _moment(first, zone), _moment(_end(event, first), zone)
    identity = f"{event.get('UID')}\n{event['RECURRENCE-ID'].dt if 'RECURRENCE-ID' in event else ''}"
    mute_id = hashlib.sha256(f"{identity}\n{window.matcher}".encode()).hexdigest()[:12]
    return Mute(
        command_id=f"{mute_id}-{window.at_ms}",
        at_ms=window.at_ms,
        by=window.by,
        why=name[:1000],
        mute_id=mute_id,
        matcher=window.matcher,
        start_ms=_ms(start),
        end_ms=_ms(end),
        repeat=_rule(event, zone),
        except_ms=sorted(_ms(_moment(each, zone)) for each in [*_left_out(event), *moved]),
        timezone=str(zone),
        learn=window.learn,
        origin="calendar",
    )


def _end(event: Any, first: date) -> Any:
    if "DTEND" in event:
        return event["DTEND"].dt
    if "DURATION" in event:
        return first + event["DURATION"].dt
    if isinstance(first, datetime):
        raise ValueError("it has neither DTEND nor DURATION, so it lasts for no time")  # noqa: TRY004
    return first + timedelta(days=1)


def _rule(event: Any, zone: ZoneInfo) -> str:
    """The rule with its end in UTC, as the library that reads it wants."""
    if "RRULE" not in event:
        return ""
    if isinstance(event["RRULE"], list):
        raise ValueError("it has several rules; write an event for each")  # noqa: TRY004
    rule = event["RRULE"].copy()
    if "UNTIL" in rule:
        (until,) = rule["UNTIL"]
        last = until if isinstance(until, datetime) else datetime.combine(until, time.max)
        rule["UNTIL"] = [_moment(last.replace(microsecond=0), zone).astimezone(UTC)]
    text: str = rule.to_ical().decode()
    return text


def _left_out(event: Any) -> list[Any]:
    found = event.get("EXDATE", [])
    return [each.dt for dates in (found if isinstance(found, list) else [found]) for each in dates.dts]


def _zone(first: date, otherwise: str) -> ZoneInfo:
    """The zone of the event's start by its IANA name; a fixed or unnamed one is taken as UTC."""
    if not isinstance(first, datetime) or first.tzinfo is None:
        return ZoneInfo(otherwise)
    if first.utcoffset() == timedelta(0) and not isinstance(first.tzinfo, ZoneInfo):
        return ZoneInfo("UTC")
    if isinstance(first.tzinfo, ZoneInfo):
        return first.tzinfo
    raise ValueError(f"its time zone {first.tzinfo} has no IANA name")


def _moment(value: date, zone: ZoneInfo) -> datetime:
    if not isinstance(value, datetime):
        return datetime.combine(value, time.min, tzinfo=zone)
    return value.replace(tzinfo=zone) if value.tzinfo is None else value


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
