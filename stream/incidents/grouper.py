"""Groups anomalies into incidents. Pure and deterministic: no clock, no I/O; same events, same ids.

Anomalies belong together when their series share a key (`config.Incidents`) and they overlap in time, with
`join_within_ms` to spare. What is open reaches as far as it was heard of, and `quiet_ms` beyond. All memory
is in the newest revision of each incident, so a grouper that has loaded them goes on as if nothing had
happened; an event that comes again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

import msgspec
import xxhash

from schemas import config
from schemas.event import AnomalyEvent, Kind, Severity, Status
from schemas.incident import Incident, Member

REMEMBERED: Final = 5_000
"""Incidents, the open ones always: partitions tell their anomalies out of step, in a replay by weeks, and one
told late should find those of its time. 5 KB each; more makes the start of a coordinator longer."""

_STILL: Final = {Kind.FLAT: "stands still", Kind.SILENCE: "is silent"}

NAMED: Final = 5
"""So many series stand in the reason of an incident; the others are counted."""

_RANK: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Place(NamedTuple):
    """Where a series belongs: by which rule, with what labels, under which keys."""

    group: str
    labels: dict[str, str]
    keys: list[str]


class Grouper:
    """The open incidents, and those closed last."""

    def __init__(self, cfg: config.Incidents, remembered: int = REMEMBERED) -> None:
        self._cfg, self._remembered = cfg, remembered
        self._incidents: dict[str, Incident] = {}
        self._by_anomaly: dict[str, str] = {}
        self._by_key: dict[str, set[str]] = {}
        self._forgotten: list[str] = []

    def __len__(self) -> int:
        return len(self._incidents)

    def open_incidents(self) -> list[Incident]:
        return [each for each in self._incidents.values() if each.ended_ms is None]

    def forgotten(self) -> list[str]:
        """Ids of the incidents that were forgotten since this was asked last."""
        found, self._forgotten = self._forgotten, []
        return found

    def load(self, incidents: Iterable[Incident]) -> None:
        """Take over what was told, in the order in which it was; a later revision replaces an earlier."""
        for each in incidents:
            known = self._incidents.get(each.incident_id)
            if known is None or each.revision > known.revision:
                self._keep(each)
        self._forget()

    def take(self, event: AnomalyEvent) -> list[Incident]:
        """The revisions that an anomaly event makes: none when it is muted or was taken before."""
        known = self._incidents.get(self._by_anomaly.get(event.anomaly_id, ""))
        before = _member_of(known, event.anomaly_id) if known is not None else None
        if before is not None and event.revision <= before.revision:
            return []
        if before is None and event.muted_by is not None:
            return []
        member = _member(event, before)
        told = self._join(event, member) if known is None else [self._with(known, member, event)]
        for each in told:
            self._keep(each)
        self._forget()
        return told

    def give_up(self, incident_id: str) -> Incident:
        """The revision that ends an open incident at what was heard of it last."""
        incident = self._incidents[incident_id]
        heard_ms = incident.detected_ms
        members = [
            msgspec.structs.replace(each, ended_ms=max(heard_ms, each.started_ms))
            if each.ended_ms is None
            else each
            for each in incident.members
        ]
        told = _told(incident, members, heard_ms)
        text = f"Closed by itself: nothing was heard of it after {_time(heard_ms)}. {told.reason}"
        told = msgspec.structs.replace(told, reason=text)
        self._keep(told)
        return told

    def _join(self, event: AnomalyEvent, member: Member) -> list[Incident]:
        """Into the oldest incident that it touches, which takes over the others."""
        place = self.place(event)
        near = set().union(*(self._by_key.get(key, set()) for key in place.keys))
        touched = sorted(
            (self._incidents[name] for name in near if self._touches(self._incidents[name], event, member)),
            key=lambda each: (each.started_ms, each.incident_id),
        )
        if not touched:
            return [_begin(event, member, place)]
        first, others = touched[0], touched[1:]
        others = [each for each in others if self._fits(len(first.members) + 1 + len(each.members))]
        members = [*first.members, *(m for each in others for m in each.members), member]
        keys = sorted({*first.keys, *place.keys, *(key for each in others for key in each.keys)})
        told = [_absorbed(each, first.incident_id, event.detected_ms) for each in others]
        return [*told, _told(msgspec.structs.replace(first, keys=keys), members, event.detected_ms)]

    def _with(self, incident: Incident, member: Member, event: AnomalyEvent) -> Incident:
        members = [member if m.anomaly_id == member.anomaly_id else m for m in incident.members]
        return _told(incident, members, event.detected_ms)

    def _touches(self, incident: Incident, event: AnomalyEvent, member: Member) -> bool:
        if not self._fits(len(incident.members) + 1):
            return False
        spare = self._cfg.join_within_ms
        return (
            member.started_ms <= self._reaches(incident.ended_ms, incident.detected_ms) + spare
            and incident.started_ms <= self._reaches(member.ended_ms, event.detected_ms) + spare
        )

    def _reaches(self, ended_ms: int | None, heard_ms: int) -> int:
        return ended_ms if ended_ms is not None else heard_ms + self._cfg.quiet_ms

    def _fits(self, members: int) -> bool:
        return members <= self._cfg.max_members

    def place(self, event: AnomalyEvent) -> Place:
        """The first group that selects the series, else `group_by`; without those labels it stands alone."""
        group, by = next(
            ((g.name, g.group_by) for g in self._cfg.groups if _selects(g, event)),
            ("default", self._cfg.group_by),
        )
        keys = [
            f"link\n{link.label}\n{number}"
            for number, link in enumerate(self._cfg.links)
            if event.labels.get(link.label) in link.values
        ]
        if not by or any(name not in event.labels for name in by):
            return Place("series", event.labels, [*keys, f"series\n{event.series}"])
        labels = {name: event.labels[name] for name in by}
        key = "\n".join([group, *(f"{name}={value}" for name, value in labels.items())])
        return Place(group, labels, [*keys, key])

    def _keep(self, incident: Incident) -> None:
        name = incident.incident_id
        self._incidents[name] = incident
        if incident.merged_into is not None:
            self._unlist(incident)
            return
        for key in incident.keys:
            self._by_key.setdefault(key, set()).add(name)
        for member in incident.members:
            self._by_anomaly[member.anomaly_id] = name

    def _unlist(self, incident: Incident) -> None:
        for key in incident.keys:
            named = self._by_key.get(key, set())
            named.discard(incident.incident_id)
            if not named:
                self._by_key.pop(key, None)

    def _forget(self) -> None:
        """The ones that ended first, a tenth at a time."""
        if len(self._incidents) <= self._remembered:
            return
        closed = [each for each in self._incidents.values() if each.ended_ms is not None]
        closed.sort(key=lambda each: (each.ended_ms or 0, each.incident_id))
        for each in closed[: max(1, self._remembered // 10)]:
            del self._incidents[each.incident_id]
            self._forgotten.append(each.incident_id)
            self._unlist(each)
            for member in each.members:
                if self._by_anomaly.get(member.anomaly_id) == each.incident_id:
                    del self._by_anomaly[member.anomaly_id]


def _selects(group: config.IncidentGroup, event: AnomalyEvent) -> bool:
    return any(fnmatchcase(event.metric, pattern) for pattern in group.metrics) and all(
        fnmatchcase(event.labels.get(name, ""), pattern) for name, pattern in group.labels.items()
    )


def _member_of(incident: Incident, anomaly_id: str) -> Member | None:
    return next((member for member in incident.members if member.anomaly_id == anomaly_id), None)


def _member(event: AnomalyEvent, before: Member | None) -> Member:
    """The values of its worst sample told so far; one that is muted now counts as ended."""
    worst = event if before is None or event.score >= event.peak_score else before
    ended_ms = event.ended_ms
    if event.muted_by is not None and ended_ms is None:
        ended_ms = event.detected_ms
    return Member(
        anomaly_id=event.anomaly_id,
        revision=event.revision,
        series=event.series,
        metric=event.metric,
        labels=event.labels,
        kind=event.kind,
        severity=event.severity,
        direction=event.direction,
        peak_score=event.peak_score,
        actual=worst.actual,
        expected=worst.expected,
        lower=worst.lower,
        upper=worst.upper,
        started_ms=event.started_ms,
        ended_ms=ended_ms,
        reason=event.reason,
    )


def _begin(event: AnomalyEvent, member: Member, place: Place) -> Incident:
    incident_id = _hash(f"incident\n{event.anomaly_id}")
    empty = Incident(
        event_id="",
        incident_id=incident_id,
        revision=0,
        status=Status.OPEN,
        group=place.group,
        labels=place.labels,
        severity=Severity.INFO,
        peak_score=0.0,
        started_ms=event.started_ms,
        detected_ms=event.detected_ms,
        ended_ms=None,
        title="",
        reason="",
        series=0,
        members=[],
        keys=place.keys,
    )
    return _told(empty, [member], event.detected_ms)


def _absorbed(incident: Incident, into: str, detected_ms: int) -> Incident:
    revision = incident.revision + 1
    return msgspec.structs.replace(
        incident,
        event_id=_hash(f"{incident.incident_id}\n{revision}"),
        revision=revision,
        status=Status.CLOSE,
        detected_ms=detected_ms,
        ended_ms=incident.ended_ms or detected_ms,
        reason=f"Part of incident {into}. {incident.reason}",
        merged_into=into,
    )


def _told(incident: Incident, members: list[Member], detected_ms: int) -> Incident:
    """The next revision, with these members."""
    ordered = sorted(members, key=lambda m: (m.started_ms, -m.peak_score, m.series))
    ends = [member.ended_ms for member in ordered]
    ended_ms = None if None in ends else max(end for end in ends if end is not None)
    revision = incident.revision + 1
    status = Status.CLOSE if ended_ms is not None else Status.OPEN if revision == 1 else Status.UPDATE
    severity = max((member.severity for member in ordered), key=_RANK.__getitem__)
    return msgspec.structs.replace(
        incident,
        event_id=_hash(f"{incident.incident_id}\n{revision}"),
        revision=revision,
        status=status,
        severity=severity,
        peak_score=max(member.peak_score for member in ordered),
        started_ms=ordered[0].started_ms,
        detected_ms=detected_ms,
        ended_ms=ended_ms,
        title=_title(incident.labels, ordered),
        reason=_reason(ordered, ended_ms),
        series=len({member.series for member in ordered}),
        members=ordered,
    )


def _hash(text: str) -> str:
    return xxhash.xxh128_hexdigest(text.encode())


def _title(labels: dict[str, str], members: list[Member]) -> str:
    root, others = members[0], len({m.series for m in members}) - 1
    where = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    more = f", and {others} more series moved" if others else ""
    return f"{where + ': ' if where else ''}{_moved(root)}{more}"


def _reason(members: list[Member], ended_ms: int | None) -> str:
    """Since when, what began it, how far out and how rare, and what else moved, the rarest first."""
    root = members[0]
    text = f"{_when(root.started_ms, ended_ms)}. First: {root.reason}."
    worst: dict[str, Member] = {}
    for member in members:
        if member.series != root.series and member.peak_score > worst.get(member.series, _NOBODY).peak_score:
            worst[member.series] = member
    rarest = sorted(worst.values(), key=lambda member: -member.peak_score)
    others = [f"{_moved(each)}{_against(each)}" for each in rarest]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        text += f" Also: {', '.join(others[:NAMED])}{more}."
    return text


_NOBODY: Final = msgspec.convert(
    {
        **dict.fromkeys(("anomaly_id", "series", "metric", "reason"), ""),
        **dict.fromkeys(("actual", "expected", "lower", "upper", "ended_ms")),
        "labels": {},
        "kind": "spike",
        "severity": "info",
        "direction": "both",
        "revision": 0,
        "peak_score": -1.0,
        "started_ms": 0,
    },
    Member,
)


def _moved(member: Member) -> str:
    how = _STILL.get(member.kind) or {"above": "is high", "below": "is low"}.get(
        member.direction, "is unusual"
    )
    return f"{member.metric} {how}"


def _against(member: Member) -> str:
    if member.actual is None or member.expected is None:
        return f" (score {member.peak_score:.1f})"
    return (
        f" ({member.actual:.4g}, expected {member.expected:.4g}{_outside(member)}, "
        f"score {member.peak_score:.1f})"
    )


def _outside(member: Member) -> str:
    """How far the worst told sample stood outside its band, in widths of the band."""
    if member.actual is None or member.lower is None or member.upper is None:
        return ""
    distance = max(member.actual - member.upper, member.lower - member.actual)
    width = member.upper - member.lower
    if distance <= 0 or width <= 0:
        return ""
    widths = distance / width
    return f", {widths:.{0 if widths >= 10 else 1}f} band widths outside"


def _when(started_ms: int, ended_ms: int | None) -> str:
    since = _time(started_ms)
    if ended_ms is None:
        return f"Since {since}"
    until = _time(ended_ms)
    if until == since:
        return f"At {since}"
    return f"From {since.removesuffix(' UTC')} to {until[11:] if until[:10] == since[:10] else until}"


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
