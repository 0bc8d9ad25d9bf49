import numpy as np
import pytest

from detectors.aer_offline import _centred, _medians, _smoothed, _warped, intervals, look_back, scores
from detectors.batch import FitError, History

STEP_MS = 300_000


def waves(n, seed=0, period=48, noise=0.5):
    rng = np.random.default_rng(seed)
    return 50 + 10 * np.sin(2 * np.pi * np.arange(n) / period) + rng.normal(scale=noise, size=n)


def history(values):
    return History(STEP_MS * np.arange(len(values)), values[:, None])


def windows_of(values):
    return np.lib.stride_tricks.sliding_window_view((values / 20).astype(np.float32), 100)


@pytest.mark.parametrize("how", ["mult", "sum", "reg", "rec"])
def test_what_a_good_network_did_not_expect_is_found_and_not_much_else(how):
    values, expected = waves(1500), waves(1500, noise=0.1)
    values[900:912] += 15.0
    score = scores(windows_of(values), windows_of(expected), how)
    assert 895 <= np.argmax(score) <= 925
    found = intervals(score)
    assert any(each.first <= 900 and each.last >= 911 for each in found)
    assert sum(each.last - each.first + 1 for each in found) < 400


def test_a_network_fitted_on_means_of_an_interval_finds_an_anomaly():
    values = waves(1400, period=96)
    values[800:802] += 80.0
    values[100:102] -= 80.0  # so that the middle of the range is where the wave is: little to learn
    params = {"epochs": 6, "max_windows": 256, "interval_ms": 2 * STEP_MS, "combination": "reg"}
    (found,) = look_back(params, [history(values)], 1)
    assert not isinstance(found, FitError)
    assert len(found.ts_ms) == len(found.values) == len(found.score) == 700
    assert found.values[0] == pytest.approx(values[:2].mean())
    flags = found.flags(STEP_MS * np.arange(1400))
    assert flags[800:802].all()
    assert flags.mean() < 0.4


def test_histories_are_looked_at_one_by_one():
    values = waves(500)
    found = look_back({"epochs": 1}, [history(np.zeros(500)), history(values)], 1)
    assert isinstance(found[0], FitError)
    assert not isinstance(found[1], FitError)


def test_unknown_combinations_are_refused():
    with pytest.raises(ValueError, match="mult, sum, reg, rec"):
        look_back({"combination": "max"}, [], 1)


def test_perfect_predictions_score_alike_everywhere():
    rows = np.lib.stride_tricks.sliding_window_view(waves(400).astype(np.float32), 100)
    assert np.ptp(scores(rows, rows, "sum")) == 0.0


def test_smoothing_begins_with_what_there_is():
    off = np.array([1.0, 0.0, 4.0])
    keep = 1 - 2 / (3 + 1)
    weights = np.array([keep**2, keep, 1.0])
    assert _smoothed(off, 3)[0] == 1.0
    assert _smoothed(off, 3)[2] == pytest.approx(np.average(off, weights=weights))


def test_centred_means_have_fewer_rows_at_the_ends():
    assert _centred(np.array([1.0, 2.0, 3.0, 10.0]), 3).tolist() == pytest.approx([1.5, 2.0, 5.0, 6.5])
    assert _centred(np.array([1.0, 2.0, 3.0, 10.0]), 2).tolist() == pytest.approx([1.0, 1.5, 2.5, 6.5])


def test_a_row_is_reconstructed_by_the_median_of_the_windows_over_it():
    said = np.array([[1, 2, 3], [20, 30, 40], [300, 400, 500]], np.float32)  # windows at rows 0, 1, 2
    assert _medians(said).tolist() == [1, 11, 30, 220, 500]


def test_warping_forgives_a_shift_and_not_a_height():
    wave = np.zeros(60)
    wave[30] = 1.0
    shifted, higher = np.roll(wave, 1), 3.0 * wave
    assert _warped(wave, shifted, 11)[35] == 0.0  # as published, five rows late
    assert _warped(wave, higher, 11)[35] == pytest.approx(2.0)


def test_intervals_are_padded_pruned_and_joined():
    score = np.random.default_rng(2).uniform(0.0, 0.1, size=1000)
    score[500:503] = 5.0
    score[600] = 4.0  # its padding touches that of the first
    (one,) = intervals(score)
    assert (one.first, one.last) == (450, 650)
    assert one.severity > 0
    assert intervals(np.random.default_rng(2).uniform(0.0, 0.1, size=1000)) == []
