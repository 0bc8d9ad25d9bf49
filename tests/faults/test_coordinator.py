"""What members of a group do when the group's coordinator has just been restarted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas import config
from stream.incidents.notify import Relay
from stream.local.broker import LocalKafka
from tests.faults.proxy import Proxy
from tests.integration.conftest import Kit
from tests.integration.test_notify import configured, event, eventually, send
from tests.integration.test_recovery import _equals_one_process, telemetry
from tests.support import Receiver, running


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


async def test_a_relay_whose_coordinator_takes_its_group_for_a_new_one_skips_nothing(
    kit: Kit, local_kafka: LocalKafka, receiver: Receiver
) -> None:
    cfg = configured(kit, config.NotifyTarget(name="hook", url=receiver.url))
    async with running(Relay(cfg)):
        await send(cfg, event(1))
        await eventually(lambda: receiver.taken)
    await send(cfg, event(2), event(3))
    async with Proxy(local_kafka.port) as proxy:
        proxy.forget_offsets(1_000_000)
        address = msgspec.structs.replace(cfg.kafka, bootstrap_servers=proxy.bootstrap)
        async with running(Relay(msgspec.structs.replace(cfg, kafka=address))):
            await eventually(lambda: len(receiver.taken) >= 3)
    assert proxy.forgotten
    assert [key for key, _ in receiver.taken] == ["event-1-open", "event-2-open", "event-3-open"]
