"""What people say over HTTP arrives on the control topic; incidents, labels, mutes and models are listed."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from schemas import config
from schemas.artifact import ArtifactMessage, Manifest
from schemas.control import Command, Label, Mute, Unmute
from stream.kafka.following import committed
from stream.refresh import artifacts
from stream.store.clickhouse import Client
from tests.console.conftest import START_MS
from tests.console.test_api import problem

SERIES = 'web_response{service="shop"}'


async def commands(cfg: config.Config) -> list[Any]:
    records = [each async for each in committed(cfg.kafka, cfg.topics.control.name)]
    return [msgspec.json.decode(record.value or b"", type=Command) for record in records]


def insert_anomaly(cfg: config.Config) -> None:
    client = Client.connect(cfg.clickhouse)
    at = {"at": START_MS, "series": SERIES}
    client.command(
        "INSERT INTO anomalies (metric, series_id, series, started, detected, anomaly_id, revision, "
        "status, kind, severity, peak_score, reason, detectors) VALUES ('web_response', "
        "xxHash64({series:String}), {series:String}, fromUnixTimestamp64Milli({at:Int64}), "
        "fromUnixTimestamp64Milli({at:Int64}), 'a1', "
        "1, 'open', 'spike', 'critical', 3.5, 'far above', [('large', 1, 3.5, '')])",
        at,
    )
    client.command(
        "INSERT INTO incidents (incident_id, revision, event_id, status, group, severity, peak_score, "
        "started, detected, title, series, members) VALUES ('i1', 1, 'e1', 'open', 'service', 'critical', "
        "3.5, "
        "fromUnixTimestamp64Milli({at:Int64}), fromUnixTimestamp64Milli({at:Int64}), 'shop is slow', 1, "
        "[('a1', {series:String}, 'web_response', 'spike', 'critical', 'above', 3.5, 9.0, 1.0, 0.5, 1.5, "
        "fromUnixTimestamp64Milli({at:Int64}), NULL, 'far above')])",
        at,
    )
    client.command(
        "INSERT INTO labels (anomaly_id, at, command_id, series, verdict, started, detectors) VALUES "
        "('a0', fromUnixTimestamp64Milli({at:Int64}), 'c', {series:String}, 'expected', "
        "fromUnixTimestamp64Milli({at:Int64}), ['large'])",
        at,
    )
    client.close()


async def test_incidents_and_labels_are_listed(api: httpx.AsyncClient, cfg: config.Config) -> None:
    await asyncio.to_thread(insert_anomaly, cfg)
    (found,) = (await api.get("/incidents", params={"status": "open"})).json()["items"]
    assert (found["title"], found["members"][0]["series"]) == ("shop is slow", SERIES)
    assert found["members"][0]["ended"] is None
    assert (await api.get("/incidents", params={"status": "closed"})).json()["items"] == []
    (labelled,) = (await api.get("/labels")).json()["items"]
    assert (labelled["anomaly_id"], labelled["verdict"]) == ("a0", "expected")
    for path in ("/incidents", "/labels"):
        for matcher, times in (('web_response{service="shop"}', 1), ('{service="bank"}', 0)):
            matching = (await api.get(path, params={"match": matcher})).json()["items"]
            assert len(matching) == times, (path, matcher)
        problem(await api.get(path, params={"match": "cpu{"}), 422)


async def test_a_verdict_is_previewed_and_sent(api: httpx.AsyncClient, cfg: config.Config) -> None:
    await asyncio.to_thread(insert_anomaly, cfg)
    asked = {"anomaly_id": "a1", "verdict": "true", "by": "ann"}
    shown = (await api.post("/labels/preview", json=asked)).json()
    assert "changes no policy" in shown["lines"][0]
    assert await commands(cfg) == []
    reply = await api.post("/labels", json=asked)
    assert reply.status_code == 202, reply.text
    (sent,) = await commands(cfg)
    assert isinstance(sent, Label)
    assert (sent.anomaly_id, sent.series, sent.verdict, sent.by) == ("a1", SERIES, "true", "ann")
    assert (sent.started_ms, sent.detectors) == (START_MS, ["large"])
    nobody = await api.post("/labels", json={"anomaly_id": "nothing", "verdict": "true"})
    assert "no anomaly nothing" in problem(nobody, 400)


async def test_a_mute_is_set_listed_and_lifted(api: httpx.AsyncClient, cfg: config.Config) -> None:
    made = (await api.post("/mutes", json={"matcher": '{service="shop"}', "learn": False})).json()
    assert (made["state"], made["end"]) == ("holds", None)
    assert (await api.get("/mutes")).json() == {"items": [made], "next": None}
    assert (await api.delete(f"/mutes/{made['mute_id']}")).status_code == 202
    assert [each["state"] for each in (await api.get("/mutes")).json()["items"]] == ["lifted"]
    assert (await api.get("/mutes", params={"state": "holds"})).json()["items"] == []
    first, second = await commands(cfg)
    assert isinstance(first, Mute)
    assert (first.matcher, first.learn) == ('{service="shop"}', False)
    assert isinstance(second, Unmute)
    assert second.mute_id == first.mute_id
    assert "no such mute" in problem(await api.delete("/mutes/nothing"), 404)


@pytest.mark.parametrize(
    "wrong",
    [
        {"matcher": "cpu{"},
        {"matcher": "*", "timezone": "Mars", "repeat": "FREQ=DAILY"},
        {"matcher": "*", "repeat": "OFTEN"},
    ],
)
async def test_a_mute_that_cannot_be_followed_is_refused(
    api: httpx.AsyncClient, wrong: dict[str, str]
) -> None:
    end = datetime.fromtimestamp(START_MS / 1000 + 60, UTC).isoformat()
    start = datetime.fromtimestamp(START_MS / 1000, UTC).isoformat()
    problem(await api.post("/mutes", json={"start": start, "end": end, **wrong}), 422)


def artifact(trained_to_ms: int) -> ArtifactMessage:
    payload = b"a model"
    manifest = Manifest(
        artifact_id=f"m{trained_to_ms}",
        detector="iforest",
        version=1,
        series=SERIES,
        trained_from_ms=0,
        trained_to_ms=trained_to_ms,
        seed=1,
        sha256=hashlib.sha256(payload).hexdigest(),
        size=len(payload),
        report={"flagged": 1},
    )
    return ArtifactMessage(manifest, payload)


async def test_models_are_listed_adopted_and_rolled_back(api: httpx.AsyncClient, cfg: config.Config) -> None:
    older, newer = artifact(START_MS), artifact(START_MS + 1000)
    for each in (older, newer):
        artifacts.store_of(cfg).put(each)
    await artifacts.publish(cfg, older, serving=True)
    await artifacts.publish(cfg, newer, serving=False)
    listed = {each["artifact_id"]: each for each in (await api.get("/artifacts")).json()["items"]}
    assert {name: each["serving"] for name, each in listed.items()} == {
        older.manifest.artifact_id: True,
        newer.manifest.artifact_id: False,
    }
    pages = [(await api.get("/artifacts", params={"limit": 1})).json()]
    pages.append((await api.get("/artifacts", params={"limit": 1, "cursor": pages[0]["next"]})).json())
    assert [each["artifact_id"] for page in pages for each in page["items"]] == sorted(listed)
    assert pages[1]["next"] is None
    assert len((await api.get("/artifacts", params={"match": '{service="shop"}'})).json()["items"]) == 2
    assert (await api.get("/artifacts", params={"match": '{service="bank"}'})).json()["items"] == []
    assert listed[older.manifest.artifact_id]["report"] == {"flagged": 1}

    async def serving() -> list[str]:
        found = (await api.get("/artifacts", params={"series": SERIES})).json()["items"]
        return [each["artifact_id"] for each in found if each["serving"]]

    adopted = await api.post(f"/artifacts/{newer.manifest.artifact_id}/adopt")
    assert adopted.status_code == 202, adopted.text
    assert await serving() == [newer.manifest.artifact_id]
    back = await api.post("/artifacts/rollback", json={"detector": "iforest", "series": SERIES})
    assert back.status_code == 202, back.text
    assert await serving() == [older.manifest.artifact_id]
    assert "no artifact nothing" in problem(await api.post("/artifacts/nothing/adopt"), 400)
