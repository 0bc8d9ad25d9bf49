"""`tocsin score`: one row out for each row in, causal, the same engine as live."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest

from schemas.config import Config
from stream.errors import UserError
from stream.files import score
from stream.files.score import Choice, score_file

START_MS = 1_700_000_000_000
SPIKE_AT = 700


@pytest.fixture
def spiky(tmp_path: Path) -> Path:
    rng = np.random.default_rng(7)
    values = rng.normal(100, 1, 800)
    values[SPIKE_AT] = 500
    texts = [str(v) for v in values]
    texts[300], texts[301] = "", "NaN"
    path = tmp_path / "spiky.csv"
    rows = [f"{START_MS // 1000 + 60 * i},{text}" for i, text in enumerate(texts)]
    path.write_text("\n".join(["time,load", *rows]) + "\n")
    return path


LOAD = Choice(value="load")


def scored(path: Path, choice: Choice = LOAD) -> list[dict[str, str]]:
    out = io.StringIO()
    score.write(score_file(str(path), choice, Config()), out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_every_row_is_there_with_its_own_texts_gaps_included(spiky):
    rows = scored(spiky)
    given = list(csv.reader(spiky.open()))[1:]
    assert [[row["timestamp"], row["value"]] for row in rows] == given
    assert tuple(rows[0]) == score.COLUMNS
    assert [rows[i]["score"] for i in (300, 301)] == ["", ""]


def test_the_spike_and_nothing_else_is_an_anomaly(spiky):
    rows = scored(spiky)
    flagged = [i for i, row in enumerate(rows) if row["alert"] == "1"]
    assert flagged
    assert flagged[0] == SPIKE_AT
    assert len({rows[i]["anomaly_id"] for i in flagged}) == 1
    assert all(rows[i]["anomaly_id"] for i in flagged)
    assert float(rows[SPIKE_AT]["score"]) >= 1 > float(rows[SPIKE_AT - 1]["score"])
    assert float(rows[SPIKE_AT]["lower"]) < 100 < float(rows[SPIKE_AT]["upper"]) < 500


def test_what_is_said_of_a_row_does_not_depend_on_later_rows(spiky, tmp_path):
    whole = scored(spiky)
    part = tmp_path / "part.csv"
    part.write_text("".join(spiky.open().readlines()[: SPIKE_AT + 3]))
    assert scored(part) == whole[: SPIKE_AT + 2]


def test_the_cut_into_chunks_changes_nothing(spiky, monkeypatch):
    whole = scored(spiky)
    monkeypatch.setattr(score, "CHUNK_ROWS", 7)
    assert scored(spiky) == whole


@pytest.mark.parametrize("form", ["iso", "seconds", "milliseconds", "float"])
def test_times_may_be_written_in_any_of_the_usual_ways(tmp_path, form):
    text = {"iso": "2023-11-14T22:13:20Z", "seconds": "1700000000", "milliseconds": "1700000000000"}
    path = tmp_path / "one.csv"
    path.write_text(f"timestamp,value\n{text.get(form, '1700000000.0')},1\n")
    ((texts, row),) = score_file(str(path), Choice(), Config())
    assert (row.ts_ms, row.value, texts[1]) == (START_MS, 1.0, "1")
    assert math.isnan(row.score)


def test_a_name_as_on_kafka_gives_the_ids_of_kafka(spiky):
    plain, named = scored(spiky), scored(spiky, Choice(value="load", series='load{host="a"}'))
    assert plain[SPIKE_AT]["score"] == named[SPIKE_AT]["score"]
    assert plain[SPIKE_AT]["anomaly_id"] != named[SPIKE_AT]["anomaly_id"]


def test_a_file_that_cannot_be_read_leaves_nothing_behind(tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("timestamp,value\n1,1\n2,x\n")
    target = tmp_path / "out.csv"
    with pytest.raises(UserError, match="line 3"):
        score.write_file(score_file(str(bad), Choice(), Config()), target)
    assert sorted(tmp_path.iterdir()) == [bad]
