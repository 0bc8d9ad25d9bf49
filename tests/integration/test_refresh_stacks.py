"""Models that a trainer fits together, on the real broker and the real engine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from schemas import config
from schemas.request import Answer, Failed, Failure, Fitted, Progress
from stream import topics
from stream.refresh import artifacts
from stream.refresh.trainer import Trainer
from tests.integration.conftest import Kit
from tests.integration.refreshing import FIT_DEADLINE_S, WAVE, answers, refit, send, store_history
from tests.support import running

NAMES = [f'cpu{{host="{host}"}}' for host in "abcd"]


@pytest.fixture
def stack_kit(loop_kit: Kit) -> Kit:
    """A small AER for each series, and a trainer with one process."""
    params = {"epochs": 3, "max_windows": 300}
    entry = config.DetectorConfig(name="aer", params=params, weight=0.5)
    engine = config.Engine(detectors=[config.DetectorConfig(name="large"), entry])
    by_hand = msgspec.structs.replace(loop_kit.cfg.refresh, rules=[])
    return Kit(msgspec.structs.replace(loop_kit.cfg, engine=engine, refresh=by_hand))


async def ask_all(kit: Kit, names: Sequence[str]) -> None:
    await topics.ensure(kit.cfg)
    await send(kit, *(refit(request_id=name, detector="aer", series=name) for name in names))


async def on_topic(kit: Kit) -> dict[str, str]:
    return {s.manifest.series: s.manifest.artifact_id for s in await artifacts.on_topic(kit.cfg)}


async def test_requests_that_come_together_are_fitted_together_and_a_bad_history_spoils_only_its_own(
    stack_kit: Kit,
) -> None:
    bad = {'cpu{host="still"}': [5.0] * 600, 'cpu{host="short"}': WAVE[:50]}
    for shift, name in enumerate(NAMES):
        store_history(stack_kit.cfg, [value + shift for value in WAVE], name)
    for name, values in bad.items():
        store_history(stack_kit.cfg, values, name)
    async with running(Trainer(stack_kit.cfg)):
        await ask_all(stack_kit, [NAMES[0], *bad, *NAMES[1:]])
        told = {answer.series: answer for answer in await answers(stack_kit, 6)}
    fitted = {name: told[name] for name in NAMES}
    assert all(isinstance(each, Fitted) for each in fitted.values()), told
    # Each is told its share of what the fit took, to the last bit the same: it was one fit.
    assert len({each.seconds for each in fitted.values()}) == 1
    failed = [told[name] for name in bad]
    assert all(isinstance(each, Failed) for each in failed)
    assert [each.reason for each in failed] == [Failure.CONSTANT, Failure.TOO_LITTLE]
    assert await on_topic(stack_kit) == {name: each.artifact_id for name, each in fitted.items()}


async def test_a_trainer_killed_amid_a_stack_loses_none_of_its_requests(
    stack_kit: Kit, tmp_path: Path
) -> None:
    for name in NAMES:
        store_history(stack_kit.cfg, WAVE, name)
    await ask_all(stack_kit, NAMES)
    file = tmp_path / "tocsin.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(stack_kit.cfg)))
    command = [sys.executable, "-m", "stream.cli", "trainer", "--config", str(file)]
    victim = await asyncio.create_subprocess_exec(*command)
    try:
        await stack_kit.read(
            stack_kit.cfg.topics.results.name, lambda found: len(found) >= len(NAMES), 0.0, FIT_DEADLINE_S
        )
    finally:
        victim.kill()
        await victim.wait()
    begun = await stack_kit.read(stack_kit.cfg.topics.results.name, lambda found: True)
    assert {type(_answer(record)) for record in begun} == {Progress}  # it was in the middle
    async with running(Trainer(stack_kit.cfg)):
        told = {answer.series: answer for answer in await answers(stack_kit, len(NAMES))}
    assert all(isinstance(told[name], Fitted) for name in NAMES), told
    assert await on_topic(stack_kit) == {name: told[name].artifact_id for name in NAMES}


def _answer(record: Any) -> Any:
    return msgspec.msgpack.decode(record.value, type=Answer)
