"""At-least-once delivery: the same ids and scores; after a kill some of them come twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bench.processes import WorkerProcess
from stream.local.process import free_port
from tests.integration.conftest import ScoreRow, _rows
from tests.integration.test_recovery import telemetry

Kit = Any


def _unique(records: Sequence[Any]) -> set[ScoreRow]:
    return {row for record in records for row in _rows(record)}


async def test_without_faults_each_event_and_score_comes_once(kit: Kit) -> None:
    kit = kit.with_worker(delivery="at_least_once")
    sent = telemetry(400)
    await kit.send(sent)
    async with kit.worker():
        events, rows = await kit.reference(len(sent))
        got = await kit.events(len(events))
        assert sorted(e.event_id for e in got) == sorted(e.event_id for e in events)
        assert sorted(await kit.scores(len(rows))) == sorted(rows)


async def test_after_kills_nothing_is_lost_and_what_comes_twice_has_the_same_id(kit: Kit) -> None:
    kit = kit.with_worker(delivery="at_least_once", max_batch_messages=50)
    cfg = msgspec.structs.replace(
        kit.cfg, metrics=msgspec.structs.replace(kit.cfg.metrics, worker_port=free_port())
    )
    sent = telemetry(600)
    await kit.send(sent)
    with WorkerProcess(cfg) as worker:
        await worker.wait_for_samples(len(sent) // 5)
        worker.kill()
    with WorkerProcess(cfg):
        events, rows = await kit.reference(len(sent))
        # Those that come twice count once: a partition that had not committed yet asks for ten seconds.
        scores = await kit.read(kit.cfg.topics.scores.name, lambda r: len(_unique(r)) >= len(set(rows)))
        got = _unique(scores)
        told = await kit.events(len(events), quiet_s=1.0)
    assert got == set(rows)
    assert {e.event_id for e in told} == {e.event_id for e in events}
