"""`tocsin fit` and `tocsin score --detector` without Kafka, in this process, to be fast."""

import csv
import io
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from detectors.batch import unpack
from stream.cli import app
from stream.errors import UserError

START_S = 1_700_006_400  # midnight UTC
ROWS = 12 * 24 * 8
TRAINED = 12 * 24 * 7
UNTIL = str(START_S + 300 * TRAINED)
SPIKE_AT = TRAINED + 100
CHEAP = {
    "aer": ["--param", "epochs=3", "--param", "max_windows=500"],
    "iforest": ["--param", "n_estimators=40"],
    "prophet": ["--param", "horizon_ms=172800000"],
}


def week(path: Path, rows: int = ROWS, spike: float = 40.0) -> str:
    """Eight days by five minutes with a spike on the last."""
    at = np.arange(rows)
    values = 100 + 20 * np.sin(2 * np.pi * at / 288) + np.random.default_rng(1).normal(size=rows)
    values[SPIKE_AT : SPIKE_AT + 1] += spike
    lines = (f"{START_S + 300 * i},{value}" for i, value in zip(at.tolist(), values.tolist(), strict=True))
    path.write_text("\n".join(["time,load", *lines]) + "\n")
    return str(path)


def tocsin(*arguments: str) -> None:
    app([*arguments, "--value-column", "load"], standalone_mode=False)


def score(*arguments: str) -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scored.csv"
        tocsin("score", *arguments, "--set", "engine.alert_budget=1", "-o", str(file))
        return list(csv.DictReader(io.StringIO(file.read_text())))


def alerts(rows: list[dict[str, str]]) -> list[int]:
    return [i for i, row in enumerate(rows) if row["alert"] == "1"]


@pytest.mark.parametrize("detector", ["aer", "iforest", "prophet"])
def test_a_model_from_a_file_scores_as_one_that_is_fitted_on_the_way(tmp_path, capsys, detector):
    file, model = week(tmp_path / "week.csv"), tmp_path / "model.safetensors"
    tocsin("fit", file, "--detector", detector, *CHEAP[detector], "--until", UNTIL, "-o", str(model))
    assert f"{detector} fitted on {TRAINED:,} rows" in capsys.readouterr().err
    assert unpack(model.read_bytes()).facts["detector"] == detector
    on_the_way = score(file, "--detector", detector, *CHEAP[detector], "--train-until", UNTIL)
    assert len(on_the_way) == ROWS
    assert not any(row["score"] for row in on_the_way[:TRAINED])  # nothing is said before there is a model
    assert all(row["score"] for row in on_the_way[TRAINED + 30 :])
    assert alerts(on_the_way)[0] == SPIKE_AT
    rest = tmp_path / "rest.csv"
    lines = Path(file).read_text().splitlines()
    rest.write_text("\n".join([lines[0], *lines[1 + TRAINED :]]) + "\n")
    of_file = score(str(rest), "--detector", detector, *CHEAP[detector], "--model", str(model))
    assert alerts(of_file)[0] == SPIKE_AT - TRAINED
    if detector == "prophet":  # it learns nothing online, so its band is the same however it came
        assert [r["expected"] for r in of_file[30:]] == [r["expected"] for r in on_the_way[TRAINED + 30 :]]


def test_the_model_is_fitted_on_rows_before_the_time_and_nothing_later_changes_what_was_said(tmp_path):
    arguments = ["--detector", "prophet", *CHEAP["prophet"], "--train-until", UNTIL]
    whole = score(week(tmp_path / "a.csv"), *arguments)
    higher = score(week(tmp_path / "b.csv", spike=9000.0), *arguments)
    shorter = score(week(tmp_path / "c.csv", rows=TRAINED + 60), *arguments)
    assert higher[:SPIKE_AT] == whole[:SPIKE_AT]
    assert shorter == whole[: TRAINED + 60]


def test_an_online_detector_needs_no_model(tmp_path):
    rows = score(week(tmp_path / "a.csv"), "--detector", "large", "--param", "warm_up=50")
    assert SPIKE_AT in alerts(rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "FILE", "--detector", "prophet"], "give either --model or --train-until"),
        (["score", "FILE", "--detector", "large", "--train-until", UNTIL], "there is nothing to fit"),
        (["score", "FILE", "--detector", "profet"], "unknown model 'profet'"),
        (["score", "FILE", "--train-until", UNTIL], "name it with --detector"),
        (["score", "FILE", "--detector", "iforest", "--param", "trees=3"], "has no parameter 'trees'"),
        (["score", "FILE", "--detector", "iforest", "--param", "trees"], "write name=value"),
        (["score", "FILE", "--detector", "iforest", "--train-until", "soon"], "'soon' is not ISO 8601"),
        (["score", "FILE", "--detector", "iforest", "--train-until", "2030-01-01"], "no row is left"),
        (
            ["score", "FILE", "--detector", "iforest", "--train-until", str(START_S + 900)],
            "no model: 3 samples",
        ),
        (["score", "FILE", "--detector", "iforest", "--model", "none.safetensors"], "No such file"),
        (["score", "FILE", "--detector", "iforest", "--model", "FILE"], "is not an artifact"),
        (["fit", "FILE", "--detector", "rare", "-o", "model.safetensors"], "there is nothing to fit"),
        (["fit", "FILE", "--detector", "iforest", "-o", "/nowhere/model.safetensors"], "No such file"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path, arguments, said):
    file = week(tmp_path / "week.csv")
    given = [file if each == "FILE" else each for each in arguments]
    with pytest.raises(UserError, match=re.escape(said)):
        tocsin(*given)


def test_a_model_of_another_detector_is_refused(tmp_path):
    file, model = week(tmp_path / "week.csv"), str(tmp_path / "model.safetensors")
    tocsin("fit", file, "--detector", "iforest", *CHEAP["iforest"], "-o", model)
    with pytest.raises(UserError, match="artifact of iforest version 2, not prophet"):
        tocsin("score", file, "--detector", "prophet", "--model", model)
