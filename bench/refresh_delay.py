"""`python -m bench.refresh --delay`: what a refresh does to the delay of events, on one machine.

Everything is real: a broker, ClickHouse with a week of history of each series, one worker under a steady
load, a trainer. Windows alternate, so that other work on the machine concerns all of them alike:

- *quiet*: the trainer waits;
- *fitting*: models are asked for, fitted, published and adopted; each series once in all rounds together;
- *adopting*: as many models at once are published that are there already, so that nothing is fitted.

The delay goes from the time that a sample is stamped with to when a ``read_committed`` subscriber holds the
event, as in `bench.throughput`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from bench import load
from bench.processes import WorkerProcess
from detectors import registry
from detectors.batch import History, is_batch
from schemas import config
from schemas.artifact import ArtifactMessage
from schemas.event import AnomalyEvent
from schemas.request import Answer, Failed, Fitted, Refit, Trigger
from stream import kafka, logs, observe, topics
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.process import free_port
from stream.refresh import artifacts, trainer
from stream.store import history, migrations
from stream.store.clickhouse import Client

PARTITIONS: Final = 4
STEP_MS: Final = 300_000
SAMPLES: Final = 2016
"""A week by 5 minutes."""

END_MS: Final = int(time.time() * 1000) // STEP_MS * STEP_MS
"""When it ends: as this begins."""

LOADING: Final = 8
"""Fits before the first window, for the trainer's processes to load what they need. They are of series of
their own: a second fit of the same history gives the same model, which is not adopted again."""

DEADLINE_S: Final = 1800.0
"""For one window; a fit of Prophet takes half a second of CPU."""

START_S: Final = 300.0
"""For the processes to start; a first worker compiles, which takes minutes on a busy machine."""

WEIGHT: Final = 0.2
KINDS: Final = ("quiet", "fitting", "adopting")


class Plan(NamedTuple):
    """What is measured."""

    detector: str
    series: int
    rate: float  # samples a second
    rounds: int
    quiet_s: float


class Event(NamedTuple):
    """An anomaly that opened: when its sample was stamped, and how much later a subscriber had it."""

    at_ms: float
    delay_ms: float


class Window(NamedTuple):
    """``events`` are those of samples stamped between its begin and its end."""

    kind: str
    seconds: float
    delays_ms: list[float]


class Bench:
    """A worker under load, and what is done beside it."""

    def __init__(self, cfg: config.Config, plan: Plan, producer: Any, answers: Any) -> None:
        self._cfg, self._plan, self._producer, self._answers = cfg, plan, producer, answers
        names = series_names(LOADING + plan.series)
        self._loading, self._measured = names[:LOADING], names[LOADING:]
        self._made = _first_model(plan.detector)
        self._generation = self._asked = 0
        self.events: list[Event] = []

    async def round(self, number: int) -> AsyncIterator[Window]:
        """A window of each kind."""
        share = self._measured[number :: self._plan.rounds]
        yield await self._window("quiet", asyncio.sleep(self._plan.quiet_s))
        yield await self._window("fitting", self._fit(share))
        yield await self._window("adopting", self.publish(self._measured))

    async def _window(self, kind: str, work: Any) -> Window:
        began_ms = 1000 * time.time()
        await work
        ended_ms = 1000 * time.time()
        await asyncio.sleep(2.0)  # its last events arrive
        delays = [each.delay_ms for each in self.events if began_ms <= each.at_ms < ended_ms]
        return Window(kind, (ended_ms - began_ms) / 1000, delays)

    async def publish(self, names: Sequence[str]) -> None:
        """One model for these series, under a new id, until the worker has adopted it for each."""
        before, store = await self._adopted(), artifacts.store_of(self._cfg)
        self._generation += 1
        made = []
        for name in names:
            manifest = msgspec.structs.replace(
                self._made.manifest,
                series=name,
                artifact_id=f"{self._generation}-{history.series_id(name):x}",
                trained_to_ms=self._made.manifest.trained_to_ms + self._generation,
            )
            made.append(ArtifactMessage(manifest, self._made.payload))
        for message in made:  # as a trainer does
            await asyncio.to_thread(store.put, message)
            key = artifacts.key(message.manifest, serving=True)
            await self._producer.send(self._cfg.topics.artifacts.name, message.encode(), key=key)
        await self._until_adopted(before + len(made))

    async def begin(self) -> None:
        """Each series has a model, and the trainer has worked, when the first window begins."""
        await self.publish([*self._loading, *self._measured])
        await self._fit(self._loading)

    async def _fit(self, names: Sequence[str]) -> None:
        before = await self._adopted()
        for name in names:
            self._asked += 1
            asked = Refit(
                request_id=str(self._asked),
                detector=self._plan.detector,
                series=name,
                from_ms=0,
                until_ms=self._made.manifest.trained_to_ms,
                trigger=Trigger.AGE,
                adopt=True,
                serving=f"{self._generation}-{history.series_id(name):x}",
            )
            await self._producer.send(self._cfg.topics.requests.name, msgspec.msgpack.encode(asked))
        fitted = 0
        async with asyncio.timeout(DEADLINE_S):
            while fitted < len(names):
                for records in (await self._answers.getmany(timeout_ms=200)).values():
                    for record in records:
                        answer = msgspec.msgpack.decode(record.value, type=Answer)
                        if isinstance(answer, Failed):
                            raise RuntimeError(f"{answer.series}: {answer.text}")  # noqa: TRY004
                        fitted += isinstance(answer, Fitted)
        await self._until_adopted(before + len(names))

    async def _until_adopted(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self._adopted() < count:  # noqa: ASYNC110  # another process counts
                await asyncio.sleep(0.2)

    async def _adopted(self) -> int:
        url = f"http://{self._cfg.metrics.host}:{self._cfg.metrics.worker_port}/metrics"
        return int(await asyncio.to_thread(observe.total, url, "tocsin_artifacts_adopted_total"))


def series_names(count: int) -> list[str]:
    """As `bench.load` calls them, evenly of all partitions."""
    return [
        f'cpu_seconds{{host="host-{i % PARTITIONS:02}-{i // PARTITIONS:04}",region="eu"}}'
        for i in range(count)
    ]


def _week(seed: int) -> tuple[Any, Any]:
    """Times and values, as `bench.load` sends them: models of anything else would alert all the time."""
    values = np.random.default_rng(seed).normal(10.0, 1.0, SAMPLES)
    return END_MS - STEP_MS * (SAMPLES - np.arange(SAMPLES)), values


def _first_model(detector: str) -> ArtifactMessage:
    kind = registry.load(detector)
    if not is_batch(kind):
        raise ValueError(f"{detector} is not fitted")
    ts_ms, values = _week(0)
    past = History(ts_ms, values[:, None])
    return artifacts.packed(kind, {}, "-", past, 1, kind.fit({}, past, 1), {})


def _store_history(cfg: config.Config, names: Sequence[str]) -> None:
    client = Client.connect(cfg.clickhouse, create=True)
    migrations.apply(client, cfg.clickhouse)
    nothing = pa.array(np.full(SAMPLES, np.nan, np.float32))
    for seed, name in enumerate(names):
        ts_ms, values = _week(seed)
        columns = {
            "series_id": pa.array(np.full(SAMPLES, history.series_id(name), np.uint64)),
            "ts": pa.array(ts_ms, pa.timestamp("ms", "UTC")),
            "value": pa.array(values, pa.float64()),
            **dict.fromkeys(("score", "level", "expected", "lower", "upper"), nothing),
            **dict.fromkeys(("state", "alert"), pa.array(np.zeros(SAMPLES, np.uint8))),
        }
        client.insert("telemetry", pa.table(columns))
    client.command("OPTIMIZE TABLE telemetry FINAL")
    client.close()


def configure(bootstrap: str, clickhouse: config.ClickHouse, folder: Path, plan: Plan) -> config.Config:
    """The defaults, with the detector that is fitted beside them."""
    model = config.DetectorConfig(name=plan.detector, weight=WEIGHT)
    return config.Config(
        kafka=config.Kafka(bootstrap_servers=bootstrap),
        inputs=[config.Input(topic="telemetry", partitions=PARTITIONS)],
        clickhouse=clickhouse,
        engine=config.Engine(detectors=[*config.Engine().detectors, model]),
        snapshots=config.Snapshots(url=str(folder / "snapshots")),
        metrics=config.Metrics(worker_port=free_port(), trainer_port=free_port()),
        log=config.Log(level="warning"),
    )


@asynccontextmanager
async def _running(cfg: config.Config, plan: Plan) -> AsyncIterator[Bench]:
    """Everything started and under load."""
    await topics.ensure(cfg)
    spawn = multiprocessing.get_context("spawn")
    sending = (cfg.kafka.bootstrap_servers, "telemetry", PARTITIONS, "columnar", plan.rate, 1e9)
    helpers = [
        spawn.Process(target=load.run_steady, args=sending),
        spawn.Process(target=_train, args=(cfg,)),
    ]
    producer = kafka.producer(cfg.kafka)
    answers = kafka.consumer(cfg.kafka, cfg.topics.results.name)
    subscriber = kafka.consumer(cfg.kafka, cfg.topics.anomalies.name, fetch_max_wait_ms=50)
    with WorkerProcess(cfg) as worker:
        await worker.wait_for_samples(0)
        for client in (producer, answers, subscriber):
            await client.start()
        for helper in helpers:
            helper.start()
        bench = Bench(cfg, plan, producer, answers)
        listening = asyncio.create_task(_listen(subscriber, bench.events))
        try:
            await _begun(worker)
            yield bench
        finally:
            listening.cancel()
            for helper in helpers:
                helper.terminate()
                helper.join()
            await kafka.stop(producer, answers, subscriber)


def _train(cfg: config.Config) -> None:
    logs.configure(cfg.log, "trainer")
    trainer.main(cfg)


async def _begun(worker: WorkerProcess) -> None:
    """Until the worker has had what the load begins with, and more."""
    async with asyncio.timeout(START_S):
        while True:
            now = await asyncio.to_thread(worker.progress)
            if now is not None and now.samples > PARTITIONS * load.SERIES * (load.WARM_ROUNDS + 10):
                return
            await asyncio.sleep(0.5)


async def _listen(subscriber: Any, events: list[Event]) -> None:
    while True:
        for records in (await subscriber.getmany(timeout_ms=200)).values():
            now_ms = time.time() * 1000
            for record in records:
                event = msgspec.json.decode(record.value, type=AnomalyEvent)
                if event.status == "open":
                    events.append(Event(event.detected_ms, now_ms - event.detected_ms))


async def _measure(cfg: config.Config, plan: Plan) -> list[Window]:
    windows = []
    async with _running(cfg, plan) as bench:
        await bench.begin()
        for number in range(plan.rounds):
            async for window in bench.round(number):
                windows.append(window)
                print(_row(f"{number + 1}, {window.kind}", [window]), flush=True)
    return windows


def _row(title: str, windows: Sequence[Window]) -> str:
    delays = [delay for window in windows for delay in window.delays_ms]
    p50, p99 = np.percentile(delays, [50, 99]).tolist()
    seconds = sum(window.seconds for window in windows)
    return f"| {title} | {seconds:.0f} | {len(delays)} | {p50:.0f} | {p99:.0f} |"


def ratio(windows: Sequence[Window], kind: str) -> float:
    """The p99 of all windows of a kind, by that of the quiet ones."""

    def p99(wanted: str) -> float:
        found = [delay for window in windows if window.kind == wanted for delay in window.delays_ms]
        return float(np.percentile(found, 99))

    return p99(kind) / p99("quiet")


def _lines(windows: Sequence[Window]) -> Iterator[str]:
    for kind in KINDS:
        mine = [window for window in windows if window.kind == kind]
        yield f"{_row(kind, mine)} {ratio(windows, kind):.2f} |"


def measure(plan: Plan) -> str:
    """The table, as Markdown."""
    print(f"{plan}\n| window | seconds | events | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- |")
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalKafka(Path(folder) / "kafka") as broker,
        LocalClickHouse(Path(folder) / "clickhouse") as server,
    ):
        address = config.ClickHouse(host=server.host, port=server.port)
        cfg = configure(broker.bootstrap, address, Path(folder), plan)
        logs.configure(cfg.log, "bench")
        _store_history(cfg, series_names(LOADING + plan.series))
        windows = asyncio.run(_measure(cfg, plan))
    titles = "| window | seconds | events | p50 ms | p99 ms | p99, by that of quiet |"
    return "\n".join([titles, "| --- | --- | --- | --- | --- | --- |", *_lines(windows)])
