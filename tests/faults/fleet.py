"""Workers as processes, and telemetry that does not stop while they are hurt."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from schemas import config
from stream import kafka as clients
from stream.formats.json_point import encode_point
from stream.kafka import KafkaError, TopicPartition
from tests.faults import doomed, member

STOP_TIMEOUT_S = 20.0
DOOM_TIMEOUT_S = 180.0  # it starts first, on a busy machine for a minute
EXPLAIN_AFTER_S, STANDSTILL_S = 40.0, 90.0
START_S = 300.0  # a fresh checkout compiles kernels
START_MS, STEP_MS = 1_700_000_000_000, 60_000


class Fleet:
    """Worker processes of one group, with one log."""

    def __init__(self, cfg: config.Config, log: Path, program: str = member.PROGRAM) -> None:
        self._cfg, self._program = cfg, program
        self._log = log.open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            self.workers.append(self._start(self._program))

    async def doom(self, point: str, count: int) -> bool:
        """Start a worker that kills itself at a point (`doomed.POINTS`) and wait for it; whether it did."""
        worker = self._start(doomed.PROGRAM, point, str(count))
        self.workers.append(worker)
        try:
            await asyncio.to_thread(worker.wait, DOOM_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # it has no partition, or came to no snapshot
            self.kill(worker)
            return False
        self.workers.remove(worker)
        return worker.returncode == -signal.SIGKILL

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", program, *arguments]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log)
        assert worker.stdin is not None
        worker.stdin.write(msgspec.json.encode(self._cfg))
        worker.stdin.close()
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        self.workers.remove(worker)
        worker.kill()
        worker.wait()

    async def stop(self, worker: subprocess.Popen[bytes]) -> None:
        """As an orchestrator would: SIGTERM, and SIGKILL at the deadline."""
        self.workers.remove(worker)
        worker.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(worker.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()

    def explain(self) -> None:
        """Have each worker write to the log what its tasks wait for (`member.talk`)."""
        for worker in self.workers:
            worker.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        for worker in list(self.workers):
            self.kill(worker)
        self._log.close()


class Load:
    """Sends transactions of points, about one in ten aborted, until it is stopped.

    What was in doubt when the broker died may be there or not: the reference is what the topic holds.
    """

    def __init__(self, cfg: config.Config, chance: random.Random, name: str) -> None:
        self._cfg, self._chance, self._name = cfg, chance, name
        self._stop = asyncio.Event()
        self.row = 0
        self.aborted = 0

    async def run(self) -> None:
        while not self._stop.is_set():
            client = clients.producer(self._cfg.kafka, transactional_id=self._name, retry_backoff_ms=20)
            try:
                async with asyncio.timeout(60):
                    await client.start()
                while not self._stop.is_set():
                    async with asyncio.timeout(30):
                        await self._transaction(client)
                    await asyncio.sleep(0.03)
            except (KafkaError, TimeoutError, AssertionError):
                await asyncio.sleep(0.2)
            finally:
                await _close(client)

    async def finish(self) -> None:
        self._stop.set()

    async def _transaction(self, client: Any) -> None:
        source, abort = self._cfg.inputs[0], self._chance.random() < 0.1
        await client.begin_transaction()
        for host in range(source.partitions * 4):
            value = 5000.0 if self._chance.random() < 0.004 else self._chance.gauss(10, 1)
            point = encode_point("load", {"host": str(host)}, START_MS + self.row * STEP_MS, value)
            await client.send(source.topic, value=point, partition=host % source.partitions)
        if abort:
            await client.flush()
            await client.abort_transaction()
            self.aborted += 1
        else:
            await client.commit_transaction()
            self.row += 1


async def _close(client: Any) -> None:
    try:
        async with asyncio.timeout(5):
            await client.stop()
    except (KafkaError, TimeoutError, AssertionError, asyncio.CancelledError):
        pass


async def recovered(cfg: config.Config, fleet: Fleet, deadline_s: float = STANDSTILL_S) -> float:
    """Seconds until each partition has been committed beyond its end at the time of the call.

    Telemetry must go on meanwhile: the last offsets of a quiet topic are markers that nobody commits.
    """
    began, explained = time.monotonic(), False
    source = cfg.inputs[0]
    places = [TopicPartition(source.topic, number) for number in range(source.partitions)]
    client = clients.consumer(cfg.kafka, group_id=cfg.worker.group_id)
    await client.start()
    try:
        client.assign(places)
        left = set(client.assignment())
        ends = await client.end_offsets(left)
        while left:
            passed_s = time.monotonic() - began
            if passed_s > EXPLAIN_AFTER_S and not explained:
                explained = True
                fleet.explain()
            assert passed_s < deadline_s, f"{left} stand still"
            for key in list(left):
                if (await client.committed(key) or 0) > ends[key]:
                    left.discard(key)
            await asyncio.sleep(0.05)
    finally:
        await client.stop()
    return time.monotonic() - began
