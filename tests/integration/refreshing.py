"""Requests to trainers, their answers, and the history that they fit on."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from schemas import config
from schemas.request import Answer, Failed, Fitted, Refit, Request, Trigger
from stream import kafka as clients
from stream.store import migrations
from stream.store.clickhouse import Client
from tests.integration.conftest import REFRESH_STEP_MS, Kit
from tests.support import insert_samples

START_MS = 1_760_000_000_000
STEP_MS = REFRESH_STEP_MS
SERIES = 'cpu{host="a"}'
DEADLINE_S = 90.0
FIT_DEADLINE_S = 300.0
"""A worker and a process that fits start, compile and import first; on a busy machine that is minutes."""

WAVE = [10 + float(np.sin(n / 20)) + n % 7 / 10 for n in range(600)]


async def answers(kit: Kit, enough: int) -> list[Any]:
    """The final answers, in order."""
    records = await kit.read(
        kit.cfg.topics.results.name, lambda found: sum(map(_final, found)) >= enough, 0.2, FIT_DEADLINE_S
    )
    return [msgspec.msgpack.decode(r.value or b"", type=Answer) for r in records if _final(r)]


def _final(record: Any) -> bool:
    return isinstance(msgspec.msgpack.decode(record.value, type=Answer), Fitted | Failed)


async def ask(kit: Kit, **changes: Any) -> None:
    """A request by hand."""
    await send(kit, refit(**changes))


def refit(**changes: Any) -> Refit:
    asked = {
        "request_id": "r1",
        "detector": "iforest",
        "series": SERIES,
        "from_ms": START_MS,
        "until_ms": START_MS + 10_000 * STEP_MS,
        "trigger": Trigger.PERSON,
        "adopt": True,
        "deadline_ms": 60_000,
    }
    return Refit(**{**asked, **changes})


async def send(kit: Kit, *requests: Request) -> None:
    """All at once."""
    producer = clients.producer(kit.cfg.kafka)
    await producer.start()
    for request in requests:
        await producer.send(kit.cfg.topics.requests.name, msgspec.msgpack.encode(request), partition=0)
    await producer.stop()


def store_history(cfg: config.Config, values: list[float], series: str = SERIES) -> None:
    """Samples of a series as the sink writes them."""
    client = Client.connect(cfg.clickhouse)
    migrations.apply(client, cfg.clickhouse)
    insert_samples(client, series, [START_MS + n * STEP_MS for n in range(len(values))], values)
    client.close()
