"""What every format promises, and what each makes of good and bad messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import config
from schemas.deadletter import Reason
from schemas.series import Series
from stream.formats import protocol
from stream.formats.auto import Auto
from stream.formats.columnar import Columnar, encode_columnar
from stream.formats.json_point import JsonPoint, encode_point
from stream.formats.protocol import Decoded, Format
from stream.formats.timeslice import Timeslice
from stream.formats.timeslice_rows import encode_row
from stream.worker.admission import Admission

NOW_MS = 1_716_000_000_000


class FakeRecord(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = NOW_MS
    key: bytes | None = None
    topic: str = "telemetry"
    partition: int = 3


def records(*values: bytes) -> list[FakeRecord]:
    return [FakeRecord(offset, value) for offset, value in enumerate(values)]


def decode(found: Format, *values: bytes) -> Decoded:
    return found.decode(records(*values))


def triples(decoded: Decoded) -> list[tuple[str, int, float]]:
    series, index, ts_ms, values = decoded.samples
    return [
        (series[i], t, v) for i, t, v in zip(index.tolist(), ts_ms.tolist(), values.tolist(), strict=True)
    ]


def make(name: str, **options: object) -> Format:
    return protocol.load(name).create(options, Admission(config.Admission()))


def reasons(decoded: Decoded) -> list[Reason]:
    return [letter.reason for letter in decoded.dead]


label_names = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=8)
metrics = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="{}"),
    min_size=1,
    max_size=20,
)
labels = st.dictionaries(
    label_names, st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])), max_size=3
)
times = st.integers(100_000_000_001, NOW_MS)
finite = st.floats(allow_nan=False, allow_infinity=False)
points = st.tuples(metrics, labels, times, finite)


@pytest.mark.parametrize("name", ["json", "columnar", "timeslice", "auto"])
def test_every_format_is_found_by_its_entry_point(name: str) -> None:
    assert decode(make(name)).samples.series_index.size == 0


def test_an_unknown_format_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="auto, columnar, json, timeslice"):
        protocol.load("avro")


@pytest.mark.parametrize("name", ["json", "columnar", "timeslice", "auto"])
def test_an_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="colour"):
        make(name, colour=1)


@pytest.mark.parametrize("name", ["json", "columnar", "timeslice", "auto"])
@given(garbage=st.lists(st.binary(min_size=1), max_size=5))
def test_no_bytes_make_a_format_raise_and_each_message_is_accounted_for(
    name: str, garbage: list[bytes]
) -> None:
    decoded = decode(make(name), *garbage)
    assert all(letter.error for letter in decoded.dead)
    if name == "json":
        assert len(triples(decoded)) + len(decoded.dead) >= sum(not g.startswith(b"[") for g in garbage)


@given(st.lists(points, max_size=20))
def test_json_points_come_back_as_they_were_sent(sent: list[tuple[str, dict[str, str], int, float]]) -> None:
    decoded = decode(make("json"), *(encode_point(*point) for point in sent))
    assert not decoded.dead
    assert triples(decoded) == [(Series(m, ls).text(), t, v) for m, ls, t, v in sent]


@given(st.lists(points, max_size=20))
def test_an_array_of_points_equals_the_points_one_by_one(
    sent: list[tuple[str, dict[str, str], int, float]],
) -> None:
    one_by_one = [encode_point(*point) for point in sent]
    array = b"[" + b",".join(one_by_one) + b"]"
    assert triples(decode(make("auto"), array)) == triples(decode(make("auto"), *one_by_one))


@given(st.lists(points, min_size=1, max_size=20), st.data())
def test_columns_come_back_as_they_were_sent(
    sent: list[tuple[str, dict[str, str], int, float]], data: st.DataObject
) -> None:
    series = [Series(m, ls).text() for m, ls, _, _ in sent]
    index = data.draw(st.lists(st.integers(0, len(series) - 1), max_size=50))
    ts_ms = [sent[i][2] for i in index]
    values = [sent[i][3] for i in index]
    message = encode_columnar(series, np.array(index, np.int64), np.array(ts_ms, np.int64), np.array(values))
    decoded = decode(make("auto"), message, message)
    assert not decoded.dead
    expected = [(series[i], t, v) for i, t, v in zip(index, ts_ms, values, strict=True)]
    assert triples(decoded) == expected + expected


def test_a_dictionary_seen_before_is_the_same_object() -> None:
    found = make("columnar")
    message = encode_columnar(["a", "b"], np.array([1]), np.array([NOW_MS]), np.array([1.0]))
    assert decode(found, message).samples.series is decode(found, message, message).samples.series


def test_a_gap_is_admitted_and_infinity_is_set_aside_with_its_position() -> None:
    message = encode_columnar(
        ["a"], np.zeros(4, np.int64), np.full(4, NOW_MS), np.array([1.0, math.inf, math.nan, -math.inf])
    )
    decoded = decode(make("columnar"), message)
    assert str(decoded.samples.values.tolist()) == "[1.0, nan]"
    assert [(d.reason, d.position) for d in decoded.dead] == [(Reason.NOT_FINITE, 1), (Reason.NOT_FINITE, 3)]
    assert msgspec.json.decode(decoded.dead[0].raw)["value"] == "inf"


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        ("1716000000", 1_716_000_000_000),
        ("1716000000.25", 1_716_000_000_250),
        ("1716000000123", 1_716_000_000_123),
        ('"2024-05-18T02:40:00Z"', 1_716_000_000_000),
        ('"2024-05-18 02:40:00"', 1_716_000_000_000),
        ('"2024-05-18T04:40:00.5+02:00"', 1_716_000_000_500),
    ],
)
def test_times_are_seconds_milliseconds_or_iso(ts: str, expected: int) -> None:
    decoded = decode(make("json"), b'{"metric":"m","ts":%s,"value":1}' % ts.encode())
    assert triples(decoded) == [("m", expected, 1.0)]


BAD_POINTS: list[tuple[bytes, Reason]] = [
    (b"[", Reason.NOT_PARSED),
    (b'{"metric":"m","ts":1716000000,"value":1', Reason.NOT_PARSED),
    (b'{"metric":"m","ts":1716000000,"value":1}{}', Reason.NOT_PARSED),
    (b'{"a":' * 3000, Reason.NOT_PARSED),
    (b'{"metric":"m\xff","ts":1716000000,"value":1}', Reason.NOT_TEXT),
    (b'{"metric":"m","value":1}', Reason.MISSING_FIELD),
    (b'{"metric":"m","ts":1716000000}', Reason.MISSING_FIELD),
    (b"{}", Reason.MISSING_FIELD),
    (b'{"metric":"m","ts":1716000000,"value":null}', Reason.WRONG_TYPE),
    (b'{"metric":"m","ts":1716000000,"value":"1"}', Reason.WRONG_TYPE),
    (b'{"metric":"m","ts":1716000000,"value":true}', Reason.WRONG_TYPE),
    (b'{"metric":"m","ts":1716000000,"value":{}}', Reason.WRONG_TYPE),
    (b"[1]", Reason.WRONG_TYPE),
    (b'{"metric":"m","ts":1716000000,"value":NaN}', Reason.NOT_FINITE),
    (b'{"metric":"m","ts":1716000000,"value":Infinity}', Reason.NOT_FINITE),
    (b'{"metric":"m","ts":1716000000,"value":1e400}', Reason.NOT_FINITE),
    (b'{"metric":"m","ts":1716000000,"value":1' + b"0" * 400 + b"}", Reason.NOT_FINITE),
    (b'{"metric":"m","ts":"yesterday","value":1}', Reason.BAD_TIMESTAMP),
    (b'{"metric":"m","ts":null,"value":1}', Reason.BAD_TIMESTAMP),
    (b'{"metric":"m","ts":-5,"value":1}', Reason.BAD_TIMESTAMP),
    (b'{"metric":"m","ts":1e300,"value":1}', Reason.BAD_TIMESTAMP),
    (b'{"metric":"m","ts":1716000601,"value":1}', Reason.TOO_FAR_AHEAD),
    (b'{"metric":"","ts":1716000000,"value":1}', Reason.BAD_SERIES),
    (b'{"metric":7,"ts":1716000000,"value":1}', Reason.BAD_SERIES),
    (b'{"metric":"m{a=\\"b\\"}","ts":1716000000,"value":1}', Reason.BAD_SERIES),
    (b'{"metric":"m","labels":{"a":1},"ts":1716000000,"value":1}', Reason.BAD_SERIES),
    (b'{"metric":"m","labels":null,"ts":1716000000,"value":1}', Reason.BAD_SERIES),
    (b'{"metric":"m","labels":{"a=b":"c"},"ts":1716000000,"value":1}', Reason.BAD_SERIES),
    (b'{"metric":"%s","ts":1716000000,"value":1}' % (b"m" * 5000), Reason.BAD_SERIES),
]
GOOD = b'{"metric":"good","ts":1716000000,"value":1}'


@pytest.mark.parametrize(("bad", "reason"), BAD_POINTS)
def test_a_bad_point_is_set_aside_with_its_reason_and_its_neighbours_are_unharmed(
    bad: bytes, reason: Reason
) -> None:
    decoded = decode(make("json"), GOOD, bad, GOOD)
    assert reasons(decoded) == [reason]
    assert [name for name, _, _ in triples(decoded)] == ["good", "good"]
    assert decoded.dead[0].offset == 1


def test_bad_elements_of_an_array_are_set_aside_by_position() -> None:
    elements = (
        [GOOD] + [bad for bad, _ in BAD_POINTS if bad.startswith(b"{") and bad.endswith(b"l}")] + [GOOD]
    )
    decoded = decode(make("json"), b"[" + b",".join(elements) + b"]")
    assert [(d.position, d.raw) for d in decoded.dead] == list(enumerate(elements))[1:-1]
    assert len(triples(decoded)) == 2


def _columns(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "series": ["a"], "index": b"\0" * 4, "ts_ms": NOW_MS.to_bytes(8, "little"), "value": b"\0" * 8,
        "v": 1,
    }  # fmt: skip
    return msgspec.msgpack.encode({k: v for k, v in (fields | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (_columns(series=None), Reason.MISSING_FIELD),
        (_columns(value=None), Reason.MISSING_FIELD),
        (_columns(index=b"\0" * 3), Reason.BAD_SHAPE),
        (_columns(value=b"\0" * 16), Reason.BAD_SHAPE),
        (_columns(index=b"\1\0\0\0"), Reason.BAD_SHAPE),
        (_columns(v=2), Reason.BAD_VERSION),
        (_columns(series="a"), Reason.WRONG_TYPE),
        (_columns(series=[1]), Reason.WRONG_TYPE),
        (_columns(ts_ms=[1]), Reason.WRONG_TYPE),
        (_columns(series=[""]), Reason.BAD_SERIES),
        (_columns(series=["m{"]), Reason.BAD_SERIES),
        (_columns(series=['m{a="b"}x']), Reason.BAD_SERIES),
        (_columns(ts_ms=b"\xff" * 8), Reason.BAD_TIMESTAMP),
        (_columns(ts_ms=(NOW_MS + 600_001).to_bytes(8, "little")), Reason.TOO_FAR_AHEAD),
        (_columns()[:-3], Reason.NOT_PARSED),
        (b"\x85", Reason.NOT_PARSED),
    ],
)
def test_bad_columns_are_set_aside_with_their_reason(bad: bytes, reason: Reason) -> None:
    decoded = decode(make("columnar"), _columns(), bad, _columns())
    assert reasons(decoded) == [reason]
    assert len(triples(decoded)) == 2


def test_a_name_in_columns_is_brought_to_its_canonical_form() -> None:
    decoded = decode(make("columnar"), _columns(series=['m{b="1",a="2"}']))
    assert decoded.samples.series == ('m{a="2",b="1"}',)


def row(
    minute: int, name: str, count: float = 0, total: float = 0, exclusive: float = 0, **more: object
) -> bytes:
    fields = {
        "account_id": 1, "name": name, "point": (NOW_MS // 60_000 + minute) * 60, "call_count": count,
        "total_call_time": total, "total_exclusive_time": exclusive, "app_name": "shop", "scope": "",
    }  # fmt: skip
    return encode_row(fields | more)


def test_agents_of_one_minute_are_added_up_to_four_series() -> None:
    decoded = decode(
        make("timeslice"),
        row(-9, "HttpDispatcher", 10, 2.0, host="one"),
        row(-9, "HttpDispatcher", 30, 4.0, host="two"),
        row(-9, "HttpDispatcher", 99, 99.0, scope="WebTransaction/x"),
        row(-9, "Apdex", 8, 2, 1),
        row(-9, "Errors/allWeb", 4),
        row(-9, "Other/thing", 1),
        row(-7, "Other/thing", 1),
    )
    assert not decoded.dead
    got = {name.partition("{")[0]: value for name, _, value in triples(decoded)}
    assert got == {"web_response": 0.15, "throughput": 40.0, "apdex": 9 / 11, "error": 0.1}
    assert decoded.samples.series[0] == 'web_response{service="shop"}'


def test_a_minute_without_requests_has_no_ratio_and_one_without_errors_has_zero() -> None:
    decoded = decode(
        make("timeslice"), row(-9, "HttpDispatcher", 0, 0), row(-8, "HttpDispatcher", 2, 1), row(-1, "x")
    )
    got = [(name.partition("{")[0], value) for name, _, value in triples(decoded)]
    assert got == [("throughput", 0.0), ("web_response", 0.5), ("throughput", 2.0), ("error", 0.0)]


def test_a_late_agent_is_waited_for_and_one_too_late_is_set_aside() -> None:
    decoded = decode(
        make("timeslice", wait_ms=120_000),
        row(-9, "HttpDispatcher", 1, 1),
        row(-7, "HttpDispatcher", 1, 1),
        row(-9, "HttpDispatcher", 1, 2),
        row(-6, "x"),
        row(-9, "HttpDispatcher", 1, 1),
    )
    assert triples(decoded)[0][2] == 1.5
    assert [(d.reason, d.offset) for d in decoded.dead] == [(Reason.TOO_LATE, 4)]


def test_one_bad_clock_does_not_close_the_minutes_of_the_others() -> None:
    decoded = decode(
        make("timeslice"), row(-1, "HttpDispatcher", 1, 1), row(60, "x"), row(0, "HttpDispatcher")
    )
    assert reasons(decoded) == [Reason.TOO_FAR_AHEAD]
    assert not triples(decoded)


def test_rows_as_json_equal_rows_as_tsv() -> None:
    minute = (NOW_MS // 60_000 - 9) * 60_000
    texts = [
        {
            "name": "HttpDispatcher",
            "point": minute,
            "call_count": "40",
            "total_call_time": 6.0,
            "app_name": "shop",
        },
        {"name": "Other", "point": "2024-05-18 02:38:00", "app_name": "shop", "extra": 1},
    ]
    as_json = decode(make("timeslice"), msgspec.json.encode(texts))
    as_tsv = decode(make("timeslice"), row(-9, "HttpDispatcher", 40, 6.0) + b"\n" + row(-2, "Other") + b"\n")
    assert not as_json.dead
    assert triples(as_json) == triples(as_tsv)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"hello", Reason.NOT_PARSED),
        (b"a\tb", Reason.BAD_SHAPE),
        (b"\xff\xfe", Reason.NOT_TEXT),
        (row(-9, "HttpDispatcher", 1, 1, point="soon"), Reason.BAD_TIMESTAMP),
        (row(-9, "HttpDispatcher", math.inf, 1), Reason.NOT_FINITE),
        (row(-9, "HttpDispatcher", call_count="many"), Reason.WRONG_TYPE),
        (row(-9, "HttpDispatcher", 1, 1, app_name=""), Reason.BAD_SERIES),
        (b'{"name":"x"}', Reason.MISSING_FIELD),
        (b'{"name":1,"point":2}', Reason.WRONG_TYPE),
        (b'{"name":', Reason.NOT_PARSED),
        (b"[1", Reason.NOT_PARSED),
    ],
)
def test_bad_rows_are_set_aside_with_their_reason(bad: bytes, reason: Reason) -> None:
    assert reasons(decode(make("timeslice"), bad)) == [reason]


rows = st.lists(
    st.builds(row, st.integers(-20, 5), st.sampled_from(["HttpDispatcher", "Apdex", "x"]), st.integers(0, 9),
              st.integers(0, 9), app_name=st.sampled_from(["shop", "café\t"])),
    max_size=30,
)  # fmt: skip


def _decode_cut(found: Timeslice, batches: Sequence[Sequence[FakeRecord]]) -> list[tuple[str, int, float]]:
    return [triple for batch in batches for triple in triples(found.decode(batch))]


@given(rows, st.integers(0, 30))
def test_where_batches_are_cut_and_a_restore_change_nothing(sent: list[bytes], cut: int) -> None:
    whole, first, second = (make("timeslice") for _ in range(3))
    assert isinstance(whole, Timeslice)
    assert isinstance(first, Timeslice)
    assert isinstance(second, Timeslice)
    got = records(*sent)
    expected = _decode_cut(whole, [got])
    before = _decode_cut(first, [[r] for r in got[:cut]])
    second.restore(first.snapshot())
    assert before + _decode_cut(second, [got[cut:]]) == expected


def test_one_topic_may_carry_all_formats_in_their_order() -> None:
    decoded = decode(
        make("auto"), GOOD, _columns(), b"\n " + GOOD, row(-9, "HttpDispatcher", 1, 1), row(-2, "x"), GOOD
    )
    assert not decoded.dead
    names = [name.partition("{")[0] for name, _, _ in triples(decoded)]
    assert names == ["good", "a", "good", "web_response", "throughput", "error", "good"]


def test_auto_and_its_parts_are_formats() -> None:
    for found in (Auto, JsonPoint, Columnar, Timeslice):
        assert found.create({}, Admission(config.Admission())).snapshot() is not None
