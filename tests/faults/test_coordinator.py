"""What a worker does when the group's coordinator has just been restarted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stream.local.broker import LocalKafka
from tests.faults.proxy import Proxy
from tests.integration.conftest import Kit
from tests.integration.test_recovery import _equals_one_process, telemetry


@pytest.mark.parametrize(("delivery", "wrong"), [("exactly_once", 1_000_000), ("at_least_once", 20)])
async def test_a_coordinator_that_does_not_know_its_offsets_yet_makes_nothing_come_twice(
    kit: Kit, local_kafka: LocalKafka, delivery: Any, wrong: int
) -> None:
    kit = kit.with_worker(delivery=delivery)
    sent = telemetry(300)
    await kit.send(sent[:1600])
    async with kit.worker():
        await kit.scores(1600, quiet_s=0.0)
    async with Proxy(local_kafka.port) as proxy:
        proxy.forget_offsets(wrong)
        address = msgspec.structs.replace(kit.cfg.kafka, bootstrap_servers=proxy.bootstrap)
        async with Kit(msgspec.structs.replace(kit.cfg, kafka=address)).worker():
            await kit.send(sent[1600:])
            await _equals_one_process(kit, len(sent))
    assert proxy.forgotten
