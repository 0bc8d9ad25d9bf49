import numpy as np
import pytest

from bench import datasets
from detectors import evaluation as ev

HAS_NAB = (datasets.data_folder() / "nab").exists()


def scores_with(n: int, **rows: float) -> np.ndarray:
    scores = np.zeros(n)
    for row, score in rows.items():
        scores[int(row[1:])] = score
    return scores


@pytest.mark.skipif(not HAS_NAB, reason="the Numenta data are not here")
@pytest.mark.parametrize(
    ("detector", "threshold", "published"),
    [("contextOSE", 0.7035, (61.18, 55.70, 65.28)), ("windowedGaussian", 1.0, (24.30, 6.84, 32.21))],
)
def test_published_detectors_get_their_published_nab_scores(detector, threshold, published):
    corpus = [(series, datasets.nab_published(detector, series)) for series in datasets.nab()]
    assert len(corpus) == 29
    for profile, expected in zip((ev.STANDARD, ev.LOW_FP, ev.LOW_FN), published, strict=True):
        result = ev.best([ev.tally(scores, series.windows, profile) for series, scores in corpus])
        assert result.score == pytest.approx(expected, abs=0.005)
        if profile is ev.STANDARD:
            assert result.threshold == pytest.approx(threshold, abs=5e-5)


def test_a_flag_at_the_left_edge_of_every_window_scores_a_hundred():
    score = ev.best([ev.tally(scores_with(1000, r400=0.9), [(400, 500)])])
    assert score == ev.NabScore(pytest.approx(100.0), 0.9)


def test_only_the_earliest_flag_in_a_window_earns():
    once = ev.tally(scores_with(1000, r450=1.0), [(400, 500)])
    again = ev.tally(scores_with(1000, r450=1.0, r460=1.0, r470=2.0), [(400, 500)])
    assert ev.at_threshold([again], 1.0) == ev.at_threshold([once], 1.0)


def test_a_later_row_with_a_higher_score_earns_at_a_higher_threshold():
    tally = ev.tally(scores_with(1000, r410=0.5, r490=0.8), [(400, 500)])
    assert ev.at_threshold([tally], 0.8).score < ev.at_threshold([tally], 0.5).score


def test_flags_in_probation_neither_earn_nor_cost():
    tally = ev.tally(scores_with(1000, r10=1.0, r149=1.0), [(5, 20)])
    assert ev.at_threshold([tally], 1.0).score == 0.0


def test_false_flags_cost_more_the_farther_they_are_from_a_window():
    at = [
        ev.at_threshold([ev.tally(scores_with(2000, **{f"r{r}": 1.0}), [(400, 500)])], 1.0).score
        for r in (502, 550, 1500)
    ]
    assert at[0] > at[1] > at[2] == pytest.approx(-100 * 0.11 / 2)


def test_the_low_fp_profile_charges_a_false_flag_twice():
    scores = scores_with(2000, r300=1.0)
    cost = [ev.at_threshold([ev.tally(scores, [(800, 900)], p)], 1.0).score for p in (ev.STANDARD, ev.LOW_FP)]
    assert cost[1] == pytest.approx(2 * cost[0])


def test_a_family_left_out_is_scored_at_the_threshold_of_the_others():
    good = ev.tally(scores_with(1000, r400=0.9), [(400, 500)])
    silent_at_that = ev.tally(scores_with(1000, r400=0.5), [(400, 500)])
    score = ev.leave_one_family_out({"a": [good], "b": [silent_at_that]})
    assert score.score == pytest.approx(50.0)


def test_segments_count_overlaps_once_and_false_runs_once():
    labels = np.zeros(100, dtype=bool)
    labels[10:20] = labels[50:60] = True
    flags = np.zeros(100, dtype=bool)
    flags[15] = flags[17] = flags[80:85] = True
    counts = ev.compare_segments(np.arange(100) * 864_000, flags, labels)
    assert (counts.found, counts.missed, counts.false_episodes) == (1, 1, 1)
    assert counts.f1 == pytest.approx(0.5)
    assert counts.false_per_day == pytest.approx(100 / 99)
    assert counts.flagged_share == pytest.approx(0.07)


def test_summed_counts_weigh_every_segment_the_same():
    one = ev.SegmentCounts(1, 0, 0, 1, 10, 1.0)
    assert ev.sum_counts([one, one]) == ev.SegmentCounts(2, 0, 0, 2, 20, 2.0)


def test_delay_counts_from_the_onset_not_from_a_generous_label():
    values = np.zeros(100)
    values[55:57] = 9.0
    labels = np.zeros(100, dtype=bool)
    labels[50:60] = True
    flags = values > 1
    assert ev.detection_delays(values, flags, labels) == [0]
    assert ev.detection_delays(values, flags, labels, from_onset=False) == [5]


def reference_vus_pr(score: np.ndarray, label: np.ndarray, buffer: int) -> float:
    """The published code (TheDatumOrg/VUS, RangeAUC_volume), shortened, loops kept."""
    ranked, area = -np.sort(-score), []
    positives = label.sum()
    for window in range(buffer + 1):
        soft = label.astype(float)
        for s, e in [(a, b - 1) for a, b in ev.runs(label)]:
            x1 = np.arange(e, min(e + window // 2, len(label)))
            soft[x1] += np.sqrt(1 - (x1 - e) / max(window, 1))
            x2 = np.arange(max(s - window // 2, 0), s)
            soft[x2] += np.sqrt(1 - (s - x2) / max(window, 1))
        soft = np.minimum(1.0, soft)
        segments, tpr, precision = ev.runs(soft > 0), [0.0], [1.0]
        for i in np.linspace(0, len(score) - 1, 250).astype(int):
            pred = score >= ranked[i]
            product = soft * pred
            recall = min(product.sum() / ((positives + soft.sum()) / 2), 1)
            existence = sum(product[a:b].sum() > 0 for a, b in segments) / len(segments)
            tpr.append(recall * existence)
            precision.append(product.sum() / pred.sum())
        tpr.append(1.0)
        width = np.array(tpr)[1:-1] - np.array(tpr)[:-2]
        area.append(np.sum(width * np.array(precision)[1:]))
    return float(np.mean(area))


@pytest.mark.parametrize("seed", range(4))
def test_vus_pr_equals_the_reference_implementation(seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros(600, dtype=bool)
    for start in rng.integers(0, 580, 3):
        labels[start : start + rng.integers(1, 40)] = True
    scores = np.round(rng.random(600) + labels * rng.random(600), 1 if seed % 2 else 6)
    assert ev.vus_pr(scores, labels, 20) == pytest.approx(reference_vus_pr(scores, labels, 20))


def test_vus_pr_of_a_perfect_score_is_high_and_of_a_constant_is_the_share_of_labels():
    labels = np.zeros(2000, dtype=bool)
    labels[900:1000] = True
    assert ev.vus_pr(labels.astype(float), labels) > 0.8
    assert ev.vus_pr(np.zeros(2000), labels) == pytest.approx(0.05, abs=0.03)
    assert np.isnan(ev.vus_pr(np.zeros(10), np.zeros(10, dtype=bool)))
