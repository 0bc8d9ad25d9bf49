"""Nothing lost, nothing twice while fits go wrong and commands come twice and out of order.

Workers are killed in between. The verifier's one process takes from the journal what took effect where. In
`make test` half of the faults, chosen by the seed; `make faults` all of them, `FAULTS_ROUNDS` times.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import config
from schemas.control import Command, Label, Mute, Unmute
from schemas.journal import Adopted, Labelled, Muted
from schemas.request import Failed, Failure, Fitted, Refit, Trigger
from stream import topics
from stream.control import commanding
from stream.kafka import TopicPartition, producer
from stream.refresh.trainer import Trainer
from stream.store import migrations
from stream.store.clickhouse import Client
from stream.worker import journal
from tests.faults.fleet import START_MS, START_S, STEP_MS, Fleet, Load, recovered
from tests.faults.ledger import Ledger, compare
from tests.integration.conftest import Kit, loop_kit
from tests.integration.refreshing import WAVE, answers, send
from tests.integration.test_refresh_failures import broken_path
from tests.support import insert_samples, running

__all__ = ["broken_path", "loop_kit"]

SEED = int(os.environ.get("FAULTS_SEED", "0")) or time.time_ns() % 1_000_000
ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
SERIES = [f'load{{host="{host}"}}' for host in range(4)]  # one in each partition

Fault = Callable[[], Awaitable[None]]
WRONG = {"raise": Failure.RAISED, "die": Failure.DIED, "hang": Failure.DEADLINE, "nan": Failure.NOT_FINITE}


class Hands:
    """What people and trainers do to a fleet."""

    def __init__(self, kit: Kit, fleet: Fleet, load: Load, chance: random.Random, how: Path) -> None:
        self.kit, self.fleet, self.load, self.chance, self._how = kit, fleet, load, chance, how
        self._asked = 0
        self.sent: list[Command] = []

    def faults(self) -> dict[str, Fault]:
        return {
            **{f"fit: {how}": lambda how=how: self.fit(how) for how in WRONG},  # type: ignore[misc]
            "a model is adopted, then kill -9": self.adopt,
            "mutes and verdicts sent twice": self.repeat,
            "mute and unmute out of order": self.reorder,
            "an old mute comes again, then kill -9": self.late,
        }

    async def fit(self, how: str) -> None:
        await asyncio.to_thread(self._how.write_text, how)
        answer = await self._answer("broken", 1500 if how == "hang" else 60_000)
        assert isinstance(answer, Failed)
        assert answer.reason is WRONG[how], answer.text

    async def adopt(self) -> None:
        answer = await self._answer("iforest", 60_000)
        assert isinstance(answer, Fitted), answer
        await self._journaled(lambda e: isinstance(e, Adopted) and e.artifact == answer.artifact_id)
        self.kill()

    async def repeat(self) -> None:
        mute = self._mute("twice")
        verdict = Label(command_id="v", at_ms=1, anomaly_id=(await self._anomaly()), **self._of_anomaly)
        await self._send([mute, verdict, mute, verdict, mute])
        await self._journaled(lambda e: isinstance(e, Muted) and e.mute == mute, everywhere=True)

    async def reorder(self) -> None:
        mute = self._mute("reordered")
        lift = Unmute(command_id="later", at_ms=mute.at_ms + 1, mute_id=mute.mute_id)
        await self._send([lift, mute])
        await asyncio.sleep(1)  # nothing must happen: there is nothing to wait for

    async def late(self) -> None:
        mute = self._mute("late")
        await self._send([mute])
        await self._journaled(lambda e: isinstance(e, Muted) and e.mute == mute, everywhere=True)
        await self._send([Unmute(command_id="lift", at_ms=mute.at_ms + 1, mute_id=mute.mute_id)])
        await self._journaled(
            lambda e: isinstance(e, Muted) and e.mute_id == mute.mute_id and e.mute is None, everywhere=True
        )
        await self._send([mute])
        self.kill()

    def kill(self) -> None:
        self.fleet.kill(self.chance.choice(self.fleet.workers))
        self.fleet.start()

    def _mute(self, name: str) -> Mute:
        now_ms = START_MS + self.load.row * STEP_MS
        return Mute(
            command_id=f"{name}-{self.load.row}",
            at_ms=self.load.row,
            mute_id=f"{name}-{self.load.row}",
            matcher="load",
            start_ms=now_ms,
            end_ms=now_ms + 1000 * STEP_MS,
            learn=False,
        )

    async def _anomaly(self) -> str:
        event = (await self.kit.events(1, quiet_s=0.0))[-1]
        self._of_anomaly = {"series": event.series, "verdict": "false", "started_ms": event.started_ms}
        return event.anomaly_id

    async def _answer(self, detector: str, deadline_ms: int) -> Any:
        self._asked += 1
        request = Refit(
            request_id=f"r{self._asked}",
            detector=detector,
            series=self.chance.choice(SERIES),
            from_ms=0,
            until_ms=START_MS,
            trigger=Trigger.PERSON,
            adopt=True,
            deadline_ms=deadline_ms,
        )
        await send(self.kit, request)
        return (await answers(self.kit, self._asked))[-1]

    async def _send(self, commands: Sequence[Command]) -> None:
        """As they are: `commanding.send` would refuse some."""
        client = producer(self.kit.cfg.kafka)
        await client.start()
        for each in commands:
            await client.send_and_wait(
                self.kit.cfg.topics.control.name, msgspec.json.encode(each), key=commanding.key(each)
            )
        await client.stop()
        self.sent += commands

    async def _journaled(self, wanted: Callable[[Any], bool], *, everywhere: bool = False) -> None:
        """Wait for an entry in some partition, or in all of them: one that has just moved reads later."""
        enough = all if everywhere else any
        async with asyncio.timeout(60):
            while not enough(  # noqa: ASYNC110  # other processes write it
                any(map(wanted, entries)) for entries in await journals(self.kit)
            ):
                await asyncio.sleep(0.1)


async def journals(kit: Kit) -> list[list[Any]]:
    source = kit.cfg.inputs[0]
    return [await journal.read(kit.cfg, TopicPartition(source.topic, n)) for n in range(source.partitions)]


@pytest.fixture
def hands_kit(loop_kit: Kit) -> Kit:
    worker = msgspec.structs.replace(loop_kit.cfg.worker, relearn_messages=0)
    store = msgspec.structs.replace(loop_kit.cfg.snapshots, every_ms=500)
    cfg = msgspec.structs.replace(loop_kit.cfg, worker=worker, snapshots=store)
    client = Client.connect(cfg.clickhouse)
    migrations.apply(client, cfg.clickhouse)
    times_ms = [START_MS - (len(WAVE) - n) * STEP_MS for n in range(len(WAVE))]
    for series in SERIES:
        insert_samples(client, series, times_ms, WAVE)
    client.close()
    return Kit(cfg)


def _trainer(cfg: config.Config, how: Path) -> Trainer:
    broken = config.DetectorConfig(
        name="broken", params={"how_in": str(how), "until": "", "marker": str(how) + ".on"}
    )
    engine = msgspec.structs.replace(cfg.engine, detectors=[*cfg.engine.detectors, broken])
    return Trainer(msgspec.structs.replace(cfg, engine=engine))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
async def test_fits_and_commands_that_go_wrong_lose_and_double_nothing(
    hands_kit: Kit,
    prefix: str,
    tmp_path: Path,
    broken_path: Path,
    capsys: Any,
    total: Ledger,
    seed: int,
) -> None:
    kit, chance, ledger, how = hands_kit, random.Random(seed), Ledger(), broken_path / "how"
    await topics.ensure(kit.cfg)
    load = Load(kit.cfg, chance, f"{prefix}load")
    fleet = Fleet(kit.cfg, tmp_path / "workers.log")
    hands = Hands(kit, fleet, load, chance, how)
    loading = asyncio.create_task(load.run())
    async with running(_trainer(kit.cfg, how)):
        try:
            fleet.start(2)
            await recovered(kit.cfg, fleet, START_S)
            faults = list(hands.faults().items())
            order = chance.sample(faults, len(faults) if "FAULTS_ROUNDS" in os.environ else len(faults) // 2)
            for name, inject in order:
                began = load.row
                await inject()
                ledger.injected(name, began, await recovered(kit.cfg, fleet))
            await load.finish()
            await loading
            await compare(kit, ledger)
        finally:
            await load.finish()
            fleet.close()
    ledger.aborted = load.aborted
    total.add(ledger)
    with capsys.disabled():
        print(f"\nseed {seed}\n{ledger}")
    assert not ledger.wrong, (seed, ledger.wrong)
    for entries in await journals(kit):
        _once(entries)
        _as_said_last(entries, hands.sent)


def _once(entries: Sequence[Any]) -> None:
    """No entry repeats what the one before it of its mute, verdict or model said."""
    newest: dict[str, Any] = {}
    for entry in entries:
        name, said = "", None
        match entry:
            case Muted():
                name, said = entry.mute_id, entry.mute
            case Labelled():
                name, said = entry.anomaly_id, entry.verdict
            case Adopted():
                name, said = entry.series, entry.artifact
            case _:
                continue
        assert name not in newest or newest[name] != said, f"{entry} is there twice"
        newest[name] = said


def _as_said_last(entries: Sequence[Any], sent: Sequence[Command]) -> None:
    """What holds in a partition at the end is what was said last, by the time of saying it."""
    want = {}
    for each in sorted(sent, key=lambda command: command.at_ms):
        if isinstance(each, Mute | Unmute):
            want[each.mute_id] = each if isinstance(each, Mute) else None
    got = {entry.mute_id: entry.mute for entry in entries if isinstance(entry, Muted)}
    assert {name: mute for name, mute in got.items() if mute} == {n: m for n, m in want.items() if m}
