"""Fits that go wrong, on the real broker and the real engine: the old model stays and no request is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from schemas import config
from schemas.find import PointsFound
from schemas.request import Cancel, Failed, Failure, Fitted
from stream import topics
from stream.local.process import start_time
from stream.refresh import artifacts, finding
from stream.refresh.asking import Asker
from stream.refresh.frames import Frame
from stream.refresh.trainer import Trainer
from tests.integration import broken_detector
from tests.integration.conftest import Kit
from tests.integration.refreshing import (
    DEADLINE_S,
    START_MS,
    STEP_MS,
    WAVE,
    answers,
    ask,
    refit,
    send,
    store_history,
)
from tests.support import running


def broken(kit: Kit, how: str, **params: Any) -> Kit:
    detector = config.DetectorConfig(name="broken", params={"how": how, **params})
    forest = config.DetectorConfig(name="iforest", params={"n_estimators": 10})
    engine = config.Engine(detectors=[forest, detector])
    limit = msgspec.structs.replace(kit.cfg.trainer, memory_limit_bytes=1024**3)
    return Kit(msgspec.structs.replace(kit.cfg, engine=engine, trainer=limit))


@pytest.fixture
def broken_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "broken"
    folder.mkdir()
    broken_detector.install(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path(__file__).parents[2]}")
    return folder


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", Failure.RAISED),
        ("hang", Failure.DEADLINE),
        ("memory", Failure.MEMORY),
        ("die", Failure.DIED),
        ("nan", Failure.NOT_FINITE),
    ],
)
async def test_a_fit_that_goes_wrong_is_counted_and_the_old_model_stays(
    loop_kit: Kit, broken_path: Path, metric: Any, how: str, reason: Failure
) -> None:
    params = {"until": str(broken_path / "never"), "marker": str(broken_path / "marker")}
    kit = broken(loop_kit, how, **params)
    store_history(kit.cfg, WAVE)
    async with running(Trainer(kit.cfg)) as trainer:
        # The good one runs in the process that the bad one then ends.
        await ask(kit)
        good = (await answers(kit, 1))[0]
        assert isinstance(good, Fitted), good
        deadline_ms = 1500 if how == "hang" else 60_000
        await ask(kit, request_id="r2", detector="broken", deadline_ms=deadline_ms)
        bad = (await answers(kit, 2))[1]
        assert isinstance(bad, Failed), bad
        assert bad.reason is reason, bad.text
        await ask(kit, request_id="r3")  # and the next one works again
        again = (await answers(kit, 3))[2]
        counted = metric(trainer.metrics_url, "tocsin_fit_failures_total")
    assert counted == {f'detector="broken",reason="{reason}"': 1.0}
    assert isinstance(again, Fitted)
    (shown,) = await artifacts.on_topic(kit.cfg)
    assert shown.manifest.artifact_id == good.artifact_id == again.artifact_id


@pytest.mark.parametrize(
    ("values", "reason"),
    [([5.0] * 600, Failure.CONSTANT), (WAVE[:50], Failure.TOO_LITTLE), ([], Failure.TOO_LITTLE)],
)
async def test_a_history_that_makes_no_model_is_named(
    loop_kit: Kit, values: list[float], reason: Failure
) -> None:
    store_history(loop_kit.cfg, values)
    async with running(Trainer(loop_kit.cfg)):
        await ask(loop_kit)
        (answer,) = await answers(loop_kit, 1)
    assert isinstance(answer, Failed)
    assert answer.reason is reason, answer.text
    assert await artifacts.on_topic(loop_kit.cfg) == []


async def test_a_killed_trainer_loses_no_request(loop_kit: Kit, broken_path: Path, tmp_path: Path) -> None:
    marker, until = broken_path / "marker", broken_path / "until"
    kit = broken(loop_kit, "hang", marker=str(marker), until=str(until))
    store_history(kit.cfg, WAVE)
    await topics.ensure(kit.cfg)
    await ask(kit, detector="broken")
    file = tmp_path / "tocsin.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(kit.cfg)))
    with subprocess.Popen([sys.executable, "-m", "stream.cli", "trainer", "--config", str(file)]) as victim:  # noqa: ASYNC220
        async with asyncio.timeout(DEADLINE_S):
            while not marker.exists():  # noqa: ASYNC110  # another process makes it
                await asyncio.sleep(0.05)
        victim.kill()
    until.touch()
    async with running(Trainer(kit.cfg)):
        (answer,) = await answers(kit, 1)
    assert isinstance(answer, Fitted)
    (shown,) = await artifacts.on_topic(kit.cfg)
    assert shown.manifest.artifact_id == answer.artifact_id


async def test_a_request_is_cancelled_while_it_runs(loop_kit: Kit, broken_path: Path) -> None:
    """Its process ends with what that has started, as Prophet starts its optimizer."""
    marker = broken_path / "marker"
    kit = broken(loop_kit, "child", marker=str(marker))
    store_history(kit.cfg, WAVE)
    async with running(Trainer(kit.cfg)):
        await ask(kit, detector="broken")
        async with asyncio.timeout(DEADLINE_S):
            while not marker.exists():  # noqa: ASYNC110  # another process makes it
                await asyncio.sleep(0.05)
            child = int(marker.read_text())
            assert start_time(child) is not None
            await send(kit, Cancel(request_id="r1"))
            (answer,) = await answers(kit, 1)
            while start_time(child) is not None:  # noqa: ASYNC110  # the kernel ends it
                await asyncio.sleep(0.05)
    assert isinstance(answer, Failed)
    assert answer.reason is Failure.CANCELLED


async def test_a_question_is_answered_while_all_refits_that_may_wait_hang(
    loop_kit: Kit, broken_path: Path
) -> None:
    kit = broken(loop_kit, "hang", marker=str(broken_path / "marker"), until=str(broken_path / "never"))
    two = msgspec.structs.replace(kit.cfg.trainer, processes=2)
    kit = Kit(msgspec.structs.replace(kit.cfg, trainer=two))
    ts_ms = START_MS + STEP_MS * np.arange(len(WAVE))
    frame = Frame(ts_ms, {"cpu": np.array(WAVE)})
    task = finding.task(finding.canonical("Isolation Forest"), frame, ["cpu"], {}, kit.cfg.engine)
    async with running(Trainer(kit.cfg)):
        hang = range(kit.cfg.refresh.max_waiting)
        await send(kit, *(refit(request_id=f"h{n}", detector="broken", deadline_ms=3_600_000) for n in hang))
        asker = await Asker.connect(kit.cfg)
        try:
            async with asyncio.timeout(DEADLINE_S):
                found = await asker.find(task, lambda _: None)
        finally:
            await asker.close()
    assert isinstance(found, PointsFound)
    assert len(np.frombuffer(found.score, "<f8")) == len(WAVE)
