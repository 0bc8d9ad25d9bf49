import numpy as np

from schemas import config
from schemas.find import IntervalsFound, PointsFound
from stream.refresh import finding
from stream.refresh.frames import Frame

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


def test_a_model_of_all_columns_says_which_of_them_is_off():
    n, rng = 1500, np.random.default_rng(4)
    load = np.sin(2 * np.pi * np.arange(n) / 300)
    columns = {name: load + 0.1 * rng.normal(size=n) for name in ("response", "throughput", "errors")}
    columns["throughput"][900] += 6.0
    columns["errors"][::50] = np.nan
    frame = Frame(STEP_MS * np.arange(n), columns)
    model = finding.canonical("Multidimensional")
    found = finding.find(finding.task(model, frame, list(columns), {"n_estimators": 50}, config.Engine()))
    assert isinstance(found, PointsFound)
    assert np.nanargmax(np.frombuffer(found.score, "<f8")) == 900
    assert found.anomaly[900] == 1
    assert sum(found.anomaly) < 15
    shares = {name: np.frombuffer(share, "<f8")[900] for name, share in found.contributions.items()}
    assert list(shares) == list(columns)
    assert max(shares, key=lambda name: shares[name]) == "throughput"
