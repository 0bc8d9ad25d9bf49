import numpy as np

from schemas import config
from schemas.find import IntervalsFound
from stream import finding
from stream.frames import Frame

STEP_MS = 300_000


def waves(n, seed=0):
    rng = np.random.default_rng(seed)
    return 50 + 10 * np.sin(2 * np.pi * np.arange(n) / 48) + rng.normal(scale=0.5, size=n)


def test_aer_finds_intervals_in_a_range_as_it_was_published():
    values = waves(600)
    values[300:302] += 80.0
    values[60:62] -= 80.0
    frame = Frame(STEP_MS * np.arange(600), {"cpu": values})
    params = {"epochs": 6, "max_windows": 256, "combination": "reg"}
    found = finding.find(
        finding.task(finding.canonical("AutoEncoder"), frame, ["cpu"], params, config.Engine())
    )
    assert isinstance(found, IntervalsFound)
    score = np.frombuffer(found.score, "<f8")
    assert len(score) == 600
    assert score.max() > 1.0
    assert any(each.start_ms <= 300 * STEP_MS <= each.end_ms for each in found.intervals)
    assert all(each.start_ms < each.end_ms and each.severity > 0 for each in found.intervals)
