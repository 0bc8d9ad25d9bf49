"""`python -m bench.soak`: whether worker and sink grow in an hour of steady load; ends with 1 when they do.

A real broker, the real engine, one worker and one sink as processes of their own. Each minute their resident
memory is read. The slope is the median of the slopes between all pairs of readings (Theil and Sen), so that
a single jump, such as that of an allocator, is no trend; the first quarter, when caches fill, is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from bench import load
from bench.processes import WorkerProcess
from bench.sink import CpuMeter, sink_process
from schemas import config
from stream import topics
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.process import free_port

PARTITIONS: Final = 4
ROUND_S: Final = 2.0
"""Between two samples of a series: 2,000 samples a second in all."""

MOST_GROWTH: Final = 0.02
"""Share of its memory by which a process may grow in an hour; in a day it would be half as large again."""

START_TIMEOUT_S: Final = 300.0
MB: Final = 1e6
_ROWS: Final = re.compile(r'^tocsin_sink_rows_total\{table="telemetry"\} (\S+)$', re.MULTILINE)


class Reading(NamedTuple):
    """At one time."""

    hours: float
    worker_mb: float
    sink_mb: float
    sent: int
    scored: int
    stored: int


def slope(hours: list[float], values: list[float]) -> float:
    """The median of the slopes between all pairs, in units an hour; 0 for fewer than two readings."""
    pairs = itertools.combinations(zip(hours, values, strict=True), 2)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs]
    return median(slopes) if slopes else 0.0


def grown(readings: list[Reading]) -> dict[str, tuple[float, float]]:
    """By process: MB an hour, and as a share of its median."""
    late = readings[len(readings) // 4 :]
    hours = [reading.hours for reading in late]
    found = {}
    for name, values in (("worker", [r.worker_mb for r in late]), ("sink", [r.sink_mb for r in late])):
        rise_mb = slope(hours, values)
        found[name] = (rise_mb, rise_mb / median(values))
    return found


class Telemetry:
    """A sample of each series in `ROUND_S`, stamped with the time of sending, a spike in each round."""

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self.sent = 0

    async def run(self) -> None:
        producer = load.client(self._cfg.kafka.bootstrap_servers)
        await producer.start()
        try:
            loads = [
                load.Load(producer, self._cfg.inputs[0].topic, number, "columnar")
                for number in range(PARTITIONS)
            ]
            for each in itertools.cycle(loads):
                began = time.monotonic()
                now_ms = np.array([int(time.time() * 1000)])
                await each.rounds(now_ms, spike=True)
                self.sent += load.SERIES
                await asyncio.sleep(max(0.0, ROUND_S / PARTITIONS - (time.monotonic() - began)))
        finally:
            await producer.stop()


async def soak(cfg: config.Config, minutes: float, every_s: float) -> list[Reading]:
    """Readings, the first once both processes are at work."""
    await topics.ensure(cfg)
    telemetry = Telemetry(cfg)
    with WorkerProcess(cfg) as worker, sink_process(cfg) as sink:
        sending = asyncio.create_task(telemetry.run())
        try:
            await _begun(worker)
            readings: list[Reading] = []
            began, meter = time.monotonic(), CpuMeter(sink.pid)
            while (passed_s := time.monotonic() - began) < minutes * 60 + every_s / 2:
                progress, stored = worker.progress(), await asyncio.to_thread(_stored, cfg)
                if sending.done() or sink.poll() is not None or progress is None:
                    raise RuntimeError("something has ended")
                reading = Reading(
                    passed_s / 3600,
                    worker.rss_bytes() / MB,
                    meter.rss_bytes() / MB,
                    telemetry.sent,
                    progress.samples,
                    stored,
                )
                readings.append(reading)
                print(_told(reading), flush=True)
                await asyncio.sleep(max(0.0, len(readings) * every_s - (time.monotonic() - began)))
            return readings
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _begun(worker: WorkerProcess) -> None:
    """Wait for the first scores; in a fresh checkout kernels are compiled before."""
    began = time.monotonic()
    while (progress := await asyncio.to_thread(worker.progress)) is None or not progress.samples:
        if time.monotonic() - began > START_TIMEOUT_S:
            raise RuntimeError("the worker does not begin")
        await asyncio.sleep(1)


def _stored(cfg: config.Config) -> int:
    url = f"http://{cfg.metrics.host}:{cfg.metrics.sink_port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return sum(int(float(number)) for number in _ROWS.findall(response.read().decode()))
    except OSError:  # it is starting
        return 0


def _told(r: Reading) -> str:
    return (
        f"{r.hours * 60:>6.1f}{r.worker_mb:>12.1f}{r.sink_mb:>10.1f}{r.sent:>12}{r.scored:>12}{r.stored:>12}"
    )


def _configure(broker: LocalKafka, engine: LocalClickHouse, folder: Path) -> config.Config:
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=broker.bootstrap),
        inputs=[config.Input(topic="soak", partitions=PARTITIONS)],
        clickhouse=config.ClickHouse(host=engine.host, port=engine.port),
        metrics=config.Metrics(worker_port=free_port(), sink_port=free_port()),
        snapshots=config.Snapshots(url=str(folder / "snapshots")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every-s", type=float, default=60.0, help="between readings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(
        f"{'minute':>6}{'worker MB':>12}{'sink MB':>10}{'sent':>12}{'scored':>12}{'stored':>12}", flush=True
    )
    with (
        tempfile.TemporaryDirectory() as name,
        LocalKafka(Path(name) / "kafka") as broker,
        LocalClickHouse(Path(name) / "clickhouse") as engine,
    ):
        cfg = _configure(broker, engine, Path(name))
        readings = asyncio.run(soak(cfg, options.minutes, options.every_s))
    growth = grown(readings)
    if options.json:
        print(json.dumps({"readings": [r._asdict() for r in readings], "growth": growth}))
    for process, (rise_mb, share) in growth.items():
        print(f"{process}: {rise_mb:+.2f} MB an hour, {share:+.2%}")
    sys.exit(verdict(readings))


def verdict(readings: list[Reading]) -> str | int:
    """0, or what is wrong: a process grew, or lags behind what was sent."""
    last = readings[-1]
    for process, (_, share) in grown(readings).items():
        if share > MOST_GROWTH:
            return f"the {process} grows"
    if min(last.scored, last.stored) < 0.99 * last.sent:
        return "scores or rows lag behind"
    return 0


if __name__ == "__main__":
    main()
