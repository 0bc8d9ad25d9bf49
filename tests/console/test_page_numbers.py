"""What the pages compute, and their texts."""

from __future__ import annotations

import io
import re
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest

from console.pages import analysis, measures, upload
from console.pages.client import Failed, Intervals, Points, Span
from console.pages.found import Found, file_name, zipped
from console.pages.texts import LANGUAGES, TEXTS, Say
from stream.errors import UserError
from stream.refresh.frames import Frame

PAGES = Path(__file__).resolve().parents[2] / "console" / "pages"
MINUTE_MS = 60_000


def flags(*at: int, size: int = 100) -> np.ndarray:
    found = np.zeros(size, np.bool_)
    found[list(at)] = True
    return found


def test_every_text_is_there_in_both_languages_with_the_same_fields() -> None:
    for key, text in TEXTS.items():
        assert all(text), key
        fields = [{field for _, field, _, _ in string.Formatter().parse(each) if field} for each in text]
        assert fields[0] == fields[1], key
        assert re.search("[А-яё]", text.ru) or text.ru == text.en, key  # noqa: RUF001


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in PAGES.rglob("*.py") if path.parent.stem != "texts"
    )
    assert set(re.findall(r'\bsay\(\s*"(\w+)"', source)) <= set(TEXTS)
    quoted = set(re.findall(r"[\"'](\w+)[\"']", source))
    used = quoted | {f"column_{name}" for name in quoted}
    assert sorted(set(TEXTS) - used) == []


def test_a_text_is_filled_in() -> None:
    assert [Say(code)("token_wrong") for code in LANGUAGES.values()] == list(TEXTS["token_wrong"])
    assert Say("en")("hours", hours=24) == "24 h"


def test_flagged_samples_near_to_each_other_are_one_episode() -> None:
    assert measures.episodes(flags()) == []
    assert measures.episodes(flags(3, 4, 8, 60)) == [(3, 8), (60, 60)]


def test_statistics_leave_gaps_out() -> None:
    found = measures.statistics(np.array([1.0, np.nan, 3.0]))
    assert found == pytest.approx((2, 1, 1, 3, 2, 2, np.sqrt(2), np.sqrt(2) / 2))
    assert measures.statistics(np.array([np.nan])).samples == 0


def test_models_agree_by_the_episodes_that_both_found() -> None:
    assert measures.agreement(flags(10, 11), flags(13)) == 1.0
    assert measures.agreement(flags(10, 50), flags(12)) == pytest.approx(2 / 3)
    assert measures.agreement(flags(10), flags(50)) == 0.0
    assert np.isnan(measures.agreement(flags(), flags()))


def test_episodes_of_several_name_who_takes_part() -> None:
    found = measures.together({"a": flags(10, 50), "b": flags(12)})
    assert found == [((10, 12), ["a", "b"]), ((50, 50), ["a"])]


def waves(days: int = 6) -> Frame:
    ts_ms = np.arange(0, days * 1440, dtype=np.int64) * MINUTE_MS
    noise = np.random.default_rng(1).normal(size=len(ts_ms))
    daily = np.sin(ts_ms / (1440 * MINUTE_MS) * 2 * np.pi)
    return Frame(
        ts_ms, {"daily": 5 + daily + 0.1 * noise, "noise": noise, "walk": np.cumsum(noise), "flat": 0 * noise}
    )


def test_the_day_is_found_as_the_period_and_explains_the_series() -> None:
    series = analysis.regular(waves(), "daily")
    assert series is not None
    found = analysis.autocorrelation(series)
    assert found is not None
    assert found.period is not None
    assert found.period * series.step_ms == pytest.approx(86_400_000, rel=0.02)
    parts = analysis.parts(series, found.period)
    assert parts is not None
    assert parts.strength > 0.95


def test_the_period_of_two_days_by_the_minute_is_the_top_of_the_hump_and_no_peak_of_the_noise_before_it() -> (
    None
):
    at = np.arange(3_000)
    for seed in range(10):
        values = np.sin(at / 1440 * 2 * np.pi) + 0.1 * np.random.default_rng(seed).normal(size=len(at))
        frame = Frame(at * MINUTE_MS, {"daily": values})
        series = analysis.regular(frame, "daily")
        assert series is not None
        found = analysis.autocorrelation(series)
        assert found is not None
        assert found.period is not None
        # The estimate of so short a series leans to shorter lags, by half an hour.
        assert found.period * series.step_ms == pytest.approx(86_400_000, rel=0.04)


def test_noise_is_stationary_and_a_walk_is_not() -> None:
    verdicts = {}
    for name in ("noise", "walk"):
        series = analysis.regular(waves(), name)
        assert series is not None
        tested = analysis.stationarity(series)
        assert tested is not None
        verdicts[name] = tested.verdict
    assert verdicts == {"noise": "stationary", "walk": "wandering"}


def test_a_constant_or_short_series_is_not_analysed() -> None:
    flat = analysis.regular(waves(), "flat")
    assert flat is not None
    assert analysis.autocorrelation(flat) is None
    assert analysis.stationarity(flat) is None
    assert analysis.regular(waves().between(0, 10 * MINUTE_MS), "noise") is None


def test_correlations_are_those_of_ranks() -> None:
    rising = np.arange(100.0)
    found = analysis.correlations({"a": rising, "b": rising**3, "c": -rising})
    assert found == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))


def test_answers_of_each_kind_flag_times_and_become_tables() -> None:
    ts_ms = np.array([0, 1000, 2000], np.int64)
    usual = {"level": 0.5, "expected": 1.0, "lower": 0.0, "upper": 2.0, "score": None}
    columns = {name: [value] * 3 for name, value in usual.items()}
    columns |= {"ts_ms": [0, 1000, 2000], "value": [0, 1, 2], "anomaly": [False, True, False]}
    points = Found.of(Points(columns))
    assert points.flags(ts_ms).tolist() == [False, True, False]
    assert len(points.table(only_anomalies=True)) == 1
    assert points.csv().decode().splitlines()[2] == "1970-01-01T00:00:01.000Z,1.0,,0.5,1.0,0.0,2.0,1"
    spans = Found.of(Intervals([Span("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.000Z", 1.5)]))
    assert spans.flags(ts_ms).tolist() == [False, True, True]
    assert spans.between(0, 1000).csv().decode() == "start,end,severity\n"
    assert Found.of(Failed("no")).error == "no"


def test_files_in_a_zip_have_names_that_every_system_takes() -> None:
    name = file_name('cpu{host="a/b"}', "default")
    assert name == "cpu_host_a_b-default"
    with zipfile.ZipFile(io.BytesIO(zipped({f"{name}.csv": b"x"}))) as archive:
        assert archive.namelist() == ["cpu_host_a_b-default.csv"]


def test_a_file_gives_its_columns_and_samples_and_goes_on_to_the_api() -> None:
    content = b"when,load,host\n1000000000,1,a\n1000000060,,a\n"
    assert upload.columns(content, "x.csv") == (["when", "load", "host"], None)
    frame = upload.frame(content, "x.csv", "when", 10)
    assert list(frame.columns) == ["load"]
    written = upload.written(frame, ["load"])
    assert upload.frame(written, "y.csv", "timestamp", 10).ts_ms.tolist() == frame.ts_ms.tolist()
    with pytest.raises(UserError, match="header and no rows"):
        upload.columns(b"time,load\n", "x.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "x.csv is empty: expected a header line"),
        (b"PK\x03\x04\x80\xff", "x.csv is not UTF-8 text: save it as CSV in UTF-8, not as a spreadsheet"),
        ("время,нагрузка\n".encode("cp1251"), "x.csv is not UTF-8 text"),
        (b"time;load\n2026-01-01;1\n", "x.csv separates its columns by semicolons: save it with commas"),
        (b"time\tload\n2026-01-01\t1\n", "x.csv separates its columns by tabs"),
        (b"\x1f\x8bjunkjunkjunk", "x.csv cannot be unpacked"),
        (b"time,load\n2026-01-01T00:00:00Z\n", "x.csv, line 2: has 1 fields, the header has 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        upload.columns(content, "x.csv")


def test_series_are_joined_on_one_axis_of_time() -> None:
    one = Frame(np.array([1, 3]), {"a": np.array([1.0, 3.0])})
    two = Frame(np.array([2, 3]), {"b": np.array([20.0, 30.0])})
    joined = upload.joined({"a": one, "b": two})
    assert joined.ts_ms.tolist() == [1, 2, 3]
    assert np.array_equal(joined.columns["b"], [np.nan, 20.0, 30.0], equal_nan=True)
