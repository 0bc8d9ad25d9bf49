"""`tocsin backtest`: the engine of everywhere, numbers checked by hand, a page that stands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detectors.engine import Engine
from detectors.evaluation.episodes import Episode, agreement, compare_episodes, episode_delays
from detectors.protocol import Samples
from schemas.config import Config
from stream.cli import app
from stream.errors import UserError
from stream.files import backtest, svg
from stream.files.labelled import Labelled, Windows, read_files
from stream.files.report_html import Report, render
from stream.files.score import Choice, score_file
from stream.files.sources import Columns

START_MS = 1_700_000_000_000
SPIKE_AT = 700


def spiky(seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(seed).normal(100, 1, 800)
    values[SPIKE_AT] = 500
    values[300:302] = np.nan
    return START_MS + 60_000 * np.arange(800), values


@pytest.fixture
def spiky_csv(tmp_path: Path) -> Path:
    ts_ms, values = spiky()
    labels = (np.arange(800) == SPIKE_AT).astype(int)
    rows = [f"{t},{v},{b}" for t, v, b in zip(ts_ms, values, labels, strict=True)]
    path = tmp_path / "load.csv"
    path.write_text("\n".join(["timestamp,value,label", *rows]) + "\n")
    return path


def read(*paths: Path, labels: Path | None = None) -> list[Labelled]:
    return read_files([str(p) for p in paths], Columns(), None, Windows(labels) if labels else None)


COLUMNS = ("score", "level", "expected", "lower", "upper")


def test_score_backtest_and_the_engine_say_the_same_bit_for_bit(spiky_csv, monkeypatch):
    cfg = Config()
    ts_ms, values = spiky()
    direct = Engine(cfg.engine, cfg.admission).process(
        Samples(["value"], np.zeros(800, np.int64), ts_ms, values)
    )
    monkeypatch.setattr(backtest, "CHUNK", 37)
    (replayed,) = backtest.replay(cfg, read(spiky_csv))
    rows = [row for _, row in score_file(str(spiky_csv), Choice(), cfg)]
    for name in COLUMNS:
        expected = getattr(direct, name)
        np.testing.assert_array_equal(getattr(replayed, name), expected)
        np.testing.assert_array_equal(np.array([getattr(r, name) for r in rows], np.float32), expected)
    np.testing.assert_array_equal(replayed.state, direct.state)
    np.testing.assert_array_equal(replayed.anomaly_started_ms, direct.anomaly_started_ms)
    told = [(e.started_ms, e.revision, e.score, e.reason.partition(" ")[2]) for e in direct.events]
    assert told
    assert told == [(e.started_ms, e.revision, e.score, e.reason.partition(" ")[2]) for e in replayed.events]


def test_series_are_told_apart_though_they_go_through_one_engine_in_order_of_time(tmp_path):
    ts_ms, one = spiky(1)
    _, other = spiky(2)
    series = [Labelled("a", "a", ts_ms, one, None), Labelled("b", "b", ts_ms + 7, other, None)]
    alone = [backtest.replay(Config(), [each])[0] for each in series]
    both = backtest.replay(Config(), series)
    for single, joint in zip(alone, both, strict=True):
        np.testing.assert_array_equal(single.score, joint.score)
        assert [e.reason for e in single.events] == [e.reason for e in joint.events]


def test_a_sample_out_of_order_stays_where_it_stood_in_its_file():
    ts_ms, values = spiky()
    ts_ms[[400, 401]] = ts_ms[[401, 400]]
    (replayed,) = backtest.replay(Config(), [Labelled("a", "a", ts_ms, values, None)])
    direct = Engine(Config().engine, Config().admission).process(
        Samples(["a"], np.zeros(800, np.int64), ts_ms, values)
    )
    np.testing.assert_array_equal(replayed.state, direct.state)


def test_the_spike_is_found_at_once_and_nothing_else(spiky_csv):
    measures = backtest.measure("x", backtest.replay(Config(), read(spiky_csv)))
    assert (measures.segments, measures.found, measures.false_alerts) == (1, 1, 0)
    assert (measures.precision, measures.recall, measures.f1, measures.f1_onset) == (1, 1, 1, 1)
    assert (measures.delay_samples, measures.delay_s) == (0, 0)
    assert measures.flagged_share == pytest.approx(1 / 800, abs=5 / 800)


def test_numbers_of_episodes_by_hand():
    labels = np.zeros(100, bool)
    labels[10:20] = labels[50:60] = labels[80:82] = True
    ts_ms = np.arange(100) * 864_000  # 100 samples a day
    values = np.where(np.arange(100) == 14, 5.0, 0.0)
    values[3] = np.nan
    # one reaches into the first segment, two touch each other and one of them is false, none in the third
    episodes = [Episode(8, 18, 16, 1.2), Episode(45, 50, 45, 1.0), Episode(50, 52, 50, 2.0)]
    counts = compare_episodes(ts_ms, episodes, labels)
    assert (counts.found, counts.missed, counts.false_episodes, counts.flagged_rows) == (2, 1, 1, 17)
    assert counts.precision == counts.recall == pytest.approx(2 / 3)
    delays = episode_delays(ts_ms, values, episodes, labels)
    assert delays == [(2, 2 * 864_000), (0, 0)]


def test_agreement_is_the_share_of_anomalies_both_have():
    a, b = [Episode(0, 5, 0, 1.0), Episode(20, 25, 20, 1.0)], [Episode(4, 6, 4, 1.0)]
    assert agreement([a], [b]) == pytest.approx(2 / 3)
    assert agreement([a], [a]) == 1.0
    assert np.isnan(agreement([[]], [[]]))


def test_labels_come_from_windows_by_file_or_series(spiky_csv, tmp_path):
    labels = tmp_path / "labels.json"
    for key in ("load.csv", f"{tmp_path.name}/load.csv", "load"):
        labels.write_text(json.dumps({key: [[START_MS, START_MS + 120_000], START_MS + 600_000]}))
        (series,) = read(spiky_csv, labels=labels)
        assert np.flatnonzero(series.labels).tolist() == [0, 1, 2, 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"load.csv": [["x", "y"]]}', "labels of 'load.csv'.*'x'"),
        ('{"load.csv": [["2024-01-02", "2024-01-01"]]}', "before"),
        ('{"lod.csv": []}', "did you mean 'lod.csv'"),
        ('{\n"load.csv": [}', "line 2"),
    ],
)
def test_labels_that_cannot_be_used_are_told_by_file_and_place(spiky_csv, tmp_path, text, message):
    labels = tmp_path / "labels.json"
    labels.write_text(text)
    with pytest.raises(UserError, match=message) as told:
        read(spiky_csv, labels=labels)
    assert "labels.json" in str(told.value)


def test_a_bad_label_or_value_is_told_by_file_and_line(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,value,label\n1,1,0\n2,2,maybe\n")
    with pytest.raises(UserError, match=r"bad.csv, line 3: 'maybe' is not a label"):
        read(path)
    path.write_text("timestamp,value,label\n1,1,0\n2,x,1\n")
    with pytest.raises(UserError, match=r"bad.csv, line 3: 'x' is not a number"):
        read(path)


def test_a_label_column_of_a_wide_file_labels_all_its_series(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("time,cpu,memory,bad\n1,1,5,0\n2,2,6,1\n3,,7,\n")
    found = read_files([str(path)], Columns(), "bad", None)
    assert [each.name for each in found] == ["cpu", "memory"]
    assert all(each.labels.tolist() == [False, True, False] for each in found)


def test_files_of_one_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cpu.csv").write_text("timestamp,value\n1,1\n")
    names = [each.name for each in read(tmp_path / "a" / "cpu.csv", tmp_path / "b" / "cpu.csv")]
    assert names[0].startswith('cpu{file="')
    assert len(set(names)) == 2


def test_the_command_compares_configurations_and_writes_a_page_that_needs_no_network(spiky_csv, tmp_path):
    page = tmp_path / "report.html"
    told = CliRunner().invoke(
        app,
        ["backtest", str(spiky_csv), "--variant", "engine.alert_budget=0.5", "--json", "--report", str(page)],
    )
    assert told.exit_code == 0, told.output
    numbers = json.loads(told.stdout)
    assert [each["configuration"] for each in numbers["configurations"]] == [
        "default",
        "engine.alert_budget=0.5",
    ]
    assert numbers["agreement"][0][0] == 1.0
    text = page.read_text()
    assert not re.search(r"https?://|<script|<link|@import", text)
    assert "load was" in text
    assert "prefers-color-scheme: dark" in text


def test_a_page_of_series_with_hostile_names_gaps_and_nothing_to_tell_is_well_formed():
    from xml.etree import ElementTree

    flat = np.full(30, np.nan)
    name = 'a&b{x="<script>"}'
    series = [Labelled(name, "f.csv", START_MS + np.arange(30) * 1000, flat, np.zeros(30, bool))]
    run = backtest.replay(Config(), series)
    page = render(Report([backtest.measure("<x>", run)], [[np.nan]], [run]))
    assert "<script>" not in page
    for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(figure)


def test_a_long_series_is_drawn_with_few_points_and_keeps_its_extremes():
    ts_ms = np.arange(200_000) * 60_000
    values = np.sin(np.arange(200_000) / 500)
    values[123_456] = 50.0
    box = svg.Box(0, 0, 1000, 100, 0.0, float(ts_ms[-1]), -1.0, 50.0)
    path = svg.line(box, ts_ms, values, "value")
    assert path.count("L") < 5000
    assert f" {box.y(50.0):.1f}" in path
