"""Ten thousand bad messages of many kinds between good ones: each is accounted for."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from schemas.deadletter import Reason
from stream.formats.columnar import encode_columnar
from stream.formats.json_point import encode_point
from stream.formats.timeslice_rows import encode_row

Kit = Any
SEED = 20240515
TS = int(time.time()) - 3600


class Message(msgspec.Struct):
    value: bytes | None
    partition: int
    key: bytes | None = b"k"


def _point(**changes: object) -> bytes:
    fields = {"metric": "cpu", "labels": {"host": "a"}, "ts": TS, "value": 1.5} | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not ...})


def _columns(**changes: object) -> bytes:
    fields = {
        "series": ["cpu"], "index": b"\0" * 4, "ts_ms": (TS * 1000).to_bytes(8, "little"), "value": b"\0" * 8,
        "v": 1,
    } | changes  # fmt: skip
    return msgspec.msgpack.encode({name: value for name, value in fields.items() if value is not ...})


def _row(**changes: object) -> bytes:
    return encode_row(
        {"name": "HttpDispatcher", "point": TS, "call_count": 1, "total_call_time": 1, "app_name": "x"}
        | changes
    )


KINDS: dict[str, tuple[bytes | None, Reason]] = {
    "tombstone": (None, Reason.EMPTY),
    "empty": (b"", Reason.EMPTY),
    "too large": (_point(metric="m" * 5000), Reason.TOO_LARGE),
    "truncated JSON": (_point()[:-4], Reason.NOT_PARSED),
    "two points in one": (_point() + _point(), Reason.NOT_PARSED),
    "nested beyond measure": (b'{"a":' * 600, Reason.NOT_PARSED),
    "plain text": (b"hello", Reason.NOT_PARSED),
    "binary rubbish": (bytes(range(200, 256)), Reason.NOT_TEXT),
    "Latin-1": (_point(metric="caf\xe9").decode().encode("latin-1"), Reason.NOT_TEXT),
    "no metric": (_point(metric=...), Reason.MISSING_FIELD),
    "no value": (_point(value=...), Reason.MISSING_FIELD),
    "no time": (_point(ts=...), Reason.MISSING_FIELD),
    "value null": (_point(value=None), Reason.WRONG_TYPE),
    "value text": (_point(value="1.5"), Reason.WRONG_TYPE),
    "value a list": (_point(value=[1]), Reason.WRONG_TYPE),
    "value true": (_point(value=True), Reason.WRONG_TYPE),
    "value NaN": (_point().replace(b"1.5", b"NaN"), Reason.NOT_FINITE),
    "value infinite": (_point().replace(b"1.5", b"-Infinity"), Reason.NOT_FINITE),
    "value beyond float64": (_point().replace(b"1.5", b"1e999"), Reason.NOT_FINITE),
    "time in words": (_point(ts="yesterday"), Reason.BAD_TIMESTAMP),
    "time null": (_point(ts=None), Reason.BAD_TIMESTAMP),
    "time before 1970": (_point(ts=-1), Reason.BAD_TIMESTAMP),
    "clock a day ahead": (_point(ts=TS + 90_000), Reason.TOO_FAR_AHEAD),
    "metric without a name": (_point(metric=""), Reason.BAD_SERIES),
    "metric a number": (_point(metric=5), Reason.BAD_SERIES),
    "metric with braces": (_point(metric="a{b}"), Reason.BAD_SERIES),
    "labels of numbers": (_point(labels={"a": 1}), Reason.BAD_SERIES),
    "label without a name": (_point(labels={"": "1"}), Reason.BAD_SERIES),
    "columns cut off": (_columns()[:-3], Reason.NOT_PARSED),
    "columns without values": (_columns(value=...), Reason.MISSING_FIELD),
    "columns of unequal length": (_columns(value=b"\0" * 24), Reason.BAD_SHAPE),
    "column index out of range": (_columns(index=b"\1\0\0\0"), Reason.BAD_SHAPE),
    "columns of tomorrow's version": (_columns(v=9), Reason.BAD_VERSION),
    "columns as lists": (_columns(ts_ms=[TS]), Reason.WRONG_TYPE),
    "TSV with a column less": (_row().rpartition(b"\t")[0], Reason.BAD_SHAPE),
    "TSV with words for numbers": (_row(call_count="many"), Reason.WRONG_TYPE),
    "TSV at no time": (_row(point="soon"), Reason.BAD_TIMESTAMP),
}
BAD = 10_000
GOOD = 4_000


def _good(number: int) -> bytes:
    ts_ms = TS * 1000 + number * 100
    if number % 2:
        return encode_point("good", {"kind": "json"}, ts_ms, math.sin(number))
    one = np.zeros(1, np.int64)
    return encode_columnar(['good{kind="columns"}'], one, np.array([ts_ms]), np.array([math.sin(number)]))


async def test_ten_thousand_malformed_messages_are_accounted_for_and_the_good_ones_are_scored(
    kit: Kit, metric: Callable[[str, str], dict[str, float]]
) -> None:
    chance = random.Random(SEED)
    names = list(KINDS)
    kinds = [names[i % len(names)] for i in range(BAD)] + [""] * GOOD
    chance.shuffle(kinds)
    messages, good = [], 0
    for kind in kinds:
        messages.append(Message(KINDS[kind][0] if kind else _good(good), chance.randrange(4)))
        good += not kind
    kit = kit.with_admission(max_message_bytes=4500, breaker_ratio=1.0)
    offsets = await kit.send(messages)
    async with kit.worker() as worker:
        letters = await kit.dead_letters(BAD)
        scores = await kit.scores(GOOD)
        counted = await asyncio.to_thread(metric, worker.metrics_url, "tocsin_dead_letters_total")
    expected = {
        (message.partition, offset): (KINDS[kind][1], message.value or b"")
        for kind, message, offset in zip(kinds, messages, offsets, strict=True)
        if kind
    }
    assert len(letters) == BAD
    assert {(d.partition, d.offset): (d.reason, d.raw) for d in letters} == expected
    assert {d.topic for d in letters} == {kit.cfg.inputs[0].topic}
    assert all(d.error and d.position is None for d in letters)
    assert Counter(series for series, *_ in scores) == {
        'good{kind="json"}': GOOD // 2,
        'good{kind="columns"}': GOOD // 2,
    }
    assert sum(counted.values()) == BAD


async def test_bad_elements_do_not_harm_their_neighbours_in_the_same_message(kit: Kit) -> None:
    times = np.full(4, TS * 1000) + np.arange(4) * 1000
    columns = encode_columnar(["c"], np.zeros(4, np.int64), times, np.array([1.0, math.inf, math.nan, 2.0]))
    array = b"[" + b",".join([_point(), _point(value=None), _point(ts=TS + 1)]) + b"]"
    await kit.with_admission(breaker_ratio=1.0).send([Message(columns, 0), Message(array, 0)])
    async with kit.worker():
        letters = await kit.dead_letters(2)
        scores = await kit.scores(5)
    assert sorted((d.offset, d.position, d.reason) for d in letters) == [
        (0, 1, Reason.NOT_FINITE),
        (1, 1, Reason.WRONG_TYPE),
    ]
    assert len(scores) == 5


async def test_a_partition_full_of_dead_letters_is_paused_and_not_drained(
    kit: Kit, metric: Callable[[str, str], dict[str, float]]
) -> None:
    kit = kit.with_admission(breaker_ratio=0.05, breaker_window_ms=500).with_worker(max_batch_messages=100)
    bad = [Message(b"after a change of schema", 0)] * 100
    good = [Message(_good(number), 1) for number in range(100)]
    await kit.send(good)
    async with kit.worker() as worker:
        deadline = time.monotonic() + 30

        async def paused() -> float:
            states = await asyncio.to_thread(metric, worker.metrics_url, "tocsin_partition_state")
            return sum(value for labels, value in states.items() if 'state="paused"' in labels)

        while not await paused():
            assert time.monotonic() < deadline
            await kit.send(bad)
        await kit.send(bad)
        await kit.send(good)
        assert len(await kit.scores(200)) == 200  # the other partition goes on
        while (
            max((await asyncio.to_thread(metric, worker.metrics_url, "tocsin_lag_messages")).values()) < 100
        ):
            assert time.monotonic() < deadline  # the lag shows what waits
