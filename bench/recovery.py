"""`python -m bench.recovery`: seconds without scores after kill -9 of a worker, by session timeout.

Two workers share four partitions, so each has ``--series``. One is killed; what counts is the time until
each of its partitions has committed scores of a sample sent after the kill. Telemetry goes on all the
time, one sample of each series in ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from bench.load import client
from bench.processes import WorkerProcess
from schemas import config
from stream import kafka, topics
from stream.formats.columnar import encode_columnar
from stream.kafka import TopicPartition
from stream.local.broker import LocalKafka
from stream.local.process import free_port

PARTITIONS: Final = 4
PER_MESSAGE: Final = 2500
ROUND_S: Final = 10.0
WARM_ROUNDS: Final = 30
DEADLINE_S: Final = 240.0

_STATE: Final = re.compile(
    r'^tocsin_partition_state\{partition="(\d+)",state="(\w+)",topic=".*"\} 1', re.MULTILINE
)
_SAVED: Final = re.compile(r'^tocsin_snapshot_timestamp_seconds\{partition="(\d+)"', re.MULTILINE)
_DELAY: Final = re.compile(r'^tocsin_snapshot_seconds_(sum|count)\{step="delay"\} (\S+)', re.MULTILINE)


class Result(msgspec.Struct):
    """One kill."""

    session_timeout_s: float
    series: int  # of the dead worker
    noticed_s: float  # until the other worker had its partitions
    running_s: float  # until they ran: fenced, restored, replayed
    scored_s: float  # until they had committed new scores


class Telemetry:
    """Sends rounds: a sample of each series of each partition."""

    def __init__(self, cfg: config.Config, series: int) -> None:
        self._cfg, self._series = cfg, series
        self._row = 0

    async def run(self) -> None:
        """Warm up at once, then a round in `ROUND_S`, message by message, until it is cancelled."""
        producer = client(self._cfg.kafka.bootstrap_servers)
        await producer.start()
        try:
            for _ in range(WARM_ROUNDS):
                await self._round(producer, 0.0)
            while True:
                await self._round(producer, ROUND_S * PER_MESSAGE / self._series)
        finally:
            await producer.stop()

    async def _round(self, producer: Any, pause_s: float) -> None:
        ts_ms = 1_716_000_000_000 + self._row * 10_000
        self._row += 1
        for first in range(0, self._series, PER_MESSAGE):
            began = time.monotonic()
            count = min(PER_MESSAGE, self._series - first)
            values = np.random.default_rng(self._row).normal(10, 1, count)
            for partition in range(PARTITIONS):
                names = [f'cpu{{host="{partition}-{i:06}"}}' for i in range(first, first + count)]
                message = encode_columnar(names, np.arange(count), np.full(count, ts_ms), values)
                await producer.send(self._cfg.inputs[0].topic, value=message, partition=partition)
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - began)))


class Member:
    """A worker and what its metrics say of its partitions."""

    def __init__(self, cfg: config.Config) -> None:
        metrics = msgspec.structs.replace(cfg.metrics, worker_port=free_port())
        self.process = WorkerProcess(msgspec.structs.replace(cfg, metrics=metrics))
        self._url = f"http://{metrics.host}:{metrics.worker_port}/metrics"

    async def page(self) -> str:
        return await asyncio.to_thread(_read, self._url)

    async def states(self) -> dict[int, str]:
        return {int(number): state for number, state in _STATE.findall(await self.page())}


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            text: str = reply.read().decode()
            return text
    except OSError:
        return ""


async def measure(bootstrap: str, folder: Path, session_s: float, series: int) -> tuple[Result, float]:
    """One kill, and the mean time in ms by which a snapshot delayed its batch."""
    cfg = _configure(bootstrap, folder, session_s)
    await topics.ensure(cfg)
    sending = asyncio.create_task(Telemetry(cfg, series * 2 // PARTITIONS).run())
    with ExitStack() as stack:
        dead, other = Member(cfg), Member(cfg)
        try:
            stack.enter_context(dead.process)
            stack.enter_context(other.process)
            mine = await _settled(dead, other)
            await _caught_up(cfg, list(range(PARTITIONS)))
            delay_ms = _mean_delay_ms(await other.page())
            result = await _kill(cfg, dead, other, mine)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    return msgspec.structs.replace(result, session_timeout_s=session_s, series=series), delay_ms


def _configure(bootstrap: str, folder: Path, session_s: float) -> config.Config:
    name = f"recovery-{session_s:.0f}"
    anomalies, scores, dead, entries = (
        config.Topic(name=f"{name}.{kind}", partitions=4, retention_ms=3_600_000)
        for kind in ("anomalies", "scores", "deadletters", "journal")
    )
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=bootstrap),
        inputs=[config.Input(topic=name, partitions=PARTITIONS)],
        topics=config.Topics(anomalies=anomalies, scores=scores, deadletters=dead, journal=entries),
        worker=config.Worker(group_id=f"{name}-worker", session_timeout_ms=int(session_s * 1000)),
        snapshots=config.Snapshots(url=str(folder / name), every_ms=20_000),
    )


async def _settled(dead: Member, other: Member) -> list[int]:
    """Wait until each worker runs half of the partitions and has a snapshot of each; those of the first."""
    began = time.monotonic()
    while time.monotonic() - began < DEADLINE_S:
        pages = [await dead.page(), await other.page()]
        running = [{p for p, state in _STATE.findall(page) if state == "running"} for page in pages]
        saved = [set(_SAVED.findall(page)) for page in pages]
        if all(len(r) == PARTITIONS // 2 and r <= s for r, s in zip(running, saved, strict=True)):
            return [int(number) for number in running[0]]
        await asyncio.sleep(0.5)
    raise RuntimeError("the workers did not settle")


async def _kill(cfg: config.Config, dead: Member, other: Member, lost: list[int]) -> Result:
    began = time.monotonic()
    dead.process.kill()
    scored = asyncio.create_task(_caught_up(cfg, lost))
    noticed_s = running_s = 0.0
    while not running_s:
        states = await other.states()
        if not noticed_s and set(lost) <= set(states):
            noticed_s = time.monotonic() - began
        if noticed_s and all(states.get(number) == "running" for number in lost):
            running_s = time.monotonic() - began
        await asyncio.sleep(0.05)
    await scored
    return Result(0.0, 0, noticed_s, running_s, time.monotonic() - began)


async def _caught_up(cfg: config.Config, numbers: list[int]) -> None:
    """Wait until these partitions have committed what their topic holds now, and one message more."""
    began, topic = time.monotonic(), cfg.inputs[0].topic
    consumer = kafka.consumer(cfg.kafka, group_id=cfg.worker.group_id)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in numbers])
        left = set(consumer.assignment())
        ends = await consumer.end_offsets(left)
        while left:
            if time.monotonic() - began > DEADLINE_S:
                raise RuntimeError(f"{left} stand still")
            left = {key for key in left if (await consumer.committed(key) or 0) <= ends[key]}
            await asyncio.sleep(0.02)
    finally:
        await consumer.stop()


def _mean_delay_ms(page: str) -> float:
    found = {kind: float(number) for kind, number in _DELAY.findall(page)}
    return 1000 * found["sum"] / found["count"]


async def _all(bootstrap: str, folder: Path, sessions_s: list[float], series: int) -> list[Any]:
    return [await measure(bootstrap, folder, session_s, series) for session_s in sessions_s]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000, help="of each worker")
    parser.add_argument("--session-s", type=float, nargs="*", default=[6.0, 30.0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, LocalKafka(Path(name) / "kafka") as broker:
        found = asyncio.run(_all(broker.bootstrap, Path(name), options.session_s, options.series))
    if options.json:
        print(json.dumps([{**msgspec.to_builtins(r), "snapshot_delay_ms": ms} for r, ms in found]))
        return
    names = ("session s", "series", "noticed s", "running s", "scored s", "snapshot late ms")
    print("  ".join(names))
    for r, ms in found:
        times_s = (f"{each:.1f}" for each in (r.noticed_s, r.running_s, r.scored_s))
        told = (f"{r.session_timeout_s:.0f}", str(r.series), *times_s, f"{ms:.0f}")
        print("  ".join(text.rjust(len(name)) for text, name in zip(told, names, strict=True)))


if __name__ == "__main__":
    main()
