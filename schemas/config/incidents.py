"""Anomalies that belong together, and who is told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from schemas.config.base import Ms, Name, Section, Text


class NotifyTarget(Section, frozen=True):
    """A receiver of notifications."""

    name: Annotated[Name, Meta(description="Its label in metrics and its name in the log.")]
    url: Annotated[str, Meta(pattern=r"^https?://", description="Of Alertmanager: .../api/v2/alerts.")]
    what: Annotated[
        Literal["anomalies", "incidents"],
        Meta(description="Each anomaly by itself, or those that belong together as one incident."),
    ] = "anomalies"
    kind: Annotated[
        Literal["webhook", "alertmanager"], Meta(description="Which of the shipped templates is posted.")
    ] = "webhook"
    template: Annotated[
        str, Meta(description="A file with a Jinja2 template that gives JSON, instead of the shipped one.")
    ] = ""
    headers: Annotated[dict[str, str], Meta(description="Sent along; secrets as ${ENV}.")] = {}
    min_severity: Literal["info", "warning", "critical"] = "info"
    updates: Annotated[bool, Meta(description="Send also what is told between open and close.")] = True


class Notify(Section, frozen=True):
    """The process that relays anomalies to webhooks and Alertmanager."""

    group_id: Name = "tocsin-notify"
    targets: Annotated[list[NotifyTarget], Meta(description="Each gets every event.")] = []
    start_from: Annotated[
        Literal["earliest", "latest"], Meta(description="Where a group without committed offsets begins.")
    ] = "latest"
    timeout_ms: Annotated[Ms, Meta(description="Of one request.")] = 10_000
    deadline_ms: Annotated[
        Ms,
        Meta(description="A message is tried for this long, then given up: a log line and a metric."),
    ] = 300_000
    retry_max_ms: Annotated[Ms, Meta(description="Longest pause between tries.")] = 15_000


class IncidentGroup(Section, frozen=True):
    """Series that belong together in a way of their own, such as the key metrics of a service."""

    name: Name
    group_by: Annotated[list[Text], Meta(min_length=1, description="Labels whose values must agree.")]
    metrics: Annotated[list[Text], Meta(min_length=1, description="Patterns as of file names.")] = field(
        default_factory=lambda: ["*"]
    )
    labels: Annotated[dict[str, str], Meta(description="Label to pattern; all must fit.")] = {}


class IncidentLink(Section, frozen=True):
    """Topology: series whose label has one of these values belong together."""

    values: Annotated[list[Text], Meta(min_length=2)]
    label: Text = "service"


class Incidents(Section, frozen=True):
    """Which anomalies become one incident: those that share labels and overlap in time."""

    group_by: Annotated[
        list[Text],
        Meta(description="Series with the same values of these labels; without one of them it stands alone."),
    ] = field(default_factory=lambda: ["service"])
    groups: Annotated[
        list[IncidentGroup], Meta(description="The first that selects a series wins over group_by.")
    ] = []
    links: Annotated[list[IncidentLink], Meta(description="Beyond that, what belongs together.")] = []
    join_within_ms: Annotated[
        Ms, Meta(description="An anomaly that begins this long after the end of an incident still joins it.")
    ] = 300_000
    quiet_ms: Annotated[
        Ms,
        Meta(
            description="An open anomaly counts as going on for this long after it was heard of; beyond, "
            "others do not join it. It is told again at least every engine.update_every_samples."
        ),
    ] = 21_600_000
    max_members: Annotated[
        int, Meta(ge=1, le=1000, description="Beyond it further anomalies begin another incident.")
    ] = 100
    stale_ms: Annotated[
        Ms,
        Meta(
            description="An open incident of which nothing was heard for this long, by the time of the "
            "samples, closes by itself and says so: its series is gone, or the state of a worker was lost. "
            "Keep it above quiet_ms and what engine.update_every_samples samples take."
        ),
    ] = 86_400_000
    session_timeout_ms: Annotated[
        Ms,
        Meta(
            description="A coordinator silent for this long is succeeded by one that stands by; brokers "
            "refuse less than 6000 (`group.min.session.timeout.ms`)."
        ),
    ] = 6_000
    group_id: Annotated[Name, Meta(description="Under it the offsets of the incident process are kept.")] = (
        "tocsin-incidents"
    )


class Changes(Section, frozen=True):
    """What a record of the topic of changes does."""

    mute_minutes: Annotated[
        int, Meta(ge=0, le=10_080, description="A change mutes its series this long; 0 mutes nothing.")
    ] = 15
    learn: Annotated[bool, Meta(description="Whether the models learn meanwhile.")] = True
