import numpy as np
import pytest

from detectors.protocol import Samples
from detectors.reorder import Reorder
from detectors.window import Windows
from schemas.score import SampleState as State


def admit(window, ts_ms, values=None, slots=None, warm_up=0):
    ts_ms = np.array(ts_ms, np.int64)
    window.reserve(4)
    values = np.arange(len(ts_ms), dtype=float) if values is None else np.array(values, float)
    slots = np.zeros(len(ts_ms), np.int64) if slots is None else np.array(slots)
    return window.admit(slots, ts_ms, values, np.full(len(ts_ms), warm_up))


def test_the_newest_times_are_kept_the_newest_first():
    window = Windows(16)
    admit(window, range(0, 2000, 100))
    assert window.newest_first(0).tolist() == list(range(1900, 300, -100))


def test_gaps_duplicates_and_late_samples_do_not_enter_the_window():
    window = Windows(16)
    said = admit(window, [100, 200, 200, 300, 100, 150, 400, 400], [1, 2, 9, 3, 9, 9, np.nan, 4])
    assert said.states.tolist() == [
        State.SCORED, State.SCORED, State.DUPLICATE, State.SCORED,
        State.DUPLICATE, State.LATE, State.GAP, State.SCORED,
    ]  # fmt: skip
    assert window.newest_first(0).tolist() == [400, 300, 200, 100]


def test_time_for_detectors_does_not_go_back():
    window = Windows(16)
    assert admit(window, [100, 300, 200, 400]).clock_ms.tolist() == [100, 300, 300, 400]


def test_the_interval_is_learned_and_changes_with_the_series():
    window = Windows(16)
    times = np.cumsum([60_000] * 100 + [600_000] + [60_000] * 100)
    assert admit(window, times).interval_ms[-1] == pytest.approx(60_000)
    later = times[-1] + np.cumsum([10_000] * 300)
    assert admit(window, later).interval_ms[-1] == pytest.approx(10_000)


def test_warm_up_counts_admitted_samples():
    window = Windows(16)
    said = admit(window, [1, 2, 3, 4, 5], [1, np.nan, 2, 3, 4], warm_up=3)
    expected = [State.WARMING_UP, State.GAP, State.WARMING_UP, State.WARMING_UP, State.SCORED]
    assert said.states.tolist() == expected


def test_evicted_windows_are_empty():
    window = Windows(16)
    admit(window, [1, 2, 3])
    window.evict(np.array([0]))
    assert len(window.newest_first(0)) == 0


def push(buffer, *ts_ms):
    said = buffer.push(
        Samples(("a",), np.zeros(len(ts_ms), np.int64), np.array(ts_ms, np.int64), np.zeros(len(ts_ms)))
    )
    return said.ts_ms.tolist()


def test_without_lateness_batches_pass_as_they_are():
    samples = Samples(("a",), np.zeros(1, np.int64), np.ones(1, np.int64), np.ones(1))
    assert Reorder(0).push(samples) is samples


def test_samples_wait_for_the_watermark_and_come_out_in_order():
    buffer = Reorder(100)
    assert push(buffer, 1000, 1030, 1010) == []
    assert push(buffer, 1120) == [1000, 1010]
    assert push(buffer, 1105, 1200) == [1030]
    assert len(buffer) == 3


def test_a_sample_later_than_allowed_comes_out_at_once():
    buffer = Reorder(100)
    assert push(buffer, 1000, 2000, 500) == [1000, 500]
