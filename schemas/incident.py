"""Incidents: anomalies that belong together, told in revisions from open to close."""

from __future__ import annotations

import msgspec

from schemas.event import Direction, Kind, Severity, Status


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """An anomaly of an incident as it was told last; fields as in `schemas.event.AnomalyEvent`.

    ``ended_ms`` is null while it is open. ``peak_score`` is 1.0 at the alert threshold.
    """

    anomaly_id: str
    revision: int
    series: str
    metric: str
    labels: dict[str, str]
    kind: Kind
    severity: Severity
    direction: Direction
    peak_score: float
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    started_ms: int
    ended_ms: int | None
    reason: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of one incident, on `tocsin.incidents` keyed by ``incident_id``, as JSON.

    The topic is compacted: the newest revision of each incident is the memory of the coordinator.
    ``incident_id`` is a hash of the anomaly that began it, ``event_id`` of that and the revision. An incident
    closes with its last open member. One that begins soon after (`incidents.join_within_ms`) opens it again:
    an ``update`` with ``ended_ms`` null follows the ``close``.

    ``group`` names the rule by which the members belong together, ``labels`` is what they share by it.
    ``members`` stand in order of likely cause: by start, those at one time by score; the first is the root
    candidate. ``series`` counts the distinct ones. ``keys`` is for the grouper.
    """

    event_id: str
    incident_id: str
    revision: int
    status: Status
    group: str
    labels: dict[str, str]
    severity: Severity
    peak_score: float
    started_ms: int
    detected_ms: int
    ended_ms: int | None
    title: str
    reason: str
    series: int
    members: list[Member]
    keys: list[str]
    merged_into: str | None = None
