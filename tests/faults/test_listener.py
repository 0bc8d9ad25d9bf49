"""What a worker does when its partitions come late, or when taking them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from stream.kafka import TopicPartition
from stream.worker.worker import Worker
from tests.integration.test_recovery import _equals_one_process, telemetry

Kit = Any


async def test_records_that_arrive_before_the_assignment_finishes_are_neither_lost_nor_doubled(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, late = Worker.assigned, 0

    async def assigned(self: Worker, partitions: Iterable[TopicPartition]) -> None:
        nonlocal late
        late += 1
        await asyncio.sleep(1)  # the fault itself: aiokafka may fetch meanwhile
        await real(self, partitions)

    monkeypatch.setattr(Worker, "assigned", assigned)
    sent = telemetry(300)
    await kit.send(sent)
    async with kit.worker():
        await kit.scores(len(sent) // 2, quiet_s=0.0)
        async with kit.worker():
            await _equals_one_process(kit, len(sent))
    assert late >= 2


@pytest.mark.parametrize("method", ["assigned", "revoked"])
async def test_a_worker_whose_listener_raises_ends_and_another_one_goes_on_exactly(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    sent = telemetry(300)
    await kit.send(sent[:800])
    broken = Worker(kit.cfg)

    async def fails(partitions: Iterable[TopicPartition], **_lost: bool) -> None:
        raise RuntimeError(f"not {method} today: {sorted(partitions)}")

    running = asyncio.create_task(broken.run(asyncio.Event()))
    if method == "assigned":
        monkeypatch.setattr(broken, method, fails)
    else:
        await kit.scores(800, quiet_s=0.0)
        monkeypatch.setattr(broken, method, fails)
    async with kit.worker():  # its joining moves partitions
        with pytest.raises(RuntimeError, match=f"not {method} today"):
            await asyncio.wait_for(running, 60)
        await kit.send(sent[800:])
        await _equals_one_process(kit, len(sent))
