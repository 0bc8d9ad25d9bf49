"""Telemetry made up for measuring: messages of known series, with spikes planted at known places."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from schemas import config
from stream import kafka
from stream.formats.columnar import encode_columnar
from stream.formats.json_point import encode_point

Format = Literal["json", "columnar"]

SERIES: Final = 1000
"""In each partition."""

SAMPLES_PER_MESSAGE: Final[dict[Format, int]] = {"json": 1, "columnar": 5000}
WARM_ROUNDS: Final = 100
SPIKE_EVERY_S: Final = 0.02


class Load:
    """Sends rounds to one partition: a round is one sample of each of its series."""

    def __init__(self, client: Any, topic: str, partition: int, form: Format) -> None:
        self._client, self._topic, self._partition, self._form = client, topic, partition, form
        self._rng = np.random.default_rng(partition)
        self._labels = [{"host": f"host-{partition:02}-{i:04}", "region": "eu"} for i in range(SERIES)]
        self._names = [f'cpu_seconds{{host="{x["host"]}",region="eu"}}' for x in self._labels]
        self._spikes = 0

    async def rounds(self, times_ms: NDArray[np.int64], spike: bool = False) -> int:
        """Send a round for each of the times; with ``spike``, one series jumps. Returns the samples sent."""
        values = self._rng.normal(10.0, 1.0, (len(times_ms), SERIES))
        if spike:
            # A series rests long enough between its spikes to be quiet again.
            values[-1, self._spikes * 7 % SERIES] = 1e6
            self._spikes += 1
        times = np.repeat(times_ms, SERIES)
        if self._form == "columnar":
            await self._columns(times, values.ravel())
        else:
            await self._points(times, values.ravel())
        return len(times)

    async def _points(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        labels, encode = self._labels, encode_point
        batch = self._client.create_batch()
        pairs = zip(times.tolist(), values.tolist(), strict=True)
        for i, (ts_ms, value) in enumerate(pairs):
            message = encode("cpu_seconds", labels[i % SERIES], ts_ms, value)
            if batch.append(key=None, value=message, timestamp=None) is None:
                await self._client.send_batch(batch, self._topic, partition=self._partition)
                batch = self._client.create_batch()
                batch.append(key=None, value=message, timestamp=None)
        await self._client.send_batch(batch, self._topic, partition=self._partition)

    async def _columns(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        index = np.tile(np.arange(SERIES), len(times) // SERIES)
        for start in range(0, len(times), SAMPLES_PER_MESSAGE["columnar"]):
            part = slice(start, start + SAMPLES_PER_MESSAGE["columnar"])
            message = encode_columnar(self._names, index[part], times[part], values[part])
            await self._client.send(self._topic, value=message, partition=self._partition)


def client(bootstrap: str) -> Any:
    return kafka.producer(
        config.Kafka(bootstrap_servers=bootstrap), max_batch_size=900_000, linger_ms=0, acks="all"
    )


async def preload(bootstrap: str, topic: str, partitions: int, form: Format, samples: int) -> int:
    """Fill a topic evenly with about so many samples, a second apart; returns how many."""
    producer = client(bootstrap)
    await producer.start()
    loads = [Load(producer, topic, p, form) for p in range(partitions)]
    rounds, sent, block = max(1, samples // SERIES // partitions), 0, 20
    first_ms = int(time.time() * 1000) - rounds * 1000
    for start in range(0, rounds, block):
        times_ms = first_ms + np.arange(start, min(start + block, rounds)) * 1000
        for load in loads:
            sent += await load.rounds(times_ms)
    await producer.stop()
    return sent


async def steady(
    bootstrap: str, topic: str, partitions: int, form: Format, rate: float, seconds: float
) -> int:
    """Send ``rate`` samples a second, stamped with the time of sending, spikes among them."""
    producer = client(bootstrap)
    await producer.start()
    loads = [Load(producer, topic, p, form) for p in range(partitions)]
    for load in loads:
        before_ms = int(time.time() * 1000) - 1000 * np.arange(WARM_ROUNDS, 0, -1)
        await load.rounds(before_ms)
    await asyncio.sleep(5)  # for the worker to catch up
    rounds_at_once = SAMPLES_PER_MESSAGE[form] // SERIES or 1
    step_s = rounds_at_once * SERIES / rate
    sent, turn, spiked = 0, 0, 0.0
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        due = turn * step_s
        if due > elapsed:
            await asyncio.sleep(due - elapsed)
        now = time.time()
        spike = now - spiked > SPIKE_EVERY_S
        spiked = now if spike else spiked
        now_ms = np.full(rounds_at_once, int(now * 1000)) - np.arange(rounds_at_once - 1, -1, -1)
        sent += await loads[turn % partitions].rounds(now_ms, spike)
        turn += 1
    await producer.stop()
    return sent


def run_steady(
    bootstrap: str, topic: str, partitions: int, form: Format, rate: float, seconds: float
) -> None:
    """`steady`, as the target of a process."""
    asyncio.run(steady(bootstrap, topic, partitions, form, rate, seconds))
