"""`python -m bench.throughput`: samples a second through one worker, delay of events, bytes a series.

Everything is real and on this machine: a broker, a producer process, one worker process with the scores
topic on, a subscriber. The backlog is sent before the worker starts, so that what is measured is the worker
beside the broker. The delay is taken at half of the load that is to be reached (`TARGETS`), from the time a
sample is stamped with to the time a `read_committed` subscriber holds the event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench import faust_agent, load
from bench.memory import bytes_per_series
from bench.processes import WorkerProcess
from schemas import config
from schemas.event import AnomalyEvent
from stream import kafka, topics
from stream.local.broker import LocalKafka
from stream.local.process import free_port

TARGETS: Final[dict[load.Format, float]] = {"json": 100_000, "columnar": 1_000_000}
PARTITIONS: Final = 4
Delivery = Literal["exactly_once", "at_least_once"]


class Result(msgspec.Struct):
    """What was measured for one way in."""

    name: str
    samples: int
    samples_per_s: float
    samples_per_cpu_s: float
    cores: float
    rss_mb: float = 0.0
    delay_load_per_s: float | None = None
    delay_p50_ms: float | None = None
    delay_p99_ms: float | None = None
    events: int | None = None


def configure(bootstrap: str, topic: str, delivery: Delivery) -> config.Config:
    """The defaults, with topics and a group of its own."""
    anomalies, scores, dead = (
        config.Topic(name=f"{topic}.{name}", partitions=4, retention_ms=3_600_000)
        for name in ("anomalies", "scores", "deadletters")
    )
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=bootstrap),
        inputs=[config.Input(topic=topic, partitions=PARTITIONS)],
        topics=config.Topics(anomalies=anomalies, scores=scores, deadletters=dead),
        worker=config.Worker(group_id=f"{topic}-worker", delivery=delivery),
        metrics=config.Metrics(worker_port=free_port()),
    )


async def backlog(
    bootstrap: str, form: load.Format, samples: int, delivery: Delivery = "exactly_once"
) -> Result:
    """How fast a worker works off a backlog: between a tenth and all of it."""
    cfg = configure(bootstrap, f"backlog-{form}-{delivery}", delivery)
    await topics.ensure(cfg)
    total = await load.preload(bootstrap, cfg.inputs[0].topic, PARTITIONS, form, samples)
    with WorkerProcess(cfg) as worker:
        first = await worker.wait_for_samples(total // 10)
        last = await worker.wait_for_samples(total)
        rss_mb = worker.rss_bytes() / 1e6
    done = last.samples - first.samples
    wall_s, cpu_s = last.at_s - first.at_s, last.cpu_s - first.cpu_s
    return Result(form, total, done / wall_s, done / cpu_s, cpu_s / wall_s, rss_mb)


async def delay(
    bootstrap: str,
    form: load.Format,
    seconds: float,
    result: Result,
    *,
    rate: float,
    delivery: Delivery = "exactly_once",
) -> None:
    """Add the delay of events at a steady ``rate`` of samples a second."""
    cfg = configure(bootstrap, f"delay-{form}-{delivery}", delivery)
    await topics.ensure(cfg)
    topic = cfg.inputs[0].topic
    with WorkerProcess(cfg) as worker:
        await worker.wait_for_samples(0)
        subscriber = kafka.consumer(cfg.kafka, cfg.topics.anomalies.name, fetch_max_wait_ms=50)
        await subscriber.start()
        arguments = (bootstrap, topic, PARTITIONS, form, rate, seconds)
        producer = multiprocessing.get_context("spawn").Process(target=load.run_steady, args=arguments)
        producer.start()
        delays = await listen(subscriber, producer)
        await subscriber.stop()
        producer.join()
    result.delay_load_per_s, result.events = rate, len(delays)
    if delays:
        result.delay_p50_ms, result.delay_p99_ms = np.percentile(delays, [50, 99]).tolist()


async def listen(subscriber: Any, producer: Any) -> list[float]:
    """Milliseconds from the stamp of a sample to its open event, until the producer has ended."""
    delays: list[float] = []
    ended = 0.0
    while not ended or time.monotonic() - ended < 3.0:
        for records in (await subscriber.getmany(timeout_ms=200)).values():
            now_ms = time.time() * 1000
            events = [msgspec.json.decode(record.value, type=AnomalyEvent) for record in records]
            delays += [now_ms - event.detected_ms for event in events if event.status == "open"]
        if not ended and not producer.is_alive():
            ended = time.monotonic()
    return delays


async def measure(bootstrap: str, scale: float, seconds: float) -> list[Result]:
    results = []
    for form, target in TARGETS.items():
        result = await backlog(bootstrap, form, int(target * 15 * scale))
        await delay(bootstrap, form, seconds, result, rate=target / 2)
        results.append(result)
    topic = "faust"
    cfg = configure(bootstrap, topic, "exactly_once")
    await topics.ensure(cfg)
    total = await load.preload(bootstrap, topic, PARTITIONS, "json", int(200_000 * scale))
    measured = await asyncio.to_thread(faust_agent.measure, bootstrap, topic, total)
    results.append(Result("faust, json", total, *measured))
    return results


def show(results: list[Result], memory: dict[str, float]) -> None:
    table = Table(
        title="One worker process, scores topic on",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for column in ("input", "samples/s", "per CPU s", "cores", "load/s", "p50 ms", "p99 ms", "events"):
        table.add_column(column, justify="left" if column == "input" else "right", no_wrap=True)
    for r in results:
        numbers = (r.delay_load_per_s, r.delay_p50_ms, r.delay_p99_ms, r.events)
        cells = ("" if n is None else f"{n:,.0f}" for n in numbers)
        table.add_row(
            r.name, f"{r.samples_per_s:,.0f}", f"{r.samples_per_cpu_s:,.0f}", f"{r.cores:.2f}", *cells
        )
    console = Console()
    console.print(table)
    console.print(", ".join(f"{name} {value:,.0f}" for name, value in memory.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the backlog")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steady load for the delay")
    args = parser.parse_args()
    memory = bytes_per_series()
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder)) as broker:
        results = asyncio.run(measure(broker.bootstrap, args.scale, args.seconds))
    show(results, memory)
    if args.json:
        print(json.dumps({"results": msgspec.to_builtins(results), **memory}))


if __name__ == "__main__":
    main()
