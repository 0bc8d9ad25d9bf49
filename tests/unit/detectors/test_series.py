import numpy as np
import pytest

from detectors import registry
from detectors.series import SeriesTable
from schemas.series import Series


def feed(table, *texts):
    """One sample of each text, in order, as one batch; returns (texts by step, evicted by step)."""
    names = tuple(dict.fromkeys(texts))
    index = np.array([names.index(text) for text in texts], np.int64)
    steps = []
    for step in table.steps(names, index):
        said = [table.text(slot) for slot in step.slots]
        assert said == list(texts[step.start : step.stop])
        steps.append((said, step.evicted.tolist()))
    return steps


def test_a_series_keeps_its_slot_whatever_the_dictionary():
    table = SeriesTable(10, 10)
    feed(table, "a", "b", "c")
    (step,) = table.steps(["c", "a", "c"], np.array([2, 0, 1]))
    assert step.slots.tolist() == [2, 2, 0]


def test_beyond_the_cap_the_least_recently_seen_series_loses_its_slot():
    table = SeriesTable(2, 10)
    feed(table, "a", "b", "a")
    assert feed(table, "c") == [(["c"], [1])]
    assert table.evictions == 1
    assert feed(table, "b") == [(["b"], [0])]


def test_a_victim_with_pending_samples_ends_the_step():
    table = SeriesTable(1, 10)
    assert feed(table, "a", "a", "b", "a") == [(["a", "a"], []), (["b"], [0]), (["a"], [0])]


def test_a_victim_without_pending_samples_does_not_end_the_step():
    table = SeriesTable(2, 10)
    feed(table, "a", "b")
    assert feed(table, "b", "c", "b") == [(["b", "c", "b"], [0])]


def test_a_metric_at_its_cap_evicts_its_own_series():
    table = SeriesTable(10, 2)
    feed(table, 'm{h="1"}', "other", 'm{h="2"}')
    assert feed(table, 'm{h="3"}') == [(['m{h="3"}'], [0])]


def test_names_without_a_sample_take_no_slot():
    table = SeriesTable(10, 10)
    list(table.steps(("a", "b", "c"), np.array([2], np.int64)))
    assert len(table) == 1


def test_a_dictionary_seen_before_is_forgotten_when_a_series_in_it_was_evicted():
    table = SeriesTable(2, 10)
    names = ("a", "b")
    list(table.steps(names, np.array([0, 1])))
    feed(table, "c")
    steps = list(table.steps(names, np.array([1, 0])))
    assert [table.text(slot) for step in steps for slot in step.slots][-1] == "a"
    assert table.evictions == 2


def test_a_snapshot_keeps_names_and_who_was_seen_last():
    table = SeriesTable(2, 10)
    feed(table, "é", 'b{x="1"}', "é")
    other = SeriesTable(2, 10)
    other.load(table.snapshot())
    assert feed(other, "c") == feed(table, "c") == [(["c"], [1])]


def test_labels_are_read_and_a_text_that_does_not_parse_is_a_metric():
    table = SeriesTable(10, 10)
    feed(table, 'm{h="1"}', "broken{")
    assert table.series(0) == Series("m", {"h": "1"})
    assert table.series(1) == Series("broken{")
    assert table.series_id(0) == table.series_id(0) != table.series_id(1)


def test_an_unknown_detector_names_those_there_are_and_the_nearest():
    with pytest.raises(ValueError, match=r"there is .*robust.*did you mean 'robust'"):
        registry.load("robus")
