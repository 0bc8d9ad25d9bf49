"""The AsyncAPI page and the messages agree."""

from __future__ import annotations

import re
from typing import Any

import yaml

from schemas.event import AnomalyEvent, Direction, Kind, Severity, Status
from stream import asyncapi
from stream.kafka import TopicPartition
from stream.output import event_message

PAGE: dict[str, Any] = yaml.safe_load(asyncapi.page())


def test_references_lead_somewhere() -> None:
    for reference in re.findall(r"'?#/([\w/]+)'?", asyncapi.page()):
        at: Any = PAGE
        for part in reference.split("/"):
            at = at[part]
        assert at


def test_headers_of_an_event_are_those_on_the_page() -> None:
    event = AnomalyEvent(
        event_id="e", anomaly_id="a", revision=1, status=Status.OPEN, series="cpu", series_id="0",
        metric="cpu", labels={}, kind=Kind.SPIKE, severity=Severity.WARNING, direction=Direction.ABOVE,
        score=1.5, peak_score=1.5, actual=9.0, expected=1.0, lower=0.0, upper=2.0, started_ms=1,
        detected_ms=1, ended_ms=None, samples=1, detectors=[], reason="cpu is 9",
    )  # fmt: skip
    message = event_message("tocsin.anomalies", event, TopicPartition("telemetry", 0))
    described = PAGE["channels"]["anomalies"]["messages"]["AnomalyEvent"]["headers"]["required"]
    assert [name for name, _ in message.headers] == described
    assert set(PAGE["components"]["schemas"]["AnomalyEvent"]["properties"]) == set(
        AnomalyEvent.__struct_fields__
    )
