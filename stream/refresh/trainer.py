"""`tocsin trainer`: fits models on request, in processes of their own, and publishes them.

A member of the consumer group of `tocsin.requests`. The offset of a request is committed once its answer has
been sent: a trainer that is killed leaves its requests to the next one, which does them again. The second
artifact of a request replaces the first one, and is equal to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
import structlog

from schemas import config
from schemas.artifact import ArtifactMessage
from schemas.request import (
    Answer,
    Cancel,
    Failed,
    Failure,
    Find,
    Fitted,
    FoundOut,
    NotFound,
    Progress,
    Refit,
    Request,
)
from stream import kafka, topics
from stream import metrics as m
from stream.errors import UserError
from stream.kafka import KafkaError, Record
from stream.refresh.artifacts import key, store_of
from stream.refresh.crew import Crew
from stream.refresh.jobs import Answered, Done, NotDone
from stream.running import until_signal

log = structlog.get_logger(__name__)

NO_POLL_LIMIT_MS: Final = 2**31 - 1
"""A fit may take hours, and nothing is fetched while all processes are busy; a dead trainer still loses its
session."""

AHEAD: Final = 128
"""Requests that may be taken and not answered, beside the refits that a coordinator asks for at once: with
fewer, a question or a cancellation behind them is heard later. Another trainer has partitions of its own, so
what is taken here is not taken from it."""

FETCH_MS: Final = 500
OFFSETS_TIMEOUT_S: Final = 10.0
"""For committing an offset; one that is not committed costs a repeated fit."""

_decode = msgspec.msgpack.Decoder(Request).decode
_encode = msgspec.msgpack.encode


class Trainer:
    """One member of the group. ``metrics_url`` is known once `run` has called ``started``."""

    def __init__(self, cfg: config.Config) -> None:
        if not cfg.clickhouse.enabled:
            raise UserError("clickhouse.enabled is false, so there is no history to fit models on")
        if cfg.clickhouse.dsn.startswith("chdb:"):
            raise UserError(
                "clickhouse.dsn opens the engine in one process; each fit is a process: set clickhouse.host"
            )
        self._cfg = cfg
        self._metrics = m.Metrics("trainer")
        self._store = store_of(cfg)
        self._crew = Crew(cfg, self._metrics, self._begun)
        self._ahead = cfg.refresh.max_waiting + AHEAD
        self._running: dict[asyncio.Task[None], tuple[Any, int]] = {}  # partition and offset
        self._by_id: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._position: dict[Any, int] = {}  # the offset after the newest one taken
        self.metrics_url = ""

    async def run(self, stop: asyncio.Event, started: Callable[[Trainer], None] | None = None) -> None:
        """Work until ``stop`` is set; fits under way are given up, and done by the next trainer."""
        await topics.ensure(self._cfg)
        endpoint = m.Endpoint(self._metrics, self._cfg.metrics.host, self._cfg.metrics.trainer_port)
        self._producer = kafka.producer(self._cfg.kafka)
        self._client = kafka.consumer(
            self._cfg.kafka, group_id=self._cfg.trainer.group_id, max_poll_interval_ms=NO_POLL_LIMIT_MS
        )
        kafka.subscribe(self._client, [self._cfg.topics.requests.name], self._revoked)
        try:
            await self._crew.start()
            await self._producer.start()
            await self._client.start()
            self.metrics_url = endpoint.url
            log.info("trainer started", metrics=endpoint.url, processes=self._cfg.trainer.processes)
            if started is not None:
                started(self)
            while not stop.is_set():
                await self._step(stop)
        finally:
            await self._give_up()
            await self._crew.stop()
            await kafka.stop(self._client, self._producer)
            endpoint.close()
            log.info("trainer stopped")

    async def _step(self, stop: asyncio.Event) -> None:
        """Take requests; those beyond the processes wait, so that their cancellation is heard."""
        if len(self._running) >= self._ahead:
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([stopping, *self._running], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            await self._reap()
            return
        batches = await self._client.getmany(
            timeout_ms=FETCH_MS, max_records=self._ahead - len(self._running)
        )
        for partition, records in batches.items():
            for record in records:
                self._position[partition] = record.offset + 1
                await self._take(partition, record)
        await self._reap()

    async def _take(self, partition: Any, record: Record) -> None:
        try:
            asked = _decode(record.value or b"")
        except msgspec.MsgspecError as error:
            log.warning("request skipped: not one of ours", offset=record.offset, cause=str(error))
            await self._commit(partition)
            return
        if isinstance(asked, Cancel):
            self._cancel(asked.request_id)
            await self._commit(partition)
            return
        task = asyncio.create_task(self._serve(asked))
        self._running[task] = (partition, record.offset)
        self._by_id[asked.request_id] = task
        task.add_done_callback(lambda _: self._by_id.pop(asked.request_id, None))
        await asyncio.sleep(0)  # it begins: a task that is cancelled before never answers

    def _cancel(self, request_id: str) -> None:
        """Requests and their cancellations have one key, so they come in order."""
        if request_id in self._by_id:
            self._cancelled.add(request_id)
            self._by_id[request_id].cancel()

    async def _serve(self, asked: Refit | Find) -> None:
        try:
            answer = await self._work(asked)
        except asyncio.CancelledError:
            if asked.request_id not in self._cancelled:
                raise
            answer = self._not_done(asked, NotDone(Failure.CANCELLED, "it was cancelled"))
        self._cancelled.discard(asked.request_id)
        await self._answer(asked, answer)

    async def _begun(self, asked: Refit | Find) -> None:
        await self._answer(asked, Progress(request_id=asked.request_id, trainer=self._cfg.kafka.client_id))

    async def _work(self, asked: Refit | Find) -> Answer:
        outcome, seconds = await self._crew.work(asked)
        if isinstance(outcome, NotDone):
            return self._not_done(asked, outcome)
        if isinstance(outcome, Answered):
            return FoundOut(request_id=asked.request_id, found=outcome.found)
        return await self._publish(cast("Refit", asked), outcome, seconds)

    def _not_done(self, asked: Refit | Find, outcome: NotDone) -> Answer:
        if isinstance(asked, Find):
            return NotFound(request_id=asked.request_id, reason=outcome.reason, text=outcome.text)
        return self._failed(asked, outcome.reason, outcome.text)

    async def _publish(self, asked: Refit, outcome: Done, seconds: float) -> Answer:
        """The store first, then the topic: whoever reads of an artifact finds it."""
        message = ArtifactMessage.decode(outcome.message)
        try:
            await asyncio.to_thread(self._store.put, message)
        except Exception as error:  # noqa: BLE001  # a store of any make
            return self._failed(asked, Failure.UNAVAILABLE, f"the artifact store: {error!r}")
        name = key(message.manifest, serving=asked.adopt)
        await self._producer.send_and_wait(self._cfg.topics.artifacts.name, outcome.message, key=name)
        self._metrics.counter(m.FITS, asked.detector).inc()
        self._metrics.histogram(m.FIT_SECONDS, asked.detector).observe(seconds)
        log.info("model fitted", **_told(asked), artifact=message.manifest.artifact_id, s=round(seconds, 2))
        return Fitted(
            request_id=asked.request_id,
            detector=asked.detector,
            series=asked.series,
            artifact_id=message.manifest.artifact_id,
            adopt=asked.adopt,
            trained_to_ms=message.manifest.trained_to_ms,
            seconds=seconds,
        )

    def _failed(self, asked: Refit, reason: Failure, text: str) -> Failed:
        self._metrics.counter(m.FIT_FAILURES, asked.detector, reason).inc()
        log.warning("fit failed; the old model stays", **_told(asked), reason=str(reason), cause=text)
        return Failed(
            request_id=asked.request_id,
            detector=asked.detector,
            series=asked.series,
            reason=reason,
            text=text,
        )

    async def _answer(self, asked: Refit | Find, answer: Answer) -> None:
        topic = asked.reply_to or self._cfg.topics.results.name
        await self._producer.send_and_wait(topic, _encode(answer), key=asked.request_id.encode())

    async def _reap(self) -> None:
        """Commit up to the oldest request that is still under way, partition by partition."""
        done = [task for task in self._running if task.done()]
        finished = {self._running.pop(task)[0] for task in done}
        for task in done:
            task.result()  # an answer that could not be sent ends the trainer; the request comes again
        for partition in finished:
            await self._commit(partition)

    async def _commit(self, partition: Any) -> None:
        open_offsets = [offset for where, offset in self._running.values() if where == partition]
        reached = min(open_offsets, default=self._position.get(partition))
        if reached is None:
            return
        try:
            async with asyncio.timeout(OFFSETS_TIMEOUT_S):
                await self._client.commit({partition: reached})
        except (KafkaError, TimeoutError) as error:
            log.warning("offset not committed; those fits will be repeated", cause=repr(error))

    async def _revoked(self) -> None:
        """Partitions move: what is not answered is done by who gets them."""
        await self._give_up()
        self._position.clear()

    async def _give_up(self) -> None:
        running, self._running = list(self._running), {}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _told(asked: Refit) -> dict[str, str]:
    return {"detector": asked.detector, "series": asked.series, "trigger": str(asked.trigger)}


async def run(
    cfg: config.Config, stop: asyncio.Event, started: Callable[[Trainer], None] | None = None
) -> None:
    """Run a trainer in this event loop until ``stop`` is set."""
    await Trainer(cfg).run(stop, started)


def main(cfg: config.Config) -> None:
    """Run a trainer as this process, until SIGTERM or SIGINT."""
    kafka.quiet()
    until_signal(lambda stop: run(cfg, stop))
