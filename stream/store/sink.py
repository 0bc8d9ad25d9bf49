"""`tocsin sink`: writes scores, anomalies, incidents, commands to ClickHouse, at least once, idempotently.

`Sink` knows ClickHouse and no Kafka; `SinkLoop` knows Kafka and commits the offsets of a batch only when
`Sink` has had it acknowledged. A batch that comes twice makes rows that replace each other, see
`schemas/clickhouse`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import structlog

from schemas import config
from stream import kafka, topics
from stream import metrics as m
from stream.kafka import KafkaError, Record
from stream.running import until_signal
from stream.store import clickhouse, migrations, sink_records
from stream.store.clickhouse import ClickHouse, Client, UnavailableError, where
from stream.store.sink_batch import Batch, SeriesBook, UnreadableError

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.2
"""After the first failed try; it doubles up to `sink.retry_max_ms`. Shorter hammers a server that starts."""

FETCH_MESSAGES: Final = 500
"""Most messages of one fetch; a batch that is full in the middle of them is written before the rest."""

IDLE_S: Final = 1.0
"""How long a fetch without rows waits; only the stop waits for it, and cancels it."""

REVOKE_TIMEOUT_S: Final = 10.0
"""For the insert under way when partitions move: the group waits so long. What is not acknowledged by then is
written again by the next owner."""

REBALANCE_TIMEOUT_MS: Final = 30_000
"""What the group grants a member to give partitions up; above `REVOKE_TIMEOUT_S`."""

NO_POLL_LIMIT_MS: Final = 2**31 - 1
"""While ClickHouse is away nothing is fetched, for hours if need be, and no other sink could do better: a
limit would only make the group rebalance for ever. A dead sink still loses its session."""

OFFSETS_TIMEOUT_S: Final = 10.0
"""For reading and committing offsets, which aiokafka tries for ever while the coordinator is away. Shorter
repeats more inserts after a broker's restart; a stop waits this long for it."""

LAG_EVERY_S: Final = 5.0
"""How often the ends of partitions are asked for; longer makes the lag's alert later."""

UNREADABLE_LOG_EVERY_S: Final = 10.0
"""A topic full of strangers must not fill the log; the metric counts each."""

T = TypeVar("T")


class GaveUpError(Exception):
    """Nobody waits for this batch any more (stop, or its partitions moved) while ClickHouse was away."""


class Sink:
    """Writes batches into one database, trying again while ClickHouse is away."""

    def __init__(self, cfg: config.Config, metrics: m.Metrics) -> None:
        self._cfg = cfg
        self._metrics = metrics
        self._clickhouse = ClickHouse(cfg.clickhouse, create=True)
        self._book = SeriesBook()
        self._away_since = 0.0
        self._cause = ""
        self.trouble = "its tables are not known to be there yet"
        """Why ClickHouse takes nothing; empty while it does. Read by the thread that answers `/readyz`."""

    async def prepare(self, give_up: asyncio.Event) -> None:
        """Make the tables. Raises `GaveUpError`, or what is to be mended by a person: `RefusedError`,
        `migrations.MigrationError`.
        """
        await self._insist(give_up, migrations.apply, self._cfg.clickhouse)

    def batch(self) -> Batch:
        """An empty batch; earlier ones must not be written any more."""
        if len(self._book) > self._cfg.sink.max_series:
            self._book = SeriesBook()
        return Batch(self._book)

    async def write(self, batch: Batch, give_up: asyncio.Event) -> None:
        """Insert the rows; when this returns ClickHouse has acknowledged them.

        Tries at least once, then until ``give_up`` is set (`GaveUpError`). `RefusedError` is for a person.
        """
        tables = await asyncio.to_thread(batch.tables)
        for name, table in tables.by_name.items():
            took_s = await self._insist(give_up, _insert, name, table)
            self._metrics.counter(m.SINK_ROWS, name).inc(table.num_rows)
            self._metrics.histogram(m.SINK_INSERT_SECONDS, name).observe(took_s)
        batch.written(tables.seen)

    async def close(self) -> None:
        await self._clickhouse.close()

    async def _insist(self, give_up: asyncio.Event, work: Callable[..., T], *args: Any) -> T:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await self._clickhouse.run(work, *args)
            except UnavailableError as error:
                self._away(error)
            else:
                self._back()
                return result
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311  # jitter
                    await give_up.wait()
            if give_up.is_set():
                raise GaveUpError
            pause_s = min(2 * pause_s, max(FIRST_PAUSE_S, self._cfg.sink.retry_max_ms / 1000))

    def _away(self, error: UnavailableError) -> None:
        self._metrics.counter(m.SINK_FAILURES, error.cause).inc()
        self._metrics.gauge(m.SINK_UP).set(0)
        self._away_since = self._away_since or time.monotonic()
        self.trouble = str(error)
        if error.cause != self._cause:
            log.warning("ClickHouse is away; waiting, nothing is lost", cause=error.cause, error=str(error))
            self._cause = error.cause

    def _back(self) -> None:
        self._metrics.gauge(m.SINK_UP).set(1)
        if self._away_since:
            log.info("ClickHouse is back", after_s=round(time.monotonic() - self._away_since, 1))
        self._away_since, self._cause, self.trouble = 0.0, "", ""


class SinkLoop:
    """One member of the sink's consumer group. ``metrics_url`` is known once `run` has called ``started``.

    A rebalance, also one that gives the same partitions back, drops the open batch and goes back to the
    committed offsets: a position in memory may be ahead of what was dropped.
    """

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self._metrics = m.Metrics("sink")
        self._sink = Sink(cfg, self._metrics)
        self._stop = asyncio.Event()
        self._writing = asyncio.Lock()
        self._unreadable_logged = float("-inf")
        self._lag_of: dict[Any, int] = {}  # partition: next offset to be written
        self._rewind = True
        self._joined = False
        names = cfg.topics
        self._readers: dict[str, Callable[[Batch, bytes], None]] = {
            names.anomalies.name: Batch.add_event,
            names.scores.name: Batch.add_scores,
            names.incidents.name: lambda batch, value: batch.add_record(sink_records.incident, value),
            names.control.name: lambda batch, value: batch.add_record(sink_records.command, value),
            names.changes.name: lambda batch, value: batch.add_record(sink_records.change, value),
        }
        self._compacted = {names.incidents.name, names.control.name}
        self.metrics_url = ""
        self._renew()

    async def run(self, stop: asyncio.Event, started: Callable[[SinkLoop], None] | None = None) -> None:
        """Work until ``stop`` is set; raises what a person must mend. What is pending at the stop is written
        when ClickHouse takes it at once, and left to the next start when not.
        """
        cfg = self._cfg.metrics
        endpoint = m.Endpoint(self._metrics, cfg.host, cfg.sink_port, ready=self._not_ready)
        self.metrics_url = endpoint.url
        self._stop = stop
        try:
            await self._sink.prepare(stop)
            await topics.ensure(self._cfg)
            await self._consume(started)
        except GaveUpError:
            log.info("sink stopped while ClickHouse was away")
        finally:
            await self._sink.close()
            endpoint.close()
            log.info("sink stopped")

    async def _consume(self, started: Callable[[SinkLoop], None] | None) -> None:
        self._client = kafka.consumer(
            self._cfg.kafka,
            group_id=self._cfg.sink.group_id,
            session_timeout_ms=self._cfg.sink.session_timeout_ms,
            heartbeat_interval_ms=max(1, self._cfg.sink.session_timeout_ms // 10),
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=NO_POLL_LIMIT_MS,
            check_crcs=False,  # TCP has checked them
        )
        kafka.subscribe(self._client, list(self._readers), self._revoked)
        tasks = []
        try:
            await self._client.start()
            self._joined = True
            log.info("sink started", metrics=self.metrics_url, clickhouse=where(self._cfg.clickhouse))
            if started is not None:
                started(self)
            tasks = [asyncio.create_task(self._relay_stop()), asyncio.create_task(self._watch_lag())]
            while not self._stop.is_set():
                await self._step()
            await self._write()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(kafka.STOP_TIMEOUT_S):
                    await self._client.stop()

    async def _step(self) -> None:
        """Fetch, and write when the batch is due."""
        due_in_s = self._due_s - time.monotonic() if self._offsets else IDLE_S
        records = await self._fetch(max(0.0, due_in_s))
        if self._rewind:
            await self._go_back()
            return
        await self._take(records)
        if self._offsets and time.monotonic() >= self._due_s:
            await self._write()

    async def _fetch(self, timeout_s: float) -> Sequence[tuple[Any, Sequence[Record]]]:
        """Messages by partition; the stop interrupts it, also while the group rebalances."""
        fetching = asyncio.ensure_future(
            self._client.getmany(timeout_ms=int(timeout_s * 1000), max_records=FETCH_MESSAGES)
        )
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([fetching, stopping], return_when=asyncio.FIRST_COMPLETED)
            return list(fetching.result().items()) if fetching.done() else []
        finally:
            stopping.cancel()
            if not fetching.done():
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)

    async def _take(self, records: Sequence[tuple[Any, Sequence[Record]]]) -> None:
        """Add messages to the batch; it is written whenever it is full. Ends early when partitions move."""
        for partition, messages in records:
            for message in messages:
                if not self._offsets:
                    self._due_s = time.monotonic() + self._cfg.sink.batch_interval_ms / 1000
                self._add(message)
                self._offsets[partition] = message.offset + 1
                if self._batch.rows >= self._cfg.sink.max_batch_rows:
                    await self._write()
                if self._rewind or self._stop.is_set():
                    return

    def _add(self, message: Record) -> None:
        if message.value is None and message.topic in self._compacted:
            return  # the topic forgets, and ClickHouse does not
        try:
            self._readers[message.topic](self._batch, message.value or b"")
        except UnreadableError as error:
            self._metrics.counter(m.SINK_UNREADABLE, message.topic).inc()
            if time.monotonic() - self._unreadable_logged > UNREADABLE_LOG_EVERY_S:
                self._unreadable_logged = time.monotonic()
                place = f"{message.topic}/{message.partition}/{message.offset}"
                log.warning("message skipped: not one of ours", message=place, cause=str(error))

    async def _write(self) -> None:
        """Write the batch, then commit its offsets, or nothing when its partitions moved meanwhile."""
        batch, offsets = self._batch, self._offsets
        async with self._writing:
            if batch.rows:
                try:
                    await self._sink.write(batch, self._give_up)
                except GaveUpError:
                    return
            if self._batch is not batch:
                return
            await self._commit(offsets)
            if self._batch is batch:
                self._renew()

    async def _commit(self, offsets: dict[Any, int]) -> None:
        """An offset that is not committed costs a repetition, which the tables bear."""
        if not offsets:
            return
        try:
            async with asyncio.timeout(OFFSETS_TIMEOUT_S):
                await self._client.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets not committed; those rows will be written again", cause=repr(error))
        else:
            self._lag_of.update(offsets)

    def _renew(self) -> None:
        self._batch = self._sink.batch()
        self._offsets: dict[Any, int] = {}
        self._due_s = 0.0
        self._give_up = asyncio.Event()
        if self._stop.is_set():
            self._give_up.set()

    async def _revoked(self) -> None:
        """Partitions move: let an insert under way end, forget what is not acknowledged."""
        self._rewind = True  # nothing more goes into the open batch ...
        self._give_up.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_TIMEOUT_S), self._writing:
                pass
        self._rewind = True  # ... and no position from before this moment counts
        self._renew()

    async def _go_back(self) -> None:
        """Start from the committed offsets of whatever is assigned now."""
        self._rewind = False
        self._renew()
        for partition in list(self._lag_of):
            self._metrics.forget(m.SINK_LAG, *partition)
        self._lag_of.clear()
        try:
            async with asyncio.timeout(OFFSETS_TIMEOUT_S):
                await self._seek_committed()
        except (KafkaError, TimeoutError) as error:
            log.warning("committed offsets cannot be read; trying again", cause=repr(error))
            self._rewind = True

    async def _seek_committed(self) -> None:
        for partition in self._client.assignment():
            offset = await self._client.committed(partition)
            if self._rewind:  # moved again while we asked
                return
            if offset is None:
                await self._client.seek_to_beginning(partition)
            else:
                self._client.seek(partition, offset)
            self._lag_of[partition] = offset or 0

    def _not_ready(self) -> dict[str, str]:
        """What keeps rows from being written; called in the thread of the endpoint."""
        if self._sink.trouble:
            return {"clickhouse": self._sink.trouble}
        return {} if self._joined else {"sink": "has not joined the group yet"}

    async def _relay_stop(self) -> None:
        await self._stop.wait()
        self._give_up.set()

    async def _watch_lag(self) -> None:
        """Tell the lag also while nothing is fetched: that is when it matters."""
        while True:
            with contextlib.suppress(KafkaError):
                await self._tell_lag()
            await asyncio.sleep(LAG_EVERY_S)

    async def _tell_lag(self) -> None:
        if not self._lag_of:
            return
        ends = await self._client.end_offsets(list(self._lag_of))
        for partition, end in ends.items():
            if partition not in self._offsets:
                # The markers of transactions are behind us, though no message stood for them.
                self._lag_of[partition] = await self._client.position(partition)
            if partition in self._lag_of:
                self._metrics.gauge(m.SINK_LAG, *partition).set(max(0, end - self._lag_of[partition]))


def _insert(client: Client, table: str, rows: Any) -> float:
    began = time.perf_counter()
    client.insert(table, rows)
    return time.perf_counter() - began


async def run(
    cfg: config.Config, stop: asyncio.Event, started: Callable[[SinkLoop], None] | None = None
) -> None:
    """Run a sink in this event loop until ``stop`` is set."""
    await SinkLoop(cfg).run(stop, started)


def main(cfg: config.Config) -> None:
    """Run a sink as this process, until SIGTERM or SIGINT."""
    kafka.quiet()
    clickhouse.quiet()
    until_signal(lambda stop: run(cfg, stop))
