import pytest

from detectors.events import _span


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "a moment"),
        (1000, "1 second"),
        (60_000, "1 minute"),
        (150_000, "2 minutes"),
        (7_200_000, "2 hours"),
    ],
)
def test_a_length_of_time_reads_as_people_say_it(milliseconds, words):
    assert _span(milliseconds) == words
