"""`tocsin mute`, `mutes`, `unmute`, `label` and changes, as typed, with coordinator and sink beside them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from schemas import config
from schemas.control import Change
from schemas.event import AnomalyEvent, Status
from stream import kafka as clients
from stream import topics
from stream.cli import app
from stream.control import commanding
from stream.errors import UserError
from stream.incidents.grouper import Grouper
from stream.output import incident_message
from stream.refresh.coordinator import Coordinator
from stream.store import migrations
from stream.store.clickhouse import Client
from stream.store.sink import SinkLoop
from tests.integration.conftest import Kit
from tests.integration.test_incidents import incident_kit  # noqa: F401  # a fixture
from tests.support import ClickHouseAddress, insert_samples, running
from tests.unit.stream.test_incidents import ENDS, FAULT, START_MS, event

DEADLINE_S = 60.0
DAY_MS = 86_400_000


class Desk:
    """A configuration in a file, and commands that find it."""

    def __init__(self, cfg: config.Config, file: Path) -> None:
        self.cfg = cfg
        self._options = ["--config", str(file)]
        file.write_text(yaml.safe_dump(msgspec.to_builtins(cfg)), encoding="utf-8")

    def says(self, *arguments: str, status: int = 0) -> str:
        """What the command prints; in this process, for one of its own takes seconds to import."""
        done = CliRunner().invoke(app, [*arguments, *self._options])
        if status:
            assert isinstance(done.exception, UserError), done
            return str(done.exception)
        assert done.exception is None, done.exception
        return done.stdout

    def rows(self, sql: str) -> Sequence[Sequence[Any]]:
        client = Client.connect(self.cfg.clickhouse)
        try:
            return client.rows(sql)
        finally:
            client.close()

    async def send(self, topic: str, values: Sequence[msgspec.Struct]) -> None:
        await topics.ensure(self.cfg)
        producer = clients.producer(self.cfg.kafka)
        await producer.start()
        for each in values:
            await producer.send(topic, msgspec.json.encode(each), key=b"k")
        await producer.flush()
        await producer.stop()


@pytest.fixture
def desk(incident_kit: Kit, clickhouse: ClickHouseAddress, prefix: str, tmp_path: Path) -> Desk:  # noqa: F811
    cfg = msgspec.structs.replace(
        incident_kit.cfg,
        clickhouse=config.ClickHouse(
            host=clickhouse.host, port=clickhouse.port, database=clickhouse.database
        ),
        sink=config.Sink(group_id=f"{prefix}sink", batch_interval_ms=50),
        metrics=config.Metrics(coordinator_port=0, sink_port=0),
    )
    return Desk(cfg, tmp_path / "tocsin.yaml")


async def eventually(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := await asyncio.to_thread(what)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return found


def test_a_mute_is_set_shown_replaced_and_lifted(desk: Desk) -> None:
    said = desk.says("mute", '{service="shop"}', "--for", "2h", "--why", "patch", "--by", "ann", "--no-learn")
    mute_id = said.split()[0]
    desk.says("mute", "cpu", "--from", "2026-03-22T03:00", "--for", "1h", "--repeat", "FREQ=WEEKLY",
              "--timezone", "Europe/Berlin", "--id", "weekly")  # fmt: skip
    desk.says("mute", "cpu", "--from", "2001-01-01", "--until", "2001-01-02", "--id", "past")
    shown = desk.says("mutes")
    assert f"{mute_id}  holds " in shown
    assert '{service="shop"}  (not learned) patch ann' in shown
    assert "weekly  " in shown
    assert "2026-03-22T02:00:00Z to 2026-03-22T03:00:00Z, FREQ=WEEKLY (Europe/Berlin)  cpu" in shown
    assert "past" not in shown
    desk.says("unmute", mute_id)
    assert mute_id not in desk.says("mutes")
    told = [json.loads(line) for line in desk.says("mutes", "--all", "--json").splitlines()]
    assert {each["mute_id"]: each["state"] for each in told if each["mute_id"] != "weekly"} == {
        mute_id: "lifted",
        "past": "over",
    }
    assert "no mute nothing is set" in desk.says("unmute", "nothing", status=2)


def test_a_mute_that_cannot_hold_is_a_sentence(desk: Desk, tmp_path: Path) -> None:
    assert "one of --until TIME and --for" in desk.says("mute", "cpu", status=2)
    assert "does not end" in desk.says("mute", 'cpu{a="b"', "--for", "1h", status=2)
    assert "no recurrence rule" in desk.says("mute", "cpu", "--for", "1h", "--repeat", "weekly", status=2)
    assert "IANA" in desk.says("mute", "cpu", "--for", "1h", "--timezone", "Mars", status=2)
    assert (
        "no such file" in desk.says("mute", "cpu", "--calendar", str(tmp_path / "no.ics"), status=2).lower()
    )


async def test_a_change_is_told_by_a_command_that_says_what_it_mutes(desk: Desk) -> None:
    def says(*arguments: str, **more: int) -> Any:
        return asyncio.to_thread(lambda: desk.says("change", *arguments, **more))

    at = ("--at", "2026-03-22T03:00:00Z", "--id", "deploy/8")
    planned = await says("service=shop", "host=a", *at, "--dry-run")
    span = "2026-03-22T03:00:00Z to 2026-03-22T03:15:00Z"
    assert planned == f'deploy/8  mutes {{host="a",service="shop"}}  {span}  (not sent)\n'
    assert "as name=value" in await says("shop", status=2)
    assert "mutes nothing" in await says("service=bank", "--mute-minutes", "0")
    await says("service=shop", "--mute-minutes", "5", "--title", "2.1", *at)
    async with running(Coordinator(desk.cfg)):
        (one,) = await eventually(lambda: asyncio.run(commanding.standing(desk.cfg)))
    assert (one.mute.matcher, one.mute.origin) == ('{service="shop"}', "change")
    assert one.mute.end_ms is not None
    assert one.mute.end_ms - one.mute.start_ms == 5 * 60_000


async def test_a_change_told_twice_opens_one_mute_and_is_a_row(desk: Desk) -> None:
    at_ms = commanding.now_ms()
    change = Change(change_id="deploy/7", at_ms=at_ms, labels={"service": "shop"}, title="2.1", by="ci")
    strange = msgspec.structs.replace(change, change_id="old", at_ms=-5)
    await desk.send(desk.cfg.topics.changes.name, [change, strange, change])
    async with running(Coordinator(desk.cfg)), running(SinkLoop(desk.cfg)):
        (row,) = await eventually(lambda: desk.rows("SELECT change_id, labels FROM changes FINAL"))
        assert row == ("deploy/7", {"service": "shop"})
        await eventually(lambda: desk.rows("SELECT * FROM mutes_latest"))
        (one,) = await commanding.standing(desk.cfg)
    assert one.mute.matcher == '{service="shop"}'
    assert (one.mute.origin, one.mute.by, one.mute.why) == ("change", "ci", "deploy 2.1")
    assert one.mute.end_ms == at_ms + 15 * 60_000
    assert one.holds(at_ms)


def month() -> list[AnomalyEvent]:
    """Of one series: each week at one time, and a strong one in between; the last is a week after."""
    found = []
    for day in (0, 7, 14, 18, 21, 28):
        strong = day == 18
        more = {"peak_score": 3.0 if strong else 1.2, "started_ms": START_MS + day * DAY_MS}
        opened = event("cpu", 0, anomaly_id=f"a{day}", **more)
        ends = {"ended_ms": more["started_ms"] + 300_000, "revision": 2, "status": Status.CLOSE}
        found += [opened, msgspec.structs.replace(opened, **ends)]
    return found


async def test_a_label_shows_what_it_proposes_and_is_a_row(desk: Desk) -> None:
    client = Client.connect(desk.cfg.clickhouse)
    migrations.apply(client, desk.cfg.clickhouse)
    stamps = [START_MS + day * DAY_MS + minute * 60_000 for day in (17, 27) for minute in range(1441)]
    insert_samples(client, 'cpu{service="shop"}', stamps, [1.0] * len(stamps))
    client.close()
    await desk.send(desk.cfg.topics.anomalies.name, month())
    async with running(SinkLoop(desk.cfg)):
        await eventually(lambda: desk.rows("SELECT count() FROM anomalies_latest HAVING count() = 6"))
        said = await asyncio.to_thread(desk.says, "label", "a18", "true", "--yes")
        assert "changes no policy" in said
        await eventually(lambda: desk.rows("SELECT * FROM labels_latest"))
        said = await asyncio.to_thread(
            desk.says, "label", "a28", "false", "--yes", "--by", "ann", "--why", "w"
        )
        assert "0.014 false alarms a day instead of 0.1" in said
        assert "Of the 6 anomalies of the series in the past 30 days it would have kept back 5, 0 of" in said
        assert "peak 3.00" not in said
        said = await asyncio.to_thread(desk.says, "label", "a18", "false", "--yes")
        assert "a score of 3.0 is so rare" in said
        assert "normal_min" in said
        await asyncio.to_thread(desk.says, "label", "a18", "true", "--yes")
        said = await asyncio.to_thread(desk.says, "label", "a21", "expected", "--yes")
        assert "--for 25m --repeat FREQ=WEEKLY" in said
        assert "it would have kept back 4, 0 of them labelled true" in said
        await eventually(lambda: desk.rows("SELECT count() FROM labels_latest HAVING count() = 3"))
    found = desk.rows("SELECT verdict, by, why, detectors FROM labels_latest WHERE anomaly_id = 'a28'")
    assert found == [("false", "ann", "w", ["large"])]
    assert desk.rows("SELECT sum(labelled), sum(false_alarms) FROM detector_quality") == [(3, 1)]
    assert "has no anomaly none" in desk.says("label", "none", "true", status=2)


async def test_incidents_are_listed_in_words(desk: Desk) -> None:
    grouper = Grouper(config.Incidents())
    told = [incident for each in [*FAULT, *ENDS] for incident in grouper.take(each)]
    await topics.ensure(desk.cfg)
    producer = clients.producer(desk.cfg.kafka)
    await producer.start()
    for each in told:
        message = incident_message(desk.cfg.topics.incidents.name, each)
        await producer.send_and_wait(message.topic, message.value, key=message.key)
    await producer.stop()
    async with running(SinkLoop(desk.cfg)):
        await eventually(lambda: desk.rows("SELECT * FROM incidents_latest WHERE status = 'close'"))
    said = desk.says("incidents")
    assert "service=shop: web_response is high, and 3 more series moved" in said
    assert [line.split()[2].split("{")[0] for line in said.splitlines()[2:]] == [
        "web_response", "apdex", "throughput", "error",
    ]  # fmt: skip
    (one,) = (json.loads(line) for line in desk.says("incidents", "--json").splitlines())
    assert (one["incident_id"], one["series"], one["members"][0]["actual"]) == (told[0].incident_id, 4, 9.0)
    assert not desk.says("incidents", "--open")
