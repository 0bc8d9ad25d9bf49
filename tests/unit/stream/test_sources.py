"""What `tocsin produce` reads: files as people have them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from stream.errors import UserError
from stream.files.sources import Columns, Lines, kind_of, read
from stream.files.tables import Meter

ANY = Columns()


def samples(path: Path, columns: Columns = ANY, labels=None, kind="csv", chunk=10_000):
    found = []
    for part in read(str(path), kind, columns, labels or {}, chunk, Meter()):
        rows = zip(part.series_index.tolist(), part.ts_ms.tolist(), part.values.tolist(), strict=True)
        found += [(part.series[i], ts_ms, value) for i, ts_ms, value in rows]
    return found


def write(tmp_path: Path, text: str, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_wide_file_is_a_series_a_column(tmp_path):
    path = write(tmp_path, "timestamp,cpu,memory\n1700000000,1.5,2\n1700000060,3,\n")
    found = samples(path, labels={"host": "a"})
    assert found[:3] == [
        ('cpu{host="a"}', 1700000000000, 1.5),
        ('memory{host="a"}', 1700000000000, 2.0),
        ('cpu{host="a"}', 1700000060000, 3.0),
    ]
    assert np.isnan(found[3][2])


def test_a_file_with_one_value_column_is_named_after_the_file_or_by_option(tmp_path):
    path = write(tmp_path, "TimeStamp,Value,Label\n2024-01-01 00:00:00,7,0\n", "load.csv")
    assert samples(path) == [("load", 1704067200000, 7.0)]
    assert samples(path, Columns(metric="m"))[0][0] == "m"


def test_a_long_file_names_its_series_in_a_column(tmp_path):
    path = write(tmp_path, 'time,metric,region,value\n1,a,eu,1\n1,a,us,2\n2,"b{x=""y""}",eu,3\n')
    assert [s for s, _, _ in samples(path, Columns(label_columns=["region"]))] == [
        'a{region="eu"}',
        'a{region="us"}',
        'b{x="y"}',
    ]


def test_json_lines_and_gzip_are_read_whatever_the_name_says(tmp_path):
    path = tmp_path / "points.jsonl"
    line = b'{"metric":"m","labels":{"b":"2","a":"1"},"ts":"2024-01-01T00:00:00Z","value":1}\n\n'
    path.write_bytes(gzip.compress(line * 2))
    assert (
        samples(path, kind="jsonl", labels={"z": "0"}) == [('m{a="1",b="2",z="0"}', 1704067200000, 1.0)] * 2
    )


def test_chunks_have_the_size_asked_for_and_keep_the_order(tmp_path):
    path = write(tmp_path, "ts,value\n" + "".join(f"{i},{i}\n" for i in range(25)))
    parts = list(read(str(path), "csv", Columns(), {}, 10, Meter()))
    assert [len(part.ts_ms) for part in parts] == [10, 10, 5]
    assert [v for part in parts for v in part.values] == list(range(25))


def test_timeslices_are_keyed_by_application_and_sent_as_they_are(tmp_path):
    row = ["1", "HttpDispatcher", "2024-01-01 00:00:00", *"123456", "2", "java", "shop", "9", "", *"hdpvl"]
    path = write(tmp_path, "\t".join(row) + "\n", "export.tsv")
    (lines,) = read(str(path), "timeslice", Columns(), {}, 10, Meter())
    assert isinstance(lines, Lines)
    assert lines == Lines([b"shop"], ["\t".join(row).encode()])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("when,value\n1,1\n", "name one of 'when', 'value' with --timestamp-column"),
        ("ts,value\n1,1\nyesterday,2\n", "line 3: 'yesterday' is not ISO 8601"),
        ("ts,value\n1,1\n2,many\n", "line 3: 'many' is not a number"),
        ("ts,value\n1,inf\n", "line 2: 'inf' is not finite"),
        ("ts,value\n1,1,1\n", "line 2: has 3 fields, the header has 2"),
        ('ts,value\n1,"1\n', "line 2: unexpected end of data"),
        ("ts,a{\n1,1\n", "line 2: metric name"),
        ("ts\n1\n", "no column with values"),
        ("ts,host,value\n1,a,1\n1,b,1\n", "line 3: the time is not after that of the row before"),
    ],
)
def test_a_bad_csv_file_is_told_with_its_line(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=r"data\.csv") as caught:
        samples(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("line", ["[]", '{"metric":"m"}', '{"metric":"","ts":1,"value":1}', "{", "\xff"])
def test_a_bad_json_line_is_told_with_its_line(tmp_path, line):
    path = tmp_path / "points.jsonl"
    path.write_bytes(b'{"metric":"m","ts":1,"value":1}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(UserError, match="line 2"):
        samples(path, kind="jsonl")


def test_a_name_that_is_nearly_right_is_suggested(tmp_path):
    path = write(tmp_path, "ts,value\n1,1\n")
    with pytest.raises(UserError, match="did you mean 'value'"):
        samples(path, Columns(values=["valeu"]))


def test_the_kind_follows_the_name():
    assert [kind_of(n) for n in ("a.csv", "b.CSV.gz", "c.ndjson", "d.tsv.gz")] == [
        "csv",
        "csv",
        "jsonl",
        "timeslice",
    ]
    with pytest.raises(UserError, match="--format"):
        kind_of("a.txt")
