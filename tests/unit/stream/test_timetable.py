"""When a model is due, in event time."""

import msgspec
import numpy as np
import pytest

from schemas import config
from schemas.control import Label, Refresh
from schemas.request import Failed, Failure, Fitted, Trigger
from stream.refresh.timetable import Timetable

HOUR = 3_600_000
CFG = config.Refresh(
    rules=[
        config.RefreshRule(
            detector="iforest", match='cpu{host=~"web.*"}', min_history_ms=HOUR, refresh_every_ms=10 * HOUR
        )
    ],
    backoff_ms=HOUR,
)
SERIES = 'cpu{host="web1"}'


def asked(table: Timetable, now_s: float = 0.0) -> list[Trigger]:
    found = table.due(now_s)
    for due in found:
        table.asked(due, "r", now_s)
    return [due.trigger for due in found]


def fitted(trained_to_ms: int) -> Fitted:
    return Fitted(
        request_id="r",
        detector="iforest",
        series=SERIES,
        artifact_id="a",
        adopt=True,
        trained_to_ms=trained_to_ms,
        seconds=1.0,
    )


def failed() -> Failed:
    return Failed(request_id="r", detector="iforest", series=SERIES, reason=Failure.RAISED, text="")


def test_the_first_model_comes_with_enough_history_and_the_next_with_its_age():
    table = Timetable(CFG)
    table.saw(SERIES, 0, HOUR - 1)
    assert asked(table) == []
    table.saw(SERIES, 0, HOUR)
    assert asked(table) == [Trigger.HISTORY]
    assert asked(table) == []  # until it is answered
    table.fitted(fitted(HOUR))
    table.saw(SERIES, 0, 11 * HOUR - 1)
    assert asked(table) == []
    table.saw(SERIES, 0, 11 * HOUR)
    assert asked(table) == [Trigger.AGE]


def test_a_series_that_no_rule_matches_gets_nothing():
    table = Timetable(CFG)
    assert table.saw('cpu{host="db1"}', 0, 1000 * HOUR) is None
    assert asked(table) == []


def test_no_more_is_asked_at_once_than_may_wait_and_the_most_urgent_first():
    table = Timetable(msgspec.structs.replace(CFG, max_waiting=2))
    names = [f'cpu{{host="web{i}"}}' for i in range(6)]
    for i, name in enumerate(names):
        table.saw(name, 0, 20 * HOUR)
        if i != 2:
            table.serves("iforest", name, "a", (9 - i) * HOUR)  # the last ones are the oldest
    table.told(Refresh(command_id="c", at_ms=0, series=names[3]))

    def look() -> list[str]:
        found = table.due(0.0)
        for due in found:
            table.asked(due, due.series, 0.0)
        return [due.series for due in found]

    assert look() == [names[3], names[2]]  # what a person waits for, then what has no model
    assert (look(), table.late, table.waiting()) == ([], 4, 2)
    table.fitted(msgspec.structs.replace(fitted(20 * HOUR), series=names[2]))
    assert (look(), table.late) == ([names[5]], 3)
    lost_s = 2 * CFG.rules[0].deadline_ms / 1000 + 61  # answers that never come make room
    assert [due.series for due in table.due(lost_s)] == [names[5], names[4]]


def test_each_failure_doubles_the_pause():
    table = Timetable(CFG)
    table.saw(SERIES, 0, HOUR)
    for hour, due in ((1, True), (2, True), (3, False), (4, True), (7, False), (8, True)):
        table.saw(SERIES, 0, hour * HOUR)
        assert asked(table) == ([Trigger.HISTORY] if due else []), hour
        if due:
            table.failed(failed())


def test_an_answer_that_never_comes_is_asked_for_again():
    table = Timetable(CFG)
    table.saw(SERIES, 0, HOUR)
    patience_s = 2 * CFG.rules[0].deadline_ms / 1000 + 60
    assert asked(table, 0.0) == [Trigger.HISTORY]
    assert asked(table, patience_s - 1) == []
    assert asked(table, patience_s) == [Trigger.HISTORY]


def test_a_drift_of_the_residual_asks_for_a_model_and_noise_does_not():
    table = Timetable(CFG)
    watched = table.saw(SERIES, 0, HOUR)
    assert watched is not None
    table.serves("iforest", SERIES, "a", HOUR)
    noise = np.random.default_rng(1).normal(size=4000)
    table.residuals(watched, noise[:2000])
    assert asked(table) == []
    table.residuals(watched, noise[2000:] + 2)
    assert asked(table) == [Trigger.DRIFT]


@pytest.mark.parametrize("kind", ["adwin", "page_hinkley"])
def test_a_rule_chooses_what_finds_a_drift(kind):
    """Residuals in widths of the band, of which noise takes a twelfth, and a spike many."""
    rule = msgspec.structs.replace(CFG.rules[0], drift=kind)
    table = Timetable(msgspec.structs.replace(CFG, rules=[rule]))
    watched = table.saw(SERIES, 0, HOUR)
    assert watched is not None
    table.serves("iforest", SERIES, "a", HOUR)
    residuals = np.random.default_rng(2).normal(0, 0.1, 4000)
    residuals[1000] = 50.0
    table.residuals(watched, residuals[:2000])
    assert asked(table) == []
    table.residuals(watched, residuals[2000:2500] + 0.1)
    assert asked(table) == [Trigger.DRIFT]


def test_a_drift_concerns_the_rules_that_ask_its_detector_alone():
    rules = [
        msgspec.structs.replace(CFG.rules[0], drift="page_hinkley"),
        msgspec.structs.replace(CFG.rules[0], detector="aer", drift="adwin"),
        msgspec.structs.replace(CFG.rules[0], detector="prophet", drift="page_hinkley", on_drift=False),
    ]
    table = Timetable(msgspec.structs.replace(CFG, rules=rules))
    watched = table.saw(SERIES, 0, HOUR)
    assert watched is not None
    assert sorted(watched.drift) == ["adwin", "page_hinkley"]
    for detector in ("iforest", "aer", "prophet"):
        table.serves(detector, SERIES, "a", HOUR)
    watched.drifted("page_hinkley")
    assert [(due.model.rule.detector, due.trigger) for due in table.due(0.0)] == [("iforest", Trigger.DRIFT)]


def test_a_label_and_a_person_ask_for_models():
    table = Timetable(CFG)
    table.saw(SERIES, 0, HOUR)
    table.serves("iforest", SERIES, "a", HOUR)
    table.told(Label(command_id="1", at_ms=0, anomaly_id="x", series=SERIES, verdict="true", started_ms=0))
    assert asked(table) == [Trigger.LABEL]
    table.fitted(fitted(HOUR))
    table.told(Refresh(command_id="2", at_ms=0, series='cpu{host="db"}'))
    table.told(Refresh(command_id="3", at_ms=0, series="cpu", detector="aer"))
    assert asked(table) == []
    table.told(Refresh(command_id="4", at_ms=0, series="cpu"))
    assert asked(table) == [Trigger.PERSON]


def test_a_group_gets_models_by_its_own_rules_as_its_members_are_seen():
    rules = [
        config.RefreshRule(detector="iforest", min_history_ms=HOUR),
        config.RefreshRule(detector="multidimensional", min_history_ms=2 * HOUR, refresh_every_ms=HOUR),
    ]
    table = Timetable(config.Refresh(rules=rules), [config.Group(name="host", group_by=["host"])])
    table.saw('cpu{host="a"}', 0, HOUR // 2)
    table.saw('mem{host="a"}', HOUR // 2, 2 * HOUR)
    table.saw("lonely", 0, HOUR // 2)
    due = [(each.series, each.model.rule.detector, each.until_ms) for each in table.due(0.0)]
    assert due == [
        ('host{host="a"}', "multidimensional", 2 * HOUR + 1),
        ('mem{host="a"}', "iforest", 2 * HOUR + 1),
    ]
    table.serves("multidimensional", 'host{host="a"}', "m", HOUR)
    table.told(
        Label(command_id="1", at_ms=0, anomaly_id="x", series='host{host="a"}', verdict="true", started_ms=0)
    )
    assert Trigger.LABEL in asked(table)


def test_a_drift_of_a_member_asks_for_a_model_of_its_group():
    rule = config.RefreshRule(detector="multidimensional", refresh_every_ms=366 * 24 * HOUR)
    table = Timetable(config.Refresh(rules=[rule]), [config.Group(name="host", group_by=["host"])])
    member = table.saw('cpu{host="a"}', 0, HOUR)
    assert member is not None
    assert table.saw("lonely", 0, HOUR) is None
    noise = np.random.default_rng(1).normal(size=4000)
    table.residuals(member, noise[:2000])
    table.serves("multidimensional", 'host{host="a"}', "m", HOUR)
    assert asked(table) == []
    table.residuals(member, noise[2000:] + 2)
    assert [each.series for each in table.due(0.0)] == ['host{host="a"}']
    assert asked(table) == [Trigger.DRIFT]


def test_a_label_on_a_member_asks_for_a_model_of_its_group_once_there_is_one():
    rule = config.RefreshRule(detector="multidimensional", min_history_ms=10 * HOUR)
    table = Timetable(config.Refresh(rules=[rule]), [config.Group(name="host", group_by=["host"])])
    table.saw('cpu{host="a"}', 0, HOUR)
    label = Label(
        command_id="1", at_ms=0, anomaly_id="x", series='cpu{host="a"}', verdict="true", started_ms=0
    )
    table.told(label)
    assert asked(table) == []
    table.serves("multidimensional", 'host{host="a"}', "m", HOUR)
    table.told(label)
    assert [each.series for each in table.due(0.0)] == ['host{host="a"}']
    assert asked(table) == [Trigger.LABEL]
