"""Two coordinators: one hears everything, the other nothing until it is its turn."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np

from schemas import config
from schemas.control import Label
from schemas.score import ScoreBatch
from stream import kafka as clients
from stream import observe
from stream.control import commanding
from stream.refresh.coordinator import Coordinator
from tests.integration.conftest import Kit
from tests.integration.test_incidents import incident_kit  # noqa: F401  # a fixture
from tests.integration.test_notify import eventually
from tests.support import running

START_MS = 1_760_000_000_000


def labels(first: int, count: int) -> list[Label]:
    numbers = range(first, first + count)
    return [
        Label(
            command_id=f"c{n}", at_ms=START_MS + n, anomaly_id=f"a{n}", series="cpu", verdict="false",
            started_ms=START_MS, detectors=["rare"],
        )
        for n in numbers
    ]  # fmt: skip


async def send_scores(cfg: config.Config) -> None:
    """A sample of a series of its own in each partition of the scores, each a minute later."""
    producer = clients.producer(cfg.kafka)
    await producer.start()
    for number in range(cfg.topics.scores.partitions):
        none = np.full(1, np.nan, np.float32).tobytes()
        batch = ScoreBatch(
            series=msgspec.Raw(msgspec.msgpack.encode([f"cpu{number}"])),
            index=np.zeros(1, np.uint32).tobytes(),
            ts_ms=np.array([START_MS + 60_000 * number]).tobytes(),
            value=np.ones(1).tobytes(),
            **dict.fromkeys(("score", "level", "expected", "lower", "upper"), none),
            state=b"\0",
            alert=b"\0",
        )
        await producer.send_and_wait(cfg.topics.scores.name, msgspec.msgpack.encode(batch), partition=number)
    await producer.stop()


async def test_one_coordinator_hears_all_and_the_other_nothing_until_it_takes_over_what_was_said(
    incident_kit: Kit,  # noqa: F811
) -> None:
    names = incident_kit.cfg.topics
    names = msgspec.structs.replace(names, control=msgspec.structs.replace(names.control, partitions=2))
    # No session ends here, however busy the machine is: the first one leaves.
    incidents = msgspec.structs.replace(incident_kit.cfg.incidents, session_timeout_ms=30_000)
    cfg = msgspec.structs.replace(incident_kit.cfg, topics=names, incidents=incidents)
    newest_ms = START_MS + 60_000 * (names.scores.partitions - 1)

    def verdicts(of: Coordinator) -> float:
        return observe.total(of.metrics_url, "tocsin_labelled_anomalies")

    async with contextlib.AsyncExitStack() as lives:
        first = await lives.enter_async_context(running(Coordinator(cfg)))
        async with running(Coordinator(cfg)) as second:
            await commanding.send(cfg, labels(0, 6))
            await send_scores(cfg)
            await eventually(lambda: verdicts(first) == 6 and first.timetable.clock_ms == newest_ms)
            assert verdicts(second) == 0, "what it counts would be counted twice"
            assert second.timetable.clock_ms == 0
            await lives.aclose()
            await eventually(lambda: verdicts(second) == 6)
            await commanding.send(cfg, labels(6, 2))
            await eventually(lambda: verdicts(second) == 8)
