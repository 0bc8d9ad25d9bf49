"""`bench.quality` on small made-up data: the numbers mean what the page says of them."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest

from bench import ablations, judged, quality
from bench.baselines import last_value, z_score
from bench.clean import unlabelled
from bench.datasets import LabelledSeries
from bench.judged import Judged, Judgement, clean_rate, halves, nab_numbers, numbers, tocsin
from bench.quality_page import page
from detectors import registry
from detectors.evaluation.episodes import Episode
from schemas import config

MINUTE = 60_000


def series(name: str, family: str = "f", spikes: tuple[int, ...] = (900,), n: int = 1440) -> LabelledSeries:
    values = np.random.default_rng(sum(map(ord, name))).normal(100, 1, n)
    labels = np.zeros(n, bool)
    for at in spikes:
        values[at] = 300
        labels[at - 5 : at + 5] = True
    return LabelledSeries("made", family, name, MINUTE * np.arange(n, dtype=np.int64), values, labels)


def said(n: int, *episodes: Episode) -> Judgement:
    return Judgement(list(episodes), np.zeros(n), np.ones(n, bool))


def test_a_spike_is_found_by_the_shipped_configuration_without_delay():
    found = numbers(judged.judge(tocsin(config.Engine()), [series("a"), series("b")]))
    assert (found["found"], found["segments"]) == (2, 2)
    assert found["delay_samples"] == 0
    assert found["flagged_share"] < 0.02


def test_one_alert_over_everything_has_a_fine_f1_and_the_flagged_share_gives_it_away():
    one = series("a")
    found = numbers([Judged(one, said(1440, Episode(0, 1440, 0, 1.0)), 0.0)])
    assert found["f1"] == 1.0
    assert found["flagged_share"] == 1.0
    assert found["f1_onset"] == 0.0


def test_an_alert_is_one_row_for_nab_however_long_it_stays_open():
    one = series("a", spikes=(900,))
    short = nab_numbers([Judged(one, said(1440, Episode(500, 501, 500, 1.5)), 0.0)])
    long = nab_numbers([Judged(one, said(1440, Episode(500, 700, 500, 1.5)), 0.0)])
    assert short["standard"]["shipped"] == long["standard"]["shipped"] < 0


def test_nab_counts_from_the_row_that_told_and_the_sweep_drops_weak_alerts():
    one = series("a", spikes=(900,))
    told = said(1440, Episode(895, 900, 895, 2.0), Episode(500, 501, 500, 1.1))
    found = nab_numbers([Judged(one, told, 0.0)])["standard"]
    assert found["best"] == pytest.approx(100.0)
    assert found["best_threshold"] == 2.0
    assert found["shipped"] < 100.0


def test_the_budget_of_a_family_is_chosen_on_the_others():
    """The loud budget is right for one family and wrong for the other, so each gets the other's."""
    a, b = series("a", "x"), series("b", "y")
    hit, wrong = said(1440, Episode(895, 896, 895, 2.0)), said(1440, Episode(500, 501, 500, 2.0))
    quiet = [Judged(a, said(1440), 0.0), Judged(b, hit, 0.0)]
    loud = [Judged(a, hit, 0.0), Judged(b, wrong, 0.0)]
    found = judged.nab_by_budget({0.1: quiet, 0.3: loud})["standard"]
    assert found["best"] == pytest.approx(50.0)
    assert found["best_budget"] == 0.1
    assert found["family_left_out"] < 0


def test_the_halves_share_no_series_and_hold_all():
    ordered = [Judged(series(name), said(1440), 0.0) for name in "dbcae"]
    split = halves(ordered)
    names = [[each.series.name for each in half] for half in split.values()]
    assert names == [["a", "c", "e"], ["b", "d"]]


def test_the_rate_on_clean_stretches_leaves_out_labels_their_neighbourhood_and_the_warm_up():
    one = series("a", spikes=(900,))
    ready = np.arange(1440) >= 240
    episodes = [Episode(at, at + 1, at, 1.0) for at in (100, 850, 900, 960, 1300)]
    rate, days = clean_rate([Judged(one, Judgement(episodes, np.zeros(1440), ready), 0.0)])
    assert days == pytest.approx((1440 - 240 - 210) / 1440)
    assert rate == pytest.approx(1 / days)


@pytest.mark.parametrize("rule", [z_score, last_value])
def test_baselines_find_a_spike_and_do_not_look_ahead(rule):
    one = series("a")
    whole = rule(one)
    assert any(each.start == 900 for each in whole.episodes)
    part = one.__class__("", "", "", one.ts_ms[:700], one.values[:700], one.labels[:700])
    np.testing.assert_allclose(rule(part).rows, whole.rows[:700])
    np.testing.assert_array_equal(rule(part).level, whole.level[:700])


def test_a_constant_series_gives_baselines_nothing_to_say():
    flat = unlabelled("", "", "flat", np.full(500, 7.0))
    assert z_score(flat).episodes == last_value(flat).episodes == []


def test_a_subset_is_spread_over_the_list_and_never_empty_unless_asked():
    many = [series(name, n=100, spikes=()) for name in "abcdefghij"]
    assert [each.name for each in quality.subset(many, 200)] == ["c", "h"]
    assert len(quality.subset(many, 1)) == 1
    assert len(quality.subset(many, 10_000)) == 10
    assert quality.subset(many, 0) == []


def test_the_page_shows_flagged_share_and_false_episodes_in_every_table_of_f1(monkeypatch):
    monkeypatch.setattr(quality, "BUDGETS", (0.05, 0.3))
    corpus = {"nab": [series("a", "x"), series("b", "y")]}
    clean = {"synthetic": [series("c", "k1", spikes=()), series("d", "k2", spikes=())]}
    found = quality.measure(corpus, clean, config.Engine(), 1440)
    methods = [row["method"] for row in found["baselines"]]
    assert methods[:4] == ["tocsin", "z-score, 3 sigma", "last value, 3 sigma", "tocsin, 1 series"]
    assert methods[4:] == ["river GaussianScorer, 1 series", "river HalfSpaceTrees, 1 series"]
    heads = [line for line in page(found).splitlines() if line.startswith("|") and " F1 " in line]
    assert len(heads) == 5
    assert all("false / series-day" in line and "flagged" in line for line in heads)
    assert "nan" not in page(found)


def test_without_the_data_it_says_so_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["quality", "--data", str(tmp_path)])
    assert quality.main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "--data" in told.err


def test_numbers_that_are_missing_are_null_in_json(monkeypatch, capsys):
    corpus = {"nab": [series("a")]}
    monkeypatch.setattr(quality, "BUDGETS", (0.05,))
    monkeypatch.setattr(quality, "_load", lambda _: (corpus, {}))
    monkeypatch.setattr(quality, "DATASETS", {})
    monkeypatch.setattr(
        quality, "speed", lambda: {"ns_per_sample": 1.0, "state_bytes": 2.0, "window_bytes": 3.0}
    )
    monkeypatch.setattr(quality.Path, "is_dir", lambda _: True)
    monkeypatch.setattr(sys, "argv", ["quality", "--json", "--river-rows", "0"])
    assert quality.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told["nab"]["standard"]["family_left_out"] is None


def test_every_ablation_changes_something_that_exists():
    for variant in ablations.VARIANTS:
        for path in variant.constants:
            module, name = path.split(".")
            assert hasattr(importlib.import_module(f"detectors.{module}"), name), path
        assert all(registry.load(name) for name in variant.weights)


def test_what_the_numenta_score_is_lost_to_adds_up():
    one = series("a", spikes=(900, 1200))
    found = [Judged(one, said(1440, Episode(500, 501, 500, 1.2), Episode(897, 899, 898, 1.1)), 0.0)]
    lost = ablations.losses(found)
    assert lost["missed windows"] == pytest.approx(50.0)
    assert lost["false alerts"] == pytest.approx(100 * 0.11 / 4)
    shipped = nab_numbers(found)["standard"]["shipped"]
    assert shipped + sum(lost.values()) == pytest.approx(100.0)
    assert 0.0 < lost["lateness"] < 5.0
    assert [(a, b) for _, a, b, _ in ablations.misses(found)] == [(1195, 1205)]


def test_the_slower_scale_tells_of_what_only_means_show():
    values = np.random.default_rng(5).normal(100, 10, 6000)
    values[5000:5100] += 12
    one = unlabelled("made", "f", "hump", values)
    alone = [each for each in tocsin(config.Engine())(one).episodes if 5000 <= each.detected < 5100]
    both = [each for each in ablations.slower(config.Engine())(one).episodes if 5000 <= each.detected < 5100]
    assert len(both) > len(alone)
    assert both[-1].detected % 12 == 11
