"""A fault of a whole service in a month of real telemetry is one incident and one notification."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.mutes import Muted
from detectors.protocol import Samples
from schemas import config
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from stream import metrics as m
from stream.files.labelled import read_files
from stream.files.sources import Columns
from stream.formats.names import canonical
from stream.incidents.grouper import Grouper
from stream.incidents.notify import Target

ROW = 27_000
"""Where it begins, a row a minute; nothing else happens for hours around it."""

LASTS = 40
SPARE_MS = 3_600_000
CHANGES = {"web_response": 20.0, "throughput": 0.1, "apdex": 0.5, "error": 300.0}


class Month(NamedTuple):
    """What the engine and the grouper say of a month with a fault."""

    events: list[AnomalyEvent]
    incidents: list[Incident]
    start_ms: int
    end_ms: int


def replayed(*, muted: bool) -> Month:
    series = read_files(["examples/redlab/telemetry.csv.gz"], Columns(), None, None)
    columns = []
    for each in series:
        values = each.values.copy()
        values[ROW : ROW + LASTS] *= CHANGES[each.name]
        columns.append(values)
    ts_ms = series[0].ts_ms
    start, end = int(ts_ms[ROW]), int(ts_ms[ROW + LASTS])
    engine = Engine(config.Engine(), config.Admission())
    if muted:
        engine.mute(Muted("m", '{service="redlab"}', ((start - SPARE_MS, end + SPARE_MS),), True))
    names = tuple(canonical(each.name, {"service": "redlab"}) for each in series)
    index = np.tile(np.arange(len(names)), len(ts_ms))
    said = engine.process(
        Samples(names, index, np.repeat(ts_ms, len(names)), np.column_stack(columns).ravel())
    )
    grouper = Grouper(config.Incidents())
    told = [incident for event in said.events for incident in grouper.take(event)]
    return Month(list(said.events), told, start, end)


@pytest.fixture(scope="module")
def month() -> Month:
    return replayed(muted=False)


def during(month: Month) -> list[Incident]:
    """All revisions of the incidents that touch the fault."""
    touching = {
        each.incident_id
        for each in {each.incident_id: each for each in month.incidents}.values()  # the newest revision
        if each.started_ms <= month.end_ms and (each.ended_ms is None or each.ended_ms >= month.start_ms)
    }
    return [each for each in month.incidents if each.incident_id in touching]


def test_a_fault_of_a_service_is_one_incident_with_all_its_series(month: Month) -> None:
    told = during(month)
    assert len({each.incident_id for each in told}) == 1
    last = told[-1]
    assert {member.metric: member.direction for member in last.members} == {
        "web_response": "above", "throughput": "below", "apdex": "below", "error": "above",
    }  # fmt: skip
    assert (len(last.members), last.series, last.status) == (4, 4, "close")
    assert last.labels == {"service": "redlab"}
    assert month.start_ms <= last.started_ms < month.start_ms + 300_000
    for member in last.members:
        assert member.metric in last.reason


def test_it_is_one_notification(month: Month) -> None:
    cfg = config.NotifyTarget(name="pager", url="http://pager/", what="incidents", updates=False)
    target = Target(cfg, config.Notify(), m.Metrics("notify"))
    sent = [each.status for each in during(month) if target.wants(each)]
    assert sent == ["open", "close"]


def test_a_copy_of_it_inside_a_mute_is_found_and_none() -> None:
    month = replayed(muted=True)
    assert not during(month)
    found = [each for each in month.events if month.start_ms <= each.started_ms < month.end_ms]
    assert {each.metric for each in found} == set(CHANGES)
    assert {each.muted_by for each in found} == {"m"}
