"""The sink on a real broker and the real engine: end to end, ClickHouse away, kills, strange messages."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from schemas import config
from schemas.control import Change, Label, Mute, Refresh, Unmute
from schemas.event import AnomalyEvent, Direction, Kind, Severity, Spoke, Status
from schemas.score import ScoreBatch
from stream import kafka as clients
from stream import topics
from stream.incidents.grouper import Grouper
from stream.local.clickhouse import LocalClickHouse
from stream.store.clickhouse import Client, RefusedError
from stream.store.sink import SinkLoop
from tests.support import running
from tests.unit.stream.test_incidents import FAULT

DEADLINE_S = 60.0
START_MS = 1_760_000_000_000
SERIES = [f'cpu{{host="{n}"}}' for n in range(10)]

Metric = Callable[[str, str], dict[str, float]]


class Sent(NamedTuple):
    """What was sent: distinct samples and revisions."""

    samples: int
    revisions: int


class Bench:
    """One test's configuration, its topics and its database."""

    def __init__(self, cfg: config.Config) -> None:
        self.cfg = cfg

    def with_group(self, name: str) -> Bench:
        sink = msgspec.structs.replace(self.cfg.sink, group_id=name)
        return Bench(msgspec.structs.replace(self.cfg, sink=sink))

    async def send(self, first: int, messages: int, samples: int = 100) -> Sent:
        """``messages`` of scores with ``samples`` each, numbered from ``first``, and an anomaly for each."""
        await topics.ensure(self.cfg)
        async with _producer(self.cfg) as producer:
            for number in range(first, first + messages):
                await producer.send(
                    self.cfg.topics.scores.name, scores(number, samples), partition=number % 3
                )
                for revision, status in ((1, Status.OPEN), (2, Status.CLOSE)):
                    value = msgspec.json.encode(event(number, revision, status))
                    await producer.send(self.cfg.topics.anomalies.name, value, partition=number % 2)
        return Sent(messages * samples, messages * 2)

    async def send_raw(self, topic: str, *values: bytes | None) -> None:
        await topics.ensure(self.cfg)
        async with _producer(self.cfg) as producer:
            for value in values:
                await producer.send(topic, value, key=b"k", partition=0)

    @contextlib.asynccontextmanager
    async def sink(self, loop: Callable[[config.Config], SinkLoop] = SinkLoop) -> AsyncIterator[SinkLoop]:
        sink, stop = loop(self.cfg), asyncio.Event()
        task = asyncio.create_task(sink.run(stop))
        try:
            yield sink
            if task.done():
                task.result()
        finally:
            stop.set()
            await asyncio.wait_for(task, DEADLINE_S)

    async def select(self, sql: str) -> Sequence[Sequence[Any]]:
        return await asyncio.to_thread(_select, self.cfg.clickhouse, sql)

    async def counts(self) -> tuple[Sent, Sent]:
        """What ClickHouse holds under the views, and what lies in its tables before anything is merged."""
        sql = """
            SELECT (SELECT count() FROM telemetry_dedup), (SELECT uniqExact(event_id) FROM anomalies),
                   (SELECT count() FROM telemetry), (SELECT count() FROM anomalies)
        """
        dedup, revisions, samples, rows = (await self.select(sql))[0]
        return Sent(dedup, revisions), Sent(samples, rows)

    async def wait_for(self, sent: Sent) -> None:
        """Wait until ClickHouse holds what was sent, and no more."""
        began = time.monotonic()
        found: Any = None
        while time.monotonic() - began < DEADLINE_S:
            with contextlib.suppress(Exception):  # no database yet, or the server is away
                found, _ = await self.counts()
            if found == sent:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{found} instead of {sent}")

    async def committed(self) -> int:
        """Messages that the group has done with."""
        async with clients.Admin.connect(self.cfg.kafka) as admin:
            offsets = await admin._client.list_consumer_group_offsets(self.cfg.sink.group_id)
        return sum(max(0, entry.offset) for entry in offsets.values())


@contextlib.asynccontextmanager
async def _producer(cfg: config.Config) -> AsyncIterator[Any]:
    producer = clients.producer(cfg.kafka)
    await producer.start()
    try:
        yield producer
        await producer.flush()
    finally:
        await producer.stop()


def _select(cfg: config.ClickHouse, sql: str) -> Sequence[Sequence[Any]]:
    client = Client.connect(cfg)
    try:
        return client.rows(sql)
    finally:
        client.close()


def scores(number: int, samples: int, step_ms: int = 60_000) -> bytes:
    start_ms = START_MS + number * samples * step_ms
    index = np.arange(samples, dtype="<u4") % len(SERIES)
    floats: dict[str, Any] = {
        name: np.full(samples, 0.5, "<f4").tobytes() for name in ("score", "level", "expected")
    }
    band: dict[str, Any] = {name: np.full(samples, np.nan, "<f4").tobytes() for name in ("lower", "upper")}
    batch = ScoreBatch(
        series=msgspec.Raw(msgspec.msgpack.encode(SERIES)),
        index=index.tobytes(),
        ts_ms=(start_ms + np.arange(samples, dtype="<i8") * step_ms).tobytes(),
        value=np.arange(samples, dtype="<f8").tobytes(),
        state=bytes(samples),
        alert=bytes(samples),
        **floats,
        **band,
    )
    return msgspec.msgpack.encode(batch)


def event(number: int, revision: int = 1, status: Status = Status.OPEN) -> AnomalyEvent:
    text = SERIES[number % len(SERIES)]
    started_ms = START_MS + number * 3_600_000
    return AnomalyEvent(
        event_id=f"e{number}-{revision}", anomaly_id=f"a{number}", revision=revision, status=status,
        series=text, series_id="0", metric="cpu", labels={"host": str(number % len(SERIES))},
        kind=Kind.SPIKE, severity=Severity.WARNING, direction=Direction.ABOVE, score=1.5, peak_score=1.6,
        actual=9.0, expected=None, lower=None, upper=2.0, started_ms=started_ms,
        detected_ms=started_ms + 5, ended_ms=started_ms + 60_000 if status is Status.CLOSE else None,
        samples=revision, detectors=[Spoke("robust", 1, 1.5)], reason="nine is more than two",
    )  # fmt: skip


def _bench(bootstrap: str, prefix: str, clickhouse: config.ClickHouse) -> Bench:
    topic = config.Topic
    return Bench(
        config.Config(
            kafka=config.Kafka(bootstrap_servers=bootstrap),
            inputs=[config.Input(topic=f"{prefix}telemetry", partitions=1)],
            topics=config.Topics(
                anomalies=topic(name=f"{prefix}anomalies", partitions=2),
                scores=topic(name=f"{prefix}scores", partitions=3),
                deadletters=topic(name=f"{prefix}deadletters", partitions=1),
                incidents=topic(name=f"{prefix}incidents", partitions=1, compacted=True),
                control=topic(name=f"{prefix}control", partitions=1, compacted=True),
                changes=topic(name=f"{prefix}changes", partitions=1),
            ),
            clickhouse=clickhouse,
            sink=config.Sink(
                group_id=f"{prefix}sink", batch_interval_ms=50, max_batch_rows=1000, retry_max_ms=500,
                session_timeout_ms=2000,
            ),
            metrics=config.Metrics(sink_port=0),
        )
    )  # fmt: skip


@pytest.fixture
def bench(kafka: str, prefix: str, clickhouse: Any) -> Bench:
    address = config.ClickHouse(host=clickhouse.host, port=clickhouse.port, database=clickhouse.database)
    return _bench(kafka, prefix, address)


@pytest.fixture
def embedded(kafka: str, prefix: str, chdb_dsn: str) -> Bench:
    return _bench(kafka, prefix, config.ClickHouse(dsn=chdb_dsn, database=chdb_dsn.rpartition("=")[2]))


@pytest.mark.parametrize("way", ["bench", "embedded"])
async def test_scores_and_anomalies_reach_clickhouse_once(
    way: str, request: pytest.FixtureRequest, metric: Metric
) -> None:
    bench: Bench = request.getfixturevalue(way)
    sent = await bench.send(0, 60)
    async with bench.sink() as sink:
        await bench.wait_for(sent)
        rows = await asyncio.to_thread(metric, sink.metrics_url, "tocsin_sink_rows_total")
        up = await asyncio.to_thread(metric, sink.metrics_url, "tocsin_sink_clickhouse_up")
    assert rows == {
        'table="telemetry"': 6000,
        'table="anomalies"': 120,
        'table="series"': rows['table="series"'],
    }
    assert up == {"": 1}
    newest = await bench.select(
        "SELECT anomaly_id, status, revision, ended - started, labels['host'], detectors[1].1, expected, "
        "upper FROM anomalies_latest WHERE metric = 'cpu' AND anomaly_id = 'a7'"
    )
    assert newest == [("a7", "close", 2, 60.0, "7", "robust", None, 2.0)]
    one = await bench.select(
        "SELECT count(), min(score), max(upper) FROM telemetry_dedup "
        f"WHERE series_id = xxHash64('{SERIES[3]}')"
    )
    assert one == [(600, 0.5, None)]
    known = await bench.select("SELECT series, labels FROM series_latest ORDER BY series")
    assert known == [(text, {"host": str(n)}) for n, text in enumerate(SERIES)]
    hours = await bench.select("SELECT sum(samples), max(score_max) FROM telemetry_hourly")
    assert hours == [(6000, 0.5)]


async def test_everything_sent_again_leaves_the_views_as_they_were(bench: Bench) -> None:
    sent = await bench.send(0, 30)
    async with bench.sink():
        await bench.wait_for(sent)
    again = bench.with_group(f"{bench.cfg.sink.group_id}-again")
    async with again.sink():
        await _until(again.committed, at_least=90)
    found, stored = await bench.counts()
    assert found == sent
    assert stored.samples >= found.samples
    assert (await bench.select("SELECT sum(samples) FROM telemetry_hourly"))[0][0] == sent.samples
    assert (await bench.select("SELECT count() FROM anomalies_latest"))[0][0] == 30


async def test_a_start_while_clickhouse_is_away_waits_and_loses_nothing(
    bench: Bench, local_clickhouse: LocalClickHouse, metric: Metric, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = await bench.send(0, 20)
    await asyncio.to_thread(local_clickhouse.stop)
    try:
        async with bench.sink() as sink:
            await _until(lambda: _failures(metric, sink), at_least=3)
            await asyncio.to_thread(local_clickhouse.start)
            await bench.wait_for(sent)
    finally:
        if not local_clickhouse.child.alive:
            local_clickhouse.start()
    _told_once(capsys)


async def test_clickhouse_killed_again_and_again_loses_nothing_and_doubles_nothing(
    bench: Bench, local_clickhouse: LocalClickHouse, metric: Metric, capsys: pytest.CaptureFixture[str]
) -> None:
    total = Sent(0, 0)
    async with bench.sink() as sink:
        for number in range(3):
            await bench.send(number * 40, 20)
            await asyncio.to_thread(local_clickhouse.kill)
            await bench.send(number * 40 + 20, 20)
            before = await _failures(metric, sink)
            await _until(lambda: _failures(metric, sink), at_least=before + 2)
            await asyncio.to_thread(local_clickhouse.start)
            total = Sent((number + 1) * 4000, (number + 1) * 80)
            await bench.wait_for(total)
    assert capsys.readouterr().out.count("ClickHouse is back") <= 3
    assert await bench.committed() == 3 * 40 * 3


async def test_a_stop_while_clickhouse_is_away_ends_soon_and_the_next_start_goes_on(
    bench: Bench, local_clickhouse: LocalClickHouse, metric: Metric
) -> None:
    await bench.send(0, 10)
    async with bench.sink() as sink:
        await bench.wait_for(Sent(1000, 20))
        await asyncio.to_thread(local_clickhouse.stop)
        await bench.send(10, 10)
        await _until(lambda: _failures(metric, sink), at_least=1)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    await asyncio.to_thread(local_clickhouse.start)
    async with bench.sink():
        await bench.wait_for(Sent(2000, 40))


KILLED_BEFORE_COMMIT = """
import os, signal, sys, msgspec
from schemas.config import Config
from stream.store import sink

async def die(self, offsets):
    os.kill(os.getpid(), signal.SIGKILL)

sink.SinkLoop._commit = die
sink.main(msgspec.json.decode(sys.stdin.buffer.read(), type=Config))
"""


async def test_a_sink_killed_between_insert_and_commit_repeats_rows_that_the_views_do_not_show(
    bench: Bench,
) -> None:
    sent = await bench.send(0, 40)
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_BEFORE_COMMIT, stdin=asyncio.subprocess.PIPE
        )
        await process.communicate(msgspec.json.encode(bench.cfg))
        assert process.returncode == -signal.SIGKILL
    assert await bench.committed() == 0
    _, before = await bench.counts()
    assert before.samples > 0
    async with bench.sink():
        await bench.wait_for(sent)


async def test_sinks_that_come_and_go_share_the_work_without_a_loss(bench: Bench) -> None:
    async with bench.sink():
        await bench.send(0, 40)
        async with bench.sink():
            await bench.send(40, 40)
            await bench.wait_for(Sent(8000, 160))
        await bench.send(80, 40)
        await bench.wait_for(Sent(12_000, 240))
    assert await bench.committed() == 3 * 120


async def test_strangers_in_the_topics_are_counted_and_stop_nobody(
    bench: Bench, metric: Metric, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers = (b"", None, b"hello", b"\x80", msgspec.msgpack.encode({"v": 7}), scores(0, 5)[:-1])
    await bench.send_raw(bench.cfg.topics.scores.name, *strangers)
    await bench.send_raw(bench.cfg.topics.anomalies.name, b"{}", b"[1]", None)
    await bench.send(0, 5)
    await bench.send_raw(bench.cfg.topics.scores.name, *strangers)
    async with bench.sink() as sink:
        await bench.wait_for(Sent(500, 10))
        await _until(bench.committed, at_least=15 + 15)
        skipped = await asyncio.to_thread(metric, sink.metrics_url, "tocsin_sink_unreadable_messages_total")
    assert sum(skipped.values()) == 15
    assert capsys.readouterr().out.count("message skipped") == 1


async def test_the_lag_is_told_and_falls_to_nothing(bench: Bench, metric: Metric) -> None:
    await bench.send(0, 10)
    async with bench.sink() as sink:
        await bench.wait_for(Sent(1000, 20))
        await bench.send(10, 10)
        await bench.wait_for(Sent(2000, 40))

        async def caught_up() -> int:
            url = sink.metrics_url
            lag = await asyncio.to_thread(metric, url, "tocsin_sink_lag_messages")
            return sum(value == 0 for value in lag.values())

        await _until(caught_up, at_least=5)


async def test_a_refusal_ends_the_sink_and_commits_nothing(bench: Bench) -> None:
    await bench.send(0, 5)
    async with bench.sink():
        await bench.wait_for(Sent(500, 10))
    await bench.select("DROP TABLE anomalies SYNC")
    await bench.send(5, 5)
    with pytest.raises(RefusedError, match="anomalies"):
        await asyncio.wait_for(SinkLoop(bench.cfg).run(asyncio.Event()), DEADLINE_S)
    assert await bench.committed() == 3 * 5


async def _failures(metric: Metric, sink: SinkLoop) -> float:
    if not sink.metrics_url:  # still starting
        return 0
    found = await asyncio.to_thread(metric, sink.metrics_url, "tocsin_sink_insert_failures_total")
    return sum(found.values())


async def _until(read: Callable[[], Any], at_least: float) -> None:
    began = time.monotonic()
    while await read() < at_least:
        assert time.monotonic() - began < DEADLINE_S
        await asyncio.sleep(0.1)


def _told_once(capsys: pytest.CaptureFixture[str]) -> None:
    out = capsys.readouterr().out
    assert out.count("ClickHouse is away") == 1, out
    assert out.count("ClickHouse is back") == 1, out


async def test_incidents_commands_and_changes_are_rows_and_what_is_none_is_counted(
    bench: Bench, metric: Metric
) -> None:
    names, at_ms, end_ms = bench.cfg.topics, START_MS + 1, START_MS + 7_200_000
    mute = Mute(
        command_id="c1", at_ms=at_ms, by="ann", mute_id="m", matcher="cpu", start_ms=START_MS, end_ms=end_ms,
        repeat="FREQ=DAILY", except_ms=[START_MS + 86_400_000], learn=False,
    )  # fmt: skip
    commands = [
        mute,
        msgspec.structs.replace(mute, command_id="c2", mute_id="n"),
        Unmute(command_id="c3", at_ms=at_ms + 5, mute_id="n"),
        Label(
            command_id="c4", at_ms=at_ms, anomaly_id="a", series="cpu", verdict="false", started_ms=START_MS,
            detectors=["large", "rare"],
        ),
        Refresh(command_id="c5", at_ms=at_ms, series="cpu"),
        msgspec.structs.replace(mute, command_id="c6", matcher="cpu{"),
    ]  # fmt: skip
    change = Change(change_id="d", at_ms=at_ms, labels={"service": "shop"}, title="2.1")
    grouper = Grouper(config.Incidents())
    told = [each for event in FAULT for each in grouper.take(event)]
    for _ in range(2):  # at least once
        await bench.send_raw(names.control.name, *(msgspec.json.encode(each) for each in commands), None)
        await bench.send_raw(names.changes.name, msgspec.json.encode(change))
        await bench.send_raw(names.incidents.name, *(msgspec.json.encode(each) for each in told), None)
    async with running(SinkLoop(bench.cfg)) as sink:

        async def rows() -> float:
            found = await asyncio.to_thread(metric, sink.metrics_url, "tocsin_sink_rows_total")
            return sum(found.values())

        await _until(rows, 2 * (len(commands) - 2 + 1 + len(told)))
        skipped = await asyncio.to_thread(metric, sink.metrics_url, "tocsin_sink_unreadable_messages_total")
    assert skipped == {f'topic="{names.control.name}"': 2}
    (kept, lifted) = await bench.select(
        "SELECT mute_id, lifted, matcher, learn, toUnixTimestamp64Milli(lifted_at), excepted "
        "FROM mutes_latest ORDER BY mute_id"
    )
    assert [*kept[:5], len(kept[5])] == ["m", 0, "cpu", 0, None, 1]
    assert lifted[:5] == ("n", 1, "cpu", 0, at_ms + 5)
    assert await bench.select("SELECT detector, labelled, false_alarms FROM detector_quality ORDER BY 1") == [
        ("large", 1, 1),
        ("rare", 1, 1),
    ]
    ((revision, series, root, labels),) = await bench.select(
        "SELECT revision, series, members[1].metric, labels FROM incidents_latest"
    )
    assert (revision, series, root, labels) == (4, 4, "web_response", {"service": "shop"})
