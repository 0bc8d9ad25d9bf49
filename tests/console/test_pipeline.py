"""Lag, workers and dead letters over HTTP, from the real broker and a real metrics endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import aiokafka
import httpx
import msgspec
import pytest

from console.pipeline import PAYLOAD_BYTES, printable
from console.rates import Rates
from schemas import config
from schemas.deadletter import DeadLetter, Reason
from stream import kafka
from stream import metrics as m
from stream.kafka import TopicPartition
from stream.worker.lifecycle import State
from stream.worker.report import PartitionReport
from tests.console.conftest import START_MS
from tests.console.test_api import problem

NOW_MS = round(time.time() * 1000) - 10_000
"""Of what is sent: Kafka drops what is older than the retention of a topic."""


async def send(cfg: config.Config, topic: str, values: list[bytes], partition: int = 0) -> None:
    producer = kafka.producer(cfg.kafka)
    await producer.start()
    for number, value in enumerate(values):
        timestamp_ms = NOW_MS + 1000 * number + partition
        await producer.send_and_wait(topic, value, partition=partition, timestamp_ms=timestamp_ms)
    await producer.stop()


def letter(offset: int, raw: bytes = b"{", reason: Reason = Reason.NOT_PARSED) -> bytes:
    return msgspec.msgpack.encode(
        DeadLetter(
            topic="telemetry",
            partition=3,
            offset=offset,
            timestamp_ms=START_MS,
            reason=reason,
            error="it is no JSON",
            raw=raw,
            key=b"k\x00",
        )
    )


async def groups_of(api: httpx.AsyncClient) -> dict[tuple[str, str], Any]:
    reply = await api.get("/pipeline")
    assert reply.status_code == 200, reply.text
    return {(each["role"], each["topic"]): each for each in reply.json()["groups"]}


async def test_lag_says_what_waits_for_each_group(api: httpx.AsyncClient, cfg: config.Config) -> None:
    topic = cfg.inputs[0].topic
    await send(cfg, topic, [b"1", b"2", b"3"])
    requests = cfg.topics.requests.name
    async with asyncio.timeout(60):
        while (groups := await groups_of(api))["trainer", requests]["state"] != "Stable":  # noqa: ASYNC110  # Kafka
            await asyncio.sleep(0.2)
    worker = groups["worker", topic]
    assert (worker["lag"], worker["end"], worker["members"]) == (3, 3, 0)
    assert worker["consumed_per_s"] in {None, 0.0}  # a rate needs two looks
    assert [each["committed"] for each in worker["partitions"]] == [None, None]
    assert [each["owner"] for each in worker["partitions"]] == [None, None]
    trainer = groups["trainer", requests]
    assert (trainer["state"], trainer["members"]) == ("Stable", 1)
    assert all(each["owner"].startswith(cfg.kafka.client_id) for each in trainer["partitions"])

    client = kafka.consumer(cfg.kafka, group_id=cfg.worker.group_id)
    await client.start()
    place = aiokafka.TopicPartition(topic, 0)
    client.assign([place])
    await client.commit({place: 2})
    await client.stop()
    worker = (await groups_of(api))["worker", topic]
    assert (worker["lag"], worker["committed"]) == (1, 2)
    assert worker["partitions"][0] == {
        "partition": 0,
        "end": 3,
        "committed": 2,
        "lag": 1,
        "owner": None,
    }


@contextlib.contextmanager
def worker_endpoint() -> Iterator[str]:
    metrics = m.Metrics("worker")
    report = PartitionReport(metrics, TopicPartition("telemetry", 1), 0)
    report.state(State.REPLAYING)
    report.state(State.RUNNING)
    report.lag(12, 5)
    report.recovered()
    endpoint = m.Endpoint(metrics, "127.0.0.1", 0)
    yield endpoint.url
    endpoint.close()


async def test_workers_tell_the_state_of_their_partitions(api: httpx.AsyncClient, cfg: config.Config) -> None:
    with worker_endpoint() as url:
        msgspec.structs.force_setattr(cfg.console, "worker_urls", [url, "http://127.0.0.1:1/metrics"])
        there, away = (await api.get("/pipeline")).json()["workers"]
    assert there["error"] is None
    assert there["recoveries"] == 1
    assert there["partitions"] == [
        {"topic": "telemetry", "partition": 1, "state": "running", "lag": 7, "series": 0, "open_anomalies": 0}
    ]
    assert "refused" in away["error"]
    assert away["partitions"] == []


async def test_dead_letters_come_newest_first_a_page_at_a_time(
    api: httpx.AsyncClient, cfg: config.Config
) -> None:
    topic = cfg.topics.deadletters.name
    await send(cfg, topic, [letter(n) for n in range(3)])
    await send(cfg, topic, [letter(10 + n, reason=Reason.NOT_FINITE) for n in range(3)], partition=1)
    offsets, cursor = [], None
    for _ in range(4):
        page = (
            await api.get("/deadletters", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        offsets += [each["offset"] for each in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert offsets == [12, 2, 11, 1, 10, 0]
    assert cursor is None
    some = (await api.get("/deadletters", params={"reason": "not_finite"})).json()
    assert [each["offset"] for each in some["items"]] == [12, 11, 10]
    assert some["next"] is None
    assert (await api.get("/deadletters", params={"topic": "another"})).json()["items"] == []
    assert "cursor" in problem(await api.get("/deadletters", params={"cursor": "x"}), 422)
    assert "/query/reason/0" in problem(await api.get("/deadletters", params={"reason": "x"}), 422)


async def test_the_payload_of_a_dead_letter_is_shown_as_printable_text_and_cut(
    api: httpx.AsyncClient, cfg: config.Config
) -> None:
    raw = b"<script>\x1b[2J\xff\n" + b"x" * PAYLOAD_BYTES
    await send(cfg, cfg.topics.deadletters.name, [letter(7, raw)])
    (shown,) = (await api.get("/deadletters")).json()["items"]
    assert shown["payload"].startswith("<script>\\x1b[2J\\xff\nxxx")
    assert (shown["cut"], shown["size"], shown["key"]) == (True, len(raw), "k\\x00")
    assert (shown["name"], shown["topic"], shown["partition"], shown["offset"]) == ("0/0", "telemetry", 3, 7)
    assert shown["sent"] == "2025-10-09T08:53:20.000Z"


async def test_there_may_be_no_dead_letters(api: httpx.AsyncClient) -> None:
    assert (await api.get("/deadletters")).json() == {"items": [], "next": None}


def test_text_that_turns_itself_around_is_escaped() -> None:
    assert printable("a\u202eb\t".encode()) == "a\\u202eb\\t"


def test_a_rate_needs_two_looks_and_a_counter_that_goes_on() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    assert rates.of({"a": 10}) == {"a": None}
    now[0] = 2.0
    assert rates.of({"a": 30, "b": 1}) == {"a": 10.0, "b": None}
    now[0] = 4.0
    assert rates.of({"a": 5}) == {"a": None}  # begun anew


def test_a_rate_is_of_the_last_half_minute() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        found = rates.of({"a": 100.0 if second >= 50 else 0.0})
    assert found == {"a": 0.0}


@pytest.mark.parametrize("apart_s", [0.0, 0.5])
def test_looks_near_to_each_other_tell_no_rate(apart_s: float) -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    rates.of({"a": 0.0})
    now[0] = apart_s
    assert rates.of({"a": 5.0}) == {"a": None}
