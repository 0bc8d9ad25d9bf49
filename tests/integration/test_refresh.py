"""The refresh loop on the real broker and the real engine: asked for, fitted, adopted, repeated."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from schemas import config
from schemas.event import AnomalyEvent
from schemas.journal import Adopted
from schemas.request import Fitted
from stream import cli
from stream.kafka import TopicPartition
from stream.refresh import artifacts, training
from stream.refresh.coordinator import Coordinator
from stream.refresh.trainer import Trainer
from stream.store.clickhouse import Client
from stream.store.sink import SinkLoop
from stream.worker import journal
from stream.worker.pipeline import Pipeline
from tests.integration.conftest import Kit, Sent, _unpack
from tests.integration.refreshing import (
    SERIES,
    START_MS,
    STEP_MS,
    WAVE,
    answers,
    ask,
    store_history,
)
from tests.support import running

PARAMS: dict[str, dict[str, Any]] = {"iforest": {"n_estimators": 20}, "prophet": {}}


def telemetry(begin: int, end: int, shift: float = 0.0) -> list[Sent]:
    """A daily wave with noise, one sample a message, the same whenever it is asked for."""
    noise = np.random.default_rng(7).normal(size=10_000)
    messages = []
    for row in range(begin, end):
        value = 10 + shift + float(np.sin(row / 288 * 2 * np.pi) + 0.1 * noise[row])
        point = {"metric": "cpu", "labels": {"host": "a"}, "ts": START_MS + row * STEP_MS, "value": value}
        messages.append(Sent(msgspec.json.encode(point), 0))
    return messages


@asynccontextmanager
async def killed_worker(kit: Kit, folder: Path) -> AsyncIterator[None]:
    """A worker in a process of its own that ends by SIGKILL."""
    file = folder / "worker.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(kit.cfg)))
    command = [sys.executable, "-m", "stream.cli", "worker", "--config", str(file)]
    victim = await asyncio.create_subprocess_exec(*command)
    try:
        yield
        assert victim.returncode is None
    finally:
        victim.kill()
        await victim.wait()


async def _entries(kit: Kit) -> list[Adopted]:
    found = await journal.read(kit.cfg, TopicPartition(kit.cfg.inputs[0].topic, 0))
    return [entry for entry in found if isinstance(entry, Adopted)]


def with_model(kit: Kit, detector: str) -> Kit:
    """The same with another detector that is fitted."""
    entry = config.DetectorConfig(name=detector, params=PARAMS[detector], weight=0.5)
    engine = msgspec.structs.replace(kit.cfg.engine, detectors=[kit.cfg.engine.detectors[0], entry])
    rules = [msgspec.structs.replace(kit.cfg.refresh.rules[0], detector=detector)]
    refresh = msgspec.structs.replace(kit.cfg.refresh, rules=rules)
    return Kit(msgspec.structs.replace(kit.cfg, engine=engine, refresh=refresh))


@pytest.mark.parametrize("detector", ["iforest", "prophet"])
async def test_a_model_is_fitted_by_the_timetable_adopted_at_a_journaled_offset_and_repeated_exactly(
    loop_kit: Kit, tmp_path: Path, detector: str
) -> None:
    kit = with_model(loop_kit, detector)
    with_others = running(Coordinator(kit.cfg)), running(Trainer(kit.cfg)), running(SinkLoop(kit.cfg))
    async with with_others[0], with_others[1], with_others[2], killed_worker(kit, tmp_path):
        await kit.send(telemetry(0, 320))
        (first,) = await answers(kit, 1)
        assert isinstance(first, Fitted), first
        sent = 320
        while not await _entries(kit):  # adopted with the next batch
            await kit.send(telemetry(sent, sent + 5))
            sent += 5
            await asyncio.sleep(0.1)
        await kit.send(telemetry(sent, 640))
        assert isinstance((await answers(kit, 2))[1], Fitted)
        sent = 640
        while len(await _entries(kit)) < 2:
            await kit.send(telemetry(sent, sent + 5))
            sent += 5
            await asyncio.sleep(0.1)
        await kit.send(telemetry(sent, sent + 100))
        before = await kit.scores(sent + 100)
    assert [row[1] for row in before] == [START_MS + n * STEP_MS for n in range(sent + 100)]

    # No snapshot is left: what a new worker scores next depends on a replay from the first message on.
    shutil.rmtree(tmp_path / "snapshots" / kit.cfg.inputs[0].topic, ignore_errors=True)
    async with kit.worker():
        await kit.send(telemetry(sent + 100, sent + 300))
        scores = await kit.scores(sent + 300)

    entries = await _entries(kit)
    (with_models, _), (without, _) = await _one_running(kit, entries), await _one_running(kit, [])
    assert scores == with_models
    changed = [a != b for a, b in zip(scores, without, strict=True)]
    # A sample of which both say the same does not tell, so the first difference may come a little later.
    assert entries[0].next_offset <= changed.index(True) < entries[0].next_offset + 20


async def _one_running(kit: Kit, entries: list[Adopted]) -> tuple[list[Any], list[AnomalyEvent]]:
    """Rows of scores and events of an engine that adopts at the offsets of the journal."""
    records = await kit.read(kit.cfg.inputs[0].topic, lambda r: len(r) > 0)
    pipeline, store = Pipeline(kit.cfg, kit.cfg.inputs[0]), artifacts.store_of(kit.cfg)
    rows: list[Any] = []
    events: list[AnomalyEvent] = []
    for record in records:
        for entry in entries:
            if entry.next_offset == record.offset:
                pipeline.adopt(entry, store.get(entry.detector, entry.series, entry.artifact))
        samples, _dead = pipeline.decode([record])
        for part in pipeline.slices(samples):
            output = pipeline.score(part)
            events += output.events
            rows += [row for value in output.scores for row in _unpack(value)]
    return rows, events


MEMBERS = ('cpu{host="a"}', 'mem{host="a"}')
HOST = 'host{host="a"}'


def pairs(begin: int, end: int, apart: range = range(0)) -> list[Sent]:
    """Memory follows the processor, but for the rows ``apart``."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(10_000, 2))
    messages = []
    for row in range(begin, end):
        load = float(np.sin(row / 60 * 2 * np.pi))
        for column, metric in enumerate(("cpu", "mem")):
            value = (load if column == 0 or row not in apart else -load) + 0.05 * float(noise[row, column])
            point = {
                "metric": metric,
                "labels": {"host": "a"},
                "ts": START_MS + row * STEP_MS,
                "value": value,
            }
            messages.append(Sent(msgspec.json.encode(point), 0))
    return messages


async def test_a_group_is_fitted_on_all_its_members_adopted_told_and_goes_on_after_a_kill(
    loop_kit: Kit, tmp_path: Path
) -> None:
    cfg = loop_kit.cfg
    group = config.Group(
        name="host", group_by=["host"], params={"n_estimators": 20}, interval_ms=STEP_MS, wait_ms=STEP_MS
    )
    engine = config.Engine(detectors=cfg.engine.detectors[:1], groups=[group])
    rule = msgspec.structs.replace(cfg.refresh.rules[0], detector="multidimensional")
    refresh = msgspec.structs.replace(cfg.refresh, rules=[rule])
    kit = Kit(msgspec.structs.replace(cfg, engine=engine, refresh=refresh))
    with_others = running(Coordinator(kit.cfg)), running(Trainer(kit.cfg)), running(SinkLoop(kit.cfg))
    async with with_others[0], with_others[1], with_others[2], killed_worker(kit, tmp_path):
        await kit.send(pairs(0, 320))
        (fitted,) = await answers(kit, 1)
        assert isinstance(fitted, Fitted), fitted
        assert fitted.series == HOST
        sent = 320
        while not await _entries(kit):
            await kit.send(pairs(sent, sent + 2))
            sent += 2
            await asyncio.sleep(0.1)
        first = sent + 20 + (13 - sent - 20) % 60  # where the load is high
        apart = range(first, first + 4)
        await kit.send(pairs(sent, first + 3, apart))
        await kit.scores(2 * (first + 3))

    shutil.rmtree(tmp_path / "snapshots" / kit.cfg.inputs[0].topic, ignore_errors=True)
    async with kit.worker():
        await kit.send(pairs(first + 3, first + 20, apart))
        await kit.scores(2 * (first + 20))
    told = [event for event in await kit.events(2) if event.series == HOST]
    assert [event.status for event in told] == ["open", "close"]
    assert set(told[0].contributions) == set(MEMBERS)
    assert told[0].started_ms == (START_MS + first * STEP_MS) // STEP_MS * STEP_MS
    assert told[0].detectors[0].artifact == fitted.artifact_id
    (entry,) = await _entries(kit)
    assert entry.series == HOST
    _, events = await _one_running(kit, [entry])
    assert told == [event for event in events if event.series == HOST]


async def test_a_drift_asks_for_a_new_model(loop_kit: Kit) -> None:
    cfg = loop_kit.cfg
    rule = msgspec.structs.replace(
        cfg.refresh.rules[0], on_drift=True, refresh_every_ms=366 * 86_400_000, min_history_ms=400 * STEP_MS
    )
    kit = Kit(msgspec.structs.replace(cfg, refresh=msgspec.structs.replace(cfg.refresh, rules=[rule])))
    with_others = running(Coordinator(kit.cfg)), running(Trainer(kit.cfg)), running(SinkLoop(kit.cfg))
    async with with_others[0], with_others[1], with_others[2], kit.worker():
        await kit.send(telemetry(0, 420))
        assert isinstance((await answers(kit, 1))[0], Fitted)
        await kit.send(telemetry(420, 1000, shift=3.0))
        assert isinstance((await answers(kit, 2))[1], Fitted)
        (shown,) = await artifacts.on_topic(kit.cfg)
    assert shown.manifest.report["trigger"] == "drift"
    assert 0.0 <= shown.manifest.report["agreement"] <= 1.0  # with the one that served


async def test_a_person_adopts_a_candidate_and_goes_back(
    loop_kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit, file = loop_kit, tmp_path / "tocsin.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(kit.cfg)))

    async def tocsin(*arguments: str) -> str:
        capsys.readouterr()
        command = ["artifacts", *arguments, "--config", str(file)]
        await asyncio.to_thread(cli.app, command, standalone_mode=False)
        return capsys.readouterr().out

    store_history(kit.cfg, WAVE)
    async with running(Trainer(kit.cfg)):
        await ask(kit, until_ms=START_MS + 400 * STEP_MS)
        await ask(kit, request_id="r2", adopt=False)
        old, new = await answers(kit, 2)
    shown = {s.manifest.artifact_id: s.serving for s in await artifacts.on_topic(kit.cfg)}
    assert shown == {old.artifact_id: True, new.artifact_id: False}
    listed = await tocsin("list")
    assert listed.index("serving") < listed.index("candidate")
    client = Client.connect(kit.cfg.clickhouse)
    stored = client.rows("SELECT artifact_id FROM artifacts FINAL ORDER BY trained_to")
    client.close()
    assert [row[0] for row in stored] == [old.artifact_id, new.artifact_id]
    await tocsin("adopt", new.artifact_id)
    shown = {s.manifest.artifact_id: s.serving for s in await artifacts.on_topic(kit.cfg)}
    assert shown == {new.artifact_id: True}
    told = json.loads(await tocsin("show", new.artifact_id))
    assert (told["serving"], told["series"], told["report"]["trigger"]) == (True, SERIES, "person")
    assert await tocsin("rollback", "iforest", SERIES) == f"{old.artifact_id} serves {SERIES} (iforest)\n"
    shown = {s.manifest.artifact_id: s.serving for s in await artifacts.on_topic(kit.cfg)}
    assert shown[old.artifact_id]


def test_labelled_incidents_and_mutes_that_are_not_learned_are_left_out_of_the_history(loop_kit: Kit) -> None:
    store_history(loop_kit.cfg, WAVE)
    client = Client.connect(loop_kit.cfg.clickhouse)
    at = "fromUnixTimestamp64Milli({:d}, 'UTC')".format
    first, last = at(START_MS + 100 * STEP_MS), at(START_MS + 109 * STEP_MS)
    client.command(
        "INSERT INTO labels (anomaly_id, at, command_id, series, verdict, started, ended) VALUES "
        f"('a', {first}, 'c1', '{SERIES}', 'true', {first}, {last}), "
        f"('b', {first}, 'c2', '{SERIES}', 'false', {at(START_MS)}, {last})"
    )
    muted = at(START_MS + 200 * STEP_MS), at(START_MS + 204 * STEP_MS)
    client.command(
        "INSERT INTO mutes (mute_id, at, command_id, matcher, started, ended, learn) VALUES "
        f"('m', {first}, 'c3', 'cpu{{host=~\"a|b\"}}', {muted[0]}, {muted[1]}, 0), "
        f"('n', {first}, 'c4', 'cpu', {at(START_MS)}, {last}, 1)"
    )
    end_ms = START_MS + 600 * STEP_MS
    found = training.read(client, SERIES, START_MS, end_ms)
    spans = [*training.labelled(client, [SERIES], START_MS, end_ms)]
    spans += training.unlearned(client, [SERIES], START_MS, end_ms)
    client.close()
    gaps = np.flatnonzero(np.isnan(training.without(found, spans).values[:, 0]))
    assert gaps.tolist() == [*range(100, 110), *range(200, 204)]
    assert not np.isnan(found.values).any()
