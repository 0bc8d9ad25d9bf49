"""`tocsin coordinator`: a Faust app with the refresh timetable, and the incident process, off the hot path.

Only low-volume work belongs here, and nothing that detection needs: while it is away models get no
younger and incidents are told later, and that is all. One instance works; others stand by (ADR 12).

To give it more to do, write an agent: a coroutine that iterates over a topic's messages, added in `agents`.
Faust acknowledges a message when the agent asks for the next one, so an agent must bear seeing one twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import faust
import msgspec
import numpy as np
import structlog

from schemas import config
from schemas.control import Change, Command, Label
from schemas.request import Answer, Failed, Fitted, Refit
from schemas.score import ScoreBatch
from stream import metrics as m
from stream import topics
from stream.addresses import brokers
from stream.control import commanding, muting
from stream.incidents.process import IncidentProcess
from stream.kafka import connection, quiet
from stream.kafka.following import committed
from stream.refresh import artifacts
from stream.refresh.timetable import Due, Timetable, residuals
from stream.running import until_signal
from stream.store.clickhouse import Client, RefusedError, UnavailableError

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S: Final = 10.0
"""For leaving the group; longer delays an exit whose messages are simply seen again."""

SESSION_TIMEOUT_S: Final = 10.0
"""A coordinator silent for this long has left the group. Shorter loses the group in a pause of the machine;
after a crash the next one waits so long for the agents, and a stop waits for it, too."""

_scores = msgspec.msgpack.Decoder(ScoreBatch).decode
_names = msgspec.msgpack.Decoder(list[str]).decode
_answer = msgspec.msgpack.Decoder(Answer).decode
_command = msgspec.json.Decoder(Command).decode
_change = msgspec.json.Decoder(Change).decode
_encode = msgspec.msgpack.encode


class Coordinator:
    """One instance. ``metrics_url`` is known once `run` has called ``started``."""

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self._metrics = m.Metrics("coordinator")
        self._incidents = IncidentProcess(cfg, self._metrics, lambda: self.timetable.clock_ms)
        self._mine, self._others = asyncio.Event(), asyncio.Event()  # whose turn it is; at first nobody's
        self.metrics_url = ""
        self._begin()

    def _begin(self) -> None:
        """Know nothing: what came while another one worked was not heard here."""
        self.timetable = Timetable(self._cfg.refresh, self._cfg.engine.groups)
        self._verdicts = commanding.Verdicts()
        self._joined = self._missed = False

    async def run(self, stop: asyncio.Event, started: Callable[[Coordinator], None] | None = None) -> None:
        """Work, or stand by, until ``stop`` is set; ``started`` is called once it does either.

        Raises what breaks the incident process, but for Kafka being away.
        """
        await topics.ensure(self._cfg)  # Faust ignores a topic that is missing when it joins
        endpoint = m.Endpoint(self._metrics, self._cfg.metrics.host, self._cfg.metrics.coordinator_port)
        self.metrics_url = endpoint.url

        def tell() -> None:
            if started is not None:
                started(self)

        def turned(mine: bool) -> None:  # a callback
            (self._mine if mine else self._others).set()
            (self._others if mine else self._mine).clear()
            if not mine:
                tell()

        works = (self._serve(tell), self._incidents.run(stop, turned), stop.wait())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            endpoint.close()
            log.info("coordinator stopped")

    async def _serve(self, tell: Callable[[], None]) -> None:
        """Run a Faust app while it is our turn, and tell when it runs. Agents of two coordinators would share
        the partitions, and neither know all verdicts, series and answers.

        Apart from the incidents, because joining takes as long as the sessions of dead members last. In a
        failure that leaves open whose turn it is the app goes on.
        """
        while True:
            await self._mine.wait()
            await self._remember()
            app = application(self._cfg)
            self.agents(app)
            try:
                await app.start()
                rules = len(self._cfg.refresh.rules)
                log.info("coordinator started", metrics=self.metrics_url, rules=rules)
                tell()
                await self._others.wait()
            finally:
                await self._leave(app)

    async def _leave(self, app: Any) -> None:
        """Raises ``TimeoutError`` where the app goes on: then this process must end."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await app.stop()
        except TimeoutError:
            log.warning("Faust did not stop in time")
            raise
        self._metrics.forget(m.LABELLED)
        for gauge in (m.REFRESH_WAITING, m.REFRESH_LATE):
            self._metrics.gauge(gauge).set(0)
        self._begin()

    async def _assigned(self, *_: Any, **__: Any) -> None:
        """Again only where one that had lost its turn was a member still, and heard what we did not."""
        self._missed, self._joined = self._joined, True

    def agents(self, app: Any) -> None:
        """Everything that the app does."""
        names = self._cfg.topics
        for topic, agent in (
            (names.scores.name, self._follow_scores),
            (names.results.name, self._follow_results),
            (names.control.name, self._follow_control),
            (names.changes.name, self._follow_changes),
        ):
            app.agent(app.topic(topic, **RAW), name=topic, concurrency=1)(agent)
        app.timer(self._cfg.refresh.check_every_ms / 1000, name="timetable")(self._look)
        app.on_partitions_assigned.connect(self._assigned)
        self._requests = app.topic(names.requests.name, **RAW)
        self._control = app.topic(names.control.name, **RAW)

    async def _follow_scores(self, messages: AsyncIterator[bytes]) -> None:
        async for message in messages:
            try:
                self._note(_scores(message))
            except (msgspec.MsgspecError, ValueError, IndexError) as error:
                log.warning("scores skipped: not ours", cause=str(error))

    async def _follow_results(self, messages: AsyncIterator[bytes]) -> None:
        async for message in messages:
            try:
                answer = _answer(message)
            except msgspec.MsgspecError as error:
                log.warning("answer skipped: not ours", cause=str(error))
                continue
            if isinstance(answer, Fitted):
                self.timetable.fitted(answer)
            elif isinstance(answer, Failed):
                self.timetable.failed(answer)
                self._metrics.counter(m.REFRESH_FAILED, answer.detector, answer.reason).inc()

    async def _follow_control(self, messages: AsyncIterator[bytes | None]) -> None:
        """Workers and sink read the topic themselves; what is left is the timetable."""
        async for message in messages:
            if message is None:
                continue
            try:
                command = _command(message)
                muting.check(command)
            except (msgspec.MsgspecError, ValueError) as error:
                self._refuse(self._cfg.topics.control.name, error)
                continue
            self.timetable.told(command)
            if isinstance(command, Label):
                self._count(command)
            self._metrics.counter(m.COMMANDS, type(command).__name__.lower()).inc()

    def _count(self, label: Label) -> None:
        for place in self._verdicts.put(label):
            self._metrics.gauge(m.LABELLED, *place).set(self._verdicts.counts[place])

    async def _follow_changes(self, messages: AsyncIterator[bytes]) -> None:
        """A change opens a mute; one that comes twice opens the same."""
        async for message in messages:
            try:
                mute = commanding.of_change(_change(message), self._cfg.changes)
                if mute is not None:
                    muting.check(mute)
            except (msgspec.MsgspecError, ValueError) as error:
                self._refuse(self._cfg.topics.changes.name, error)
                continue
            if mute is not None:
                await self._control.send(key=commanding.key(mute), value=msgspec.json.encode(mute))
            self._metrics.counter(m.COMMANDS, "change").inc()

    def _refuse(self, topic: str, error: Exception) -> None:
        self._metrics.counter(m.COMMANDS_REFUSED, topic).inc()
        log.warning("message skipped: nobody can follow it", topic=topic, cause=str(error))

    async def _look(self) -> None:
        """The timer: ask for what is due."""
        if self._missed:
            self._missed = False
            await self._remember()
        now_s = time.monotonic()
        for due in self.timetable.due(now_s):
            asked = _request(due)
            await self._requests.send(key=asked.request_id.encode(), value=_encode(asked))
            self.timetable.asked(due, asked.request_id, now_s)
            self._metrics.counter(m.REQUESTS, asked.detector, asked.trigger).inc()
            log.info("refit asked for", detector=asked.detector, series=asked.series, why=str(asked.trigger))
        self._metrics.gauge(m.REFRESH_WAITING).set(self.timetable.waiting())
        self._metrics.gauge(m.REFRESH_LATE).set(self.timetable.late)
        self._metrics.gauge(m.REFRESH_CLOCK).set(self.timetable.clock_ms / 1000)

    def _note(self, batch: ScoreBatch) -> None:
        """Times of each series, and the residuals of those that are watched."""
        index, ts_ms = np.frombuffer(batch.index, "<u4"), np.frombuffer(batch.ts_ms, "<i8")
        if not len(index):
            return
        order = np.argsort(index, kind="stable")
        numbers, starts = np.unique(index[order], return_index=True)
        names = _names(batch.series)
        columns = None
        for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            watched = self.timetable.saw(names[number], int(ts_ms[rows].min()), int(ts_ms[rows].max()))
            if watched is None or watched.drift is None:
                continue
            if columns is None:
                columns = (
                    np.frombuffer(batch.value, "<f8"),
                    *(np.frombuffer(c, "<f4") for c in (batch.expected, batch.lower, batch.upper)),
                )
            self.timetable.residuals(watched, residuals(*(column[rows] for column in columns)))

    async def _remember(self) -> None:
        """What was before this start: verdicts, models, and since when ClickHouse knows the series."""
        async with asyncio.timeout(commanding.TIMEOUT_S):
            async for record in committed(self._cfg.kafka, self._cfg.topics.control.name):
                with contextlib.suppress(msgspec.MsgspecError):  # the agent tells of it
                    command = _command(record.value or b"")
                    if isinstance(command, Label):
                        self._count(command)
        if not self._cfg.refresh.rules:
            return
        for shown in await artifacts.on_topic(self._cfg):
            each = shown.manifest
            if shown.serving:
                self.timetable.serves(each.detector, each.series, each.artifact_id, each.trained_to_ms)
        if self._cfg.clickhouse.enabled:
            try:
                found = await asyncio.to_thread(_known_series, self._cfg.clickhouse)
            except (UnavailableError, RefusedError) as error:
                log.warning("ClickHouse does not say how much history there is", cause=str(error))
                found = []
            for series, first_ms, last_ms in found:
                self.timetable.saw(series, first_ms, last_ms)


RAW: Final[dict[str, Any]] = {"key_serializer": "raw", "value_serializer": "raw", "internal": False}
"""Options of a Faust topic whose messages are our bytes."""


def application(cfg: config.Config) -> Any:
    """An unstarted Faust app: no web server, no tables, no topics of its own."""
    return faust.App(
        cfg.refresh.group_id,
        broker=[f"kafka://{address}" for address in brokers(cfg.kafka.bootstrap_servers)],
        broker_credentials=_credentials(cfg.kafka),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        store="memory://",
        datadir=str(Path(tempfile.gettempdir()) / "tocsin-faust"),  # made, though nothing goes there
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_TIMEOUT_S,
        stream_wait_empty=False,
    )


def _credentials(kafka: config.Kafka) -> Any:
    options = connection(kafka)
    context = options.get("ssl_context")
    if kafka.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def _request(due: Due) -> Refit:
    """The same need gives the same id, so that a second coordinator asks for nothing new."""
    rule = due.model.rule
    need = f"{rule.detector}/{due.series}/{due.until_ms}/{due.trigger}"
    return Refit(
        request_id=hashlib.sha256(need.encode()).hexdigest()[:16],
        detector=rule.detector,
        series=due.series,
        from_ms=due.from_ms,
        until_ms=due.until_ms,
        trigger=due.trigger,
        adopt=rule.auto_adopt,
        serving=due.model.artifact_id,
        deadline_ms=rule.deadline_ms,
    )


def _known_series(cfg: config.ClickHouse) -> list[tuple[str, int, int]]:
    with contextlib.closing(Client.connect(cfg)) as client:
        found = client.rows(
            "SELECT series, toUnixTimestamp64Milli(first_seen), toUnixTimestamp64Milli(last_seen) "
            "FROM series_latest"
        )
    return [(str(series), int(first), int(last)) for series, first, last in found]


async def run(
    cfg: config.Config, stop: asyncio.Event, started: Callable[[Coordinator], None] | None = None
) -> None:
    """Run a coordinator in this event loop until ``stop`` is set."""
    await Coordinator(cfg).run(stop, started)


def main(cfg: config.Config) -> None:
    """Run a coordinator as this process, until SIGTERM or SIGINT."""
    quiet()
    until_signal(lambda stop: run(cfg, stop))
