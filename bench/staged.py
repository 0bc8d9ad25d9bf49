"""A month of telemetry with a fault after it, through real parts, for the pictures of the dashboards."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.protocol import Samples
from schemas import config
from schemas.control import Change, Label, Mute
from stream import kafka, observe, topics
from stream.control import commanding
from stream.demo import LABELS, TELEMETRY
from stream.files.labelled import read_files
from stream.files.produce import CHUNK, produce
from stream.files.sources import Columns, read
from stream.files.tables import Meter
from stream.formats.names import canonical
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.monitoring import Monitoring
from stream.refresh.coordinator import Coordinator
from stream.store.sink import SinkLoop
from stream.worker.worker import Worker

MINUTES: Final = 240
"""Of telemetry after the month, as it was a week before its end; the fault is in the last of them."""

FAULT: Final = {"web_response": 60.0, "throughput": 0.02, "apdex": 0.3, "error": 300.0}
FAULT_MINUTES: Final = 12
WEEK: Final = 7 * 1440

BARELY: Final = 1.1
"""Peak scores below it are called false alarms."""

WAIT_S: Final = 600.0
"""For the month, and for the fault: minutes on a busy machine."""

SCRAPED_S: Final = 30.0
"""After the fault, so that Prometheus has it, too."""

_CLOSED: Final = """
SELECT anomaly_id, series, toUnixTimestamp64Milli(started) AS at, toUnixTimestamp64Milli(ended) AS ended,
       detectors.name AS detectors, peak_score
FROM anomalies_latest WHERE ended IS NOT NULL ORDER BY at
"""
_FAULT_TOLD: Final = """
SELECT (SELECT count() FROM labels_latest)
       AND (SELECT max(length(members)) FROM incidents_latest WHERE status != 'close') >= 2
       AND (SELECT max(ts) FROM telemetry) >= fromUnixTimestamp64Milli({last_ms}) AS done
"""


class Live(NamedTuple):
    """The running parts."""

    cfg: config.Config
    prometheus_url: str
    began_s: float


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Live]:
    """All of it told; worker, sink and coordinator run in this event loop until the end."""
    kafka.quiet()
    with LocalKafka(folder / "kafka") as broker, LocalClickHouse(folder / "clickhouse") as engine:
        cfg = _configured(folder, broker, engine)
        await topics.ensure(cfg)
        began_s = time.time()
        async with (
            _running(SinkLoop(cfg)) as sink,
            _running(Coordinator(cfg)) as coordinator,
            _running(Worker(cfg)) as worker,
        ):
            processes = {"worker": worker, "sink": sink, "coordinator": coordinator}
            urls = {name: each.metrics_url for name, each in processes.items()}
            monitoring = Monitoring(folder, urls, interval="5s")
            await asyncio.to_thread(monitoring.start)
            try:
                await _tell(cfg)
                yield Live(cfg, monitoring.prometheus_url, began_s)
            finally:
                await asyncio.to_thread(monitoring.stop)


def _configured(folder: Path, broker: LocalKafka, engine: LocalClickHouse) -> config.Config:
    defaults = config.Config()
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=broker.bootstrap),
        inputs=[config.Input(topic=defaults.inputs[0].topic, partitions=4)],
        clickhouse=config.ClickHouse(host=engine.host, port=engine.port),
        metrics=config.Metrics(worker_port=0, sink_port=0, coordinator_port=0),
        snapshots=config.Snapshots(url=str(folder.resolve() / "snapshots"), every_ms=5000),
    )


@contextlib.asynccontextmanager
async def _running(process: Any) -> AsyncIterator[Any]:
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(process.run(stop, lambda _: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            task.result()  # raises what went wrong
        yield process
    finally:
        stop.set()
        await task


async def _tell(cfg: config.Config) -> None:
    """The month; a deployment, a mute and verdicts; the fault."""
    topic = cfg.inputs[0].topic
    month = list(read(str(TELEMETRY), "csv", Columns(), LABELS, CHUNK, Meter()))
    sent = await produce(cfg.kafka, topic, month)
    await _until(lambda: observe.count(cfg.clickhouse, "count()", "telemetry FINAL") >= sent.samples)
    fault = after_the_month()
    at_ms = int(fault.ts_ms[-1]) - (FAULT_MINUTES + 3) * 60_000
    change = Change(change_id="deploy/42", at_ms=at_ms, labels=LABELS, title="4.2", by="ci", mute_minutes=0)
    mute = Mute(
        command_id="picture", at_ms=at_ms, mute_id="backup", matcher='{service="bank"}', start_ms=at_ms,
        end_ms=at_ms + 3_600_000, repeat="FREQ=DAILY", by="ann", why="backup",
    )  # fmt: skip
    closed = await asyncio.to_thread(observe.query, cfg.clickhouse, _CLOSED)
    await commanding.tell(cfg, change)
    await commanding.send(cfg, [mute, *(_verdict(n, row) for n, row in enumerate(closed) if n % 3)])
    await produce(cfg.kafka, topic, [fault])
    told = _FAULT_TOLD.format(last_ms=int(fault.ts_ms[-1]))
    await _until(lambda: observe.query(cfg.clickhouse, told)[0]["done"])
    await asyncio.sleep(SCRAPED_S)


def _verdict(number: int, row: dict[str, Any]) -> Label:
    """Made up, for nobody has looked at them."""
    return Label(
        command_id=f"picture-{number}", at_ms=int(row["at"]) + 3_600_000, by="ann", why="for the picture",
        anomaly_id=row["anomaly_id"], series=row["series"],
        verdict="false" if row["peak_score"] < BARELY else ("true", "expected")[number % 2],
        started_ms=int(row["at"]), ended_ms=int(row["ended"]), detectors=row["detectors"],
    )  # fmt: skip


def after_the_month() -> Samples:
    """The same minutes of a week before, with a fault of the whole service that lasts."""
    found = {each.name: each for each in read_files([str(TELEMETRY)], Columns(), None, None)}
    part = slice(-WEEK, MINUTES - WEEK)
    ts_ms = next(iter(found.values())).ts_ms[part] + WEEK * 60_000
    values = np.column_stack([found[name].values[part] for name in FAULT])
    values[-FAULT_MINUTES:] *= list(FAULT.values())
    names = [canonical(name, LABELS) for name in FAULT]
    index = np.tile(np.arange(len(names)), MINUTES)
    return Samples(names, index, np.repeat(ts_ms, len(names)), values.ravel())


async def _until(what: Callable[[], Any]) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(OSError):  # the sink has made no tables yet
            if await asyncio.to_thread(what):
                return
        if time.monotonic() > until:
            raise TimeoutError("what was sent has not come through all parts")
        await asyncio.sleep(1)
