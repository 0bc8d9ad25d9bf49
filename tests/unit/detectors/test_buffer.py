"""Copies of a state into memory that is used again."""

import numpy as np

from detectors.buffer import Buffer, bytes_needed

STATE = {
    "rows": np.array([(1, 2.5), (3, -1.0)], [("a", "u4"), ("b", "f4")]),
    "ring": np.arange(12, dtype=np.int64).reshape(3, 4),
    "view": np.arange(10.0)[:7],
    "strided": np.arange(10.0)[::2],
    "empty": np.zeros((0, 5), np.int32),
}


def assert_equals_state(copied):
    assert list(copied) == list(STATE)
    for name, array in STATE.items():
        assert copied[name].dtype == array.dtype
        np.testing.assert_array_equal(copied[name], array)
        assert not np.shares_memory(copied[name], array)


def test_with_room_the_copies_lie_in_the_buffer_and_the_next_one_takes_their_place():
    buffer = Buffer()
    buffer.reserve(bytes_needed(STATE))
    first = buffer.copy(STATE)
    assert_equals_state(first)
    second = buffer.copy(STATE)
    assert_equals_state(second)
    assert np.shares_memory(first["ring"], second["ring"])


def test_without_room_the_copies_are_the_same_in_memory_of_their_own():
    for size in (0, 20, 100):
        buffer = Buffer()
        buffer.reserve(size)
        assert_equals_state(buffer.copy(STATE))


def test_room_that_is_made_is_kept():
    buffer = Buffer()
    for size in (50_000_000, 10):
        buffer.reserve(size)
        assert buffer.size == 50_000_000
