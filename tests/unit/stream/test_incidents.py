"""Anomalies that share labels and overlap in time become one incident."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import config
from schemas.event import AnomalyEvent, Direction, Kind, Severity, Spoke, Status
from schemas.incident import Incident
from schemas.series import Series
from stream.incidents.grouper import Grouper

START_MS = 1_760_000_000_000
MINUTE = 60_000


def event(
    metric: str, start: int, end: int | None = None, service: str = "shop", **more: Any
) -> AnomalyEvent:
    """An anomaly between two minutes; with an end it is the second revision, the close."""
    labels = {"service": service}
    text = Series(metric, labels).text()
    made = AnomalyEvent(
        event_id=f"{text}{start}{end}",
        anomaly_id=f"{text}{start}",
        revision=1 if end is None else 2,
        status=Status.OPEN if end is None else Status.CLOSE,
        series=text,
        series_id="1",
        metric=metric,
        labels=labels,
        kind=Kind.SPIKE,
        severity=Severity.WARNING,
        direction=Direction.ABOVE,
        score=1.5,
        peak_score=1.5,
        actual=9.0,
        expected=5.0,
        lower=4.0,
        upper=6.0,
        started_ms=START_MS + start * MINUTE,
        detected_ms=START_MS + (start if end is None else end) * MINUTE,
        ended_ms=None if end is None else START_MS + end * MINUTE,
        samples=1,
        detectors=[Spoke("large", 1, 1.5)],
        reason=f"{metric} is 9, above its band",
    )
    return msgspec.structs.replace(made, **more)


def told(grouper: Grouper, *events: AnomalyEvent) -> list[Incident]:
    return [incident for each in events for incident in grouper.take(each)]


def of_service(event: AnomalyEvent, service: str) -> AnomalyEvent:
    """The same anomaly on a series of another service."""
    labels = {"service": service}
    text = Series(event.metric, labels).text()
    return msgspec.structs.replace(
        event,
        event_id=f"{event.event_id}{service}",
        anomaly_id=f"{event.anomaly_id}{service}",
        series=text,
        labels=labels,
    )


FAULT = [
    event("web_response", 0),
    event("throughput", 1),
    event("apdex", 1, peak_score=3.0),
    event("error", 2),
]
ENDS = [
    event("throughput", 1, 8),
    event("web_response", 0, 9),
    event("apdex", 1, 9, peak_score=3.0),
    event("error", 2, 12),
]


def test_a_fault_of_a_service_is_one_incident_from_open_to_close() -> None:
    said = told(Grouper(config.Incidents()), *FAULT, *ENDS)
    assert len({incident.incident_id for incident in said}) == 1
    assert [incident.revision for incident in said] == list(range(1, 9))
    assert [said[0].status, said[3].status, said[-1].status] == [Status.OPEN, Status.UPDATE, Status.CLOSE]
    last = said[-1]
    assert [member.metric for member in last.members] == ["web_response", "apdex", "throughput", "error"]
    assert (last.series, last.labels) == (4, {"service": "shop"})
    assert last.ended_ms == START_MS + 12 * MINUTE
    assert last.title == "service=shop: web_response is high, and 3 more series moved"
    assert "1.5 band widths outside" in last.reason
    assert "error is high (9, expected 5, 1.5 band widths outside, score " in last.reason


def test_services_and_times_apart_are_incidents_apart() -> None:
    said = told(Grouper(config.Incidents()), event("a", 0, 1), event("b", 0, service="bank"), event("c", 30))
    assert len({incident.incident_id for incident in said}) == 3


def test_an_anomaly_soon_after_the_end_opens_the_incident_again() -> None:
    said = told(Grouper(config.Incidents()), event("a", 0, 1), event("a", 4))
    assert [(incident.status, incident.revision) for incident in said] == [("close", 1), ("update", 2)]
    assert said[1].ended_ms is None


def test_a_muted_anomaly_makes_no_incident_and_leaves_the_one_it_is_in() -> None:
    grouper = Grouper(config.Incidents())
    assert not told(grouper, *(msgspec.structs.replace(each, muted_by="m") for each in FAULT))
    said = told(grouper, event("a", 0), event("a", 0, revision=2, muted_by="m"))
    assert [incident.status for incident in said] == [Status.OPEN, Status.CLOSE]


def test_a_grouper_that_has_loaded_what_was_told_goes_on_as_if_nothing_had_happened() -> None:
    events = [*FAULT, *ENDS, event("a", 14), event("b", 15, service="bank")]
    whole = told(Grouper(config.Incidents()), *events)
    for cut in range(len(events)):
        first = told(Grouper(config.Incidents()), *events[:cut])
        again = Grouper(config.Incidents())
        again.load(first)
        assert first + told(again, *events) == whole  # and those that come again change nothing


def test_linked_services_are_one_incident_and_what_joins_two_merges_them() -> None:
    link = config.IncidentLink(values=["shop", "bank"])
    said = told(Grouper(config.Incidents(links=[link])), event("a", 0), event("b", 1, service="bank"))
    assert said[-1].series == 2
    group = config.IncidentGroup(name="all", metrics=["bridge"], group_by=["service"])
    links = [config.IncidentLink(label="metric_of", values=["x", "y"])]
    grouper = Grouper(config.Incidents(groups=[group], links=links))
    both = event("c", 2, labels={"service": "shop", "metric_of": "x"})
    said = told(grouper, event("a", 0), event("b", 1, labels={"metric_of": "y"}), both)
    assert said[-2].merged_into == said[-1].incident_id
    assert said[-1].series == 3


def test_the_incidents_that_ended_first_are_forgotten_and_the_open_ones_never() -> None:
    grouper = Grouper(config.Incidents(), remembered=20)
    told(grouper, event("still", 0, service="bank"))
    said = told(grouper, *(event("a", hour * 60, hour * 60 + 1) for hour in range(30)))
    assert len(grouper) == 19
    assert [incident.title.split(":")[0] for incident in grouper.open_incidents()] == ["service=bank"]
    assert grouper.forgotten() == [incident.incident_id for incident in said[:12]]
    assert grouper.forgotten() == []


def test_series_that_are_told_out_of_step_make_the_same_incidents() -> None:
    day = 1440
    faults = [
        [event(metric, start, more, peak_score=2.0) for start in (0, 3 * day, 9 * day)]
        for metric, more in (("web_response", None), ("apdex", None))
    ]
    ended = [
        msgspec.structs.replace(each, revision=2, status=Status.CLOSE, ended_ms=each.started_ms + 5 * MINUTE)
        for each in [*faults[0], *faults[1]]
    ]
    by_time = sorted([*faults[0], *faults[1], *ended], key=lambda each: each.ended_ms or each.started_ms)
    by_series = sorted(by_time, key=lambda each: each.metric)
    # One partition is far ahead: it opens anomalies while the other has still to close those of days ago.
    ahead = [faults[0][0], faults[1][0], faults[1][1], faults[1][2], *ended, *faults[0][1:]]
    found = []
    for order in (by_time, by_series, ahead):
        grouper = Grouper(config.Incidents())
        newest = {incident.incident_id: incident for incident in told(grouper, *order)}
        found.append(sorted((each.started_ms, each.series) for each in newest.values()))
    assert found[0] == [(START_MS + start * MINUTE, 2) for start in (0, 3 * day, 9 * day)]
    assert found[1] == found[0]
    assert found[2] == found[0]
