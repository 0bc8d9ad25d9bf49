"""Nothing lost, nothing twice: workers, broker and connections are hurt at random while telemetry flows.

One round in `make test`; `make faults` runs `FAULTS_ROUNDS`, each with a seed and a broker of its own: one
that was killed often can come back without its groups (ADR 11), which is not ours to measure. The verifier
reads committed messages only, and compares events and scores with what one process makes of the same input in
memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import config
from stream import topics
from stream.local.broker import LocalKafka
from tests.faults.doomed import POINTS
from tests.faults.fleet import START_S, Fleet, Load, recovered
from tests.faults.ledger import Ledger, compare
from tests.faults.proxy import Proxy
from tests.integration.conftest import Kit

ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
SEED = int(os.environ.get("FAULTS_SEED", "0")) or time.time_ns() % 1_000_000
SESSION_S = 2.0
TRANSACTION_S = 4.0

Fault = Callable[[], Awaitable[None]]


class Scene:
    """All that faults act on."""

    def __init__(
        self, cfg: config.Config, fleet: Fleet, proxy: Proxy, broker: LocalKafka, chance: random.Random
    ) -> None:
        self.cfg, self.fleet, self.proxy, self.broker, self.chance = cfg, fleet, proxy, broker, chance

    def faults(self) -> dict[str, Fault]:
        return {
            "kill -9 of a worker": self.kill,
            "workers in rotation": self.rotate,
            "SIGSTOP past the session": lambda: self.freeze(SESSION_S * 2),
            "SIGSTOP past the transaction": lambda: self.freeze(TRANSACTION_S + 3),
            "broker killed": self.kill_broker,
            "connections cut": self.cut,
            "connections held back": lambda: self.proxy.delay(self.chance.uniform(0.5, 3)),
            "reply of the commit lost": self.lose_replies,
            "rebalance storm": self.storm,
            "snapshots damaged, then kill -9": self.damage,
            **{point: partial(self.doom, point) for point in POINTS},
        }

    async def kill(self) -> None:
        self.fleet.kill(self.chance.choice(self.fleet.workers))
        self.fleet.start()

    async def rotate(self) -> None:
        self.fleet.start()
        await asyncio.sleep(self.chance.uniform(2, 4))
        await self.fleet.stop(self.fleet.workers[0])

    async def freeze(self, seconds: float) -> None:
        worker = self.chance.choice(self.fleet.workers)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        worker.send_signal(signal.SIGCONT)

    async def kill_broker(self) -> None:
        self.broker.kill()
        await asyncio.sleep(self.chance.uniform(0, 1))
        await asyncio.to_thread(self.broker.start)

    async def cut(self) -> None:
        for _ in range(5):
            self.proxy.cut()
            await asyncio.sleep(self.chance.uniform(0.05, 0.5))

    async def lose_replies(self) -> None:
        self.proxy.lose_end_replies(3)
        await asyncio.sleep(1)

    async def storm(self) -> None:
        for _ in range(3):
            self.fleet.start()
            await asyncio.sleep(self.chance.uniform(1, 2.5))
            await self.fleet.stop(self.fleet.workers[-1])

    async def doom(self, point: str) -> None:
        most = 3 if point == "kill during a snapshot" else 40
        assert await self.fleet.doom(point, self.chance.randint(1, most)), f"{point}: it did not come to it"

    async def damage(self) -> None:
        folder = Path(self.cfg.snapshots.url)
        for path in await asyncio.to_thread(lambda: list(folder.rglob("*.snapshot"))):
            if self.chance.random() < 0.7:
                _damage(path, self.chance)
        await self.kill()


def _damage(path: Path, chance: random.Random) -> None:
    try:
        data = bytearray(path.read_bytes())
    except FileNotFoundError:  # a newer one took its place
        return
    place = chance.randrange(len(data))
    if chance.random() < 0.5:
        data[place] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[:place])


@pytest.fixture
def scene_cfg(kit: Kit) -> config.Config:
    worker = msgspec.structs.replace(
        kit.cfg.worker,
        session_timeout_ms=int(SESSION_S * 1000),
        transaction_timeout_ms=int(TRANSACTION_S * 1000),
        relearn_messages=0,  # only snapshots and the journal may bring the state back
    )
    return msgspec.structs.replace(
        kit.cfg, worker=worker, snapshots=msgspec.structs.replace(kit.cfg.snapshots, every_ms=500)
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
async def test_nothing_is_lost_and_nothing_doubled_whatever_fails(
    scene_cfg: config.Config,
    local_kafka: LocalKafka,
    prefix: str,
    tmp_path: Path,
    capsys: Any,
    total: Ledger,
    seed: int,
) -> None:
    chance, ledger = random.Random(seed), Ledger()
    await asyncio.to_thread(_begin_anew, local_kafka)
    await topics.ensure(scene_cfg)
    load = Load(scene_cfg, chance, f"{prefix}load")
    async with Proxy(local_kafka.port) as proxy:
        through = msgspec.structs.replace(
            scene_cfg, kafka=msgspec.structs.replace(scene_cfg.kafka, bootstrap_servers=proxy.bootstrap)
        )
        fleet = Fleet(through, tmp_path / "workers.log")
        scene = Scene(scene_cfg, fleet, proxy, local_kafka, chance)
        loading = asyncio.create_task(load.run())
        try:
            fleet.start(2)
            await asyncio.sleep(1)
            await recovered(scene_cfg, fleet, START_S)
            await _hurt(scene, load, ledger)
            await load.finish()
            await loading
            await compare(Kit(scene_cfg), ledger)
        finally:
            await load.finish()
            fleet.close()
    ledger.aborted, ledger.lost_replies = load.aborted, proxy.lost_replies
    total.add(ledger)
    with capsys.disabled():
        print(f"\nseed {seed}\n{ledger}")
    assert not ledger.wrong, (seed, ledger.wrong)
    assert ledger.events > 20


def _begin_anew(broker: LocalKafka) -> None:
    broker.stop()
    broker.clear()
    broker.start()


async def _hurt(scene: Scene, load: Load, ledger: Ledger) -> None:
    order = list(scene.faults().items())
    scene.chance.shuffle(order)
    for name, inject in order:
        await asyncio.sleep(scene.chance.uniform(0.3, 1.5))
        began = load.row
        await inject()
        ledger.injected(name, began, await recovered(scene.cfg, scene.fleet))
