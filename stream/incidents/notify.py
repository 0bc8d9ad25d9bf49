"""`tocsin notify`: relays anomaly events or incidents to webhooks and Alertmanager, at least once each.

An offset is committed when every target has taken the message or has been given up for it, so a crash
sends again what was under way. Receivers tell a repetition by the header `Idempotency-Key`, the event's
id; Alertmanager by the labels. Within a process an id is sent to a target once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import httpx
import jinja2
import msgspec
import structlog
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas import config
from schemas.event import AnomalyEvent, Severity, Status
from schemas.incident import Incident
from stream import kafka, topics
from stream import metrics as m
from stream.errors import UserError
from stream.formats.timestamps import ms_to_iso
from stream.kafka import KafkaError, Record
from stream.running import until_signal

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.2
"""After the first failed try; it doubles up to `notify.retry_max_ms`. Shorter hammers one that starts."""

FETCH_MESSAGES: Final = 20
"""Taken at once, and repeated after a crash at most; larger repeats more."""

FETCH_MS: Final = 500
"""How long a fetch waits; a stop waits for it."""

NO_POLL_LIMIT_MS: Final = 2**31 - 1
"""A target that is away moves no partitions: no relay could do better."""

OFFSETS_TIMEOUT_S: Final = 10.0
"""For reading and committing offsets. Shorter repeats more notifications after a broker's restart."""

REMEMBERED: Final = 100_000
"""Ids known as sent, of each target; an older one that comes again is sent again. 10 MB."""

_LASTS_MS: Final = 86_400_000
"""How long Alertmanager keeps an anomaly of which nothing is heard. Shorter ends one that goes on."""

_AGAIN: Final = frozenset({408, 425, 429})
_RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}

Event = AnomalyEvent | Incident

_decode: Final[dict[str, Callable[[bytes], Event]]] = {
    "anomalies": msgspec.json.Decoder(AnomalyEvent).decode,
    "incidents": msgspec.json.Decoder(Incident).decode,
}


class GaveUpError(Exception):
    """A target will not take this message; ``reason`` is refused, deadline or template."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class StoppedError(Exception):
    """The stop came while a target was being tried: the message is left to the next start."""


class Target:
    """A receiver and what has been sent to it."""

    def __init__(self, cfg: config.NotifyTarget, limits: config.Notify, metrics: m.Metrics) -> None:
        """Raises `UserError` for a template that is missing or does not parse."""
        self.cfg = cfg
        self._limits, self._metrics = limits, metrics
        self._template = _template(cfg)
        self._named = "event" if cfg.what == "anomalies" else "incident"  # in the template
        self._sent: OrderedDict[str, None] = OrderedDict()

    def wants(self, event: Event) -> bool:
        """Muted ones are written and not told."""
        if isinstance(event, Incident) != (self.cfg.what == "incidents"):
            return False
        if isinstance(event, AnomalyEvent) and event.muted_by is not None:
            return False
        if _RANK[event.severity] < _RANK[Severity(self.cfg.min_severity)]:
            return False
        return self.cfg.updates or event.status is not Status.UPDATE

    async def send(self, client: httpx.AsyncClient, event: Event, stop: asyncio.Event) -> None:
        """Deliver, or say in log and metric that it was given up. Raises `StoppedError`."""
        if event.event_id in self._sent:
            self._metrics.counter(m.NOTIFY_DUPLICATES, self.cfg.name).inc()
            return
        try:
            await self._insist(client, event, stop)
        except GaveUpError as error:
            self._metrics.counter(m.NOTIFY_DEAD_ENDS, self.cfg.name, error.reason).inc()
            log.error(  # noqa: TRY400  # the target's answer says it, not our stack
                "notification given up",
                target=self.cfg.name,
                event_id=event.event_id,
                about=event.series if isinstance(event, AnomalyEvent) else event.title,
                reason=error.reason,
                cause=str(error),
            )
        else:
            self._metrics.counter(m.NOTIFY_SENT, self.cfg.name).inc()
        self._sent[event.event_id] = None
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    async def _insist(self, client: httpx.AsyncClient, event: Event, stop: asyncio.Event) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": event.event_id, **self.cfg.headers}
        deadline = time.monotonic() + self._limits.deadline_ms / 1000
        pause_s = FIRST_PAUSE_S
        while True:
            body = self._render(event)  # again: it tells the time at which it is sent
            failure = await _post(client, self.cfg.url, body, headers)
            if failure is None:
                return
            if time.monotonic() + pause_s > deadline:
                raise GaveUpError("deadline", failure)
            self._metrics.counter(m.NOTIFY_RETRIES, self.cfg.name).inc()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311  # jitter
                    await stop.wait()
            if stop.is_set():
                raise StoppedError
            pause_s = min(2 * pause_s, max(FIRST_PAUSE_S, self._limits.retry_max_ms / 1000))

    def _render(self, event: Event) -> bytes:
        now_ms = time.time_ns() // 1_000_000
        lower = [severity for severity in Severity if _RANK[severity] < _RANK[event.severity]]
        try:
            text = self._template.render(
                {self._named: msgspec.to_builtins(event)},
                now_ms=now_ms,
                lasts_ms=_LASTS_MS,
                lower_severities=lower,
            )
            return msgspec.json.encode(msgspec.json.decode(text))
        except (jinja2.TemplateError, msgspec.DecodeError, TypeError, ValueError) as error:
            raise GaveUpError("template", str(error)) from error


class Relay:
    """One member of the group. ``metrics_url`` is known once `run` has called ``started``."""

    def __init__(self, cfg: config.Config) -> None:
        """Raises `UserError` when there is no target or a template is wrong."""
        if not cfg.notify.targets:
            raise UserError("notify.targets is empty, so there is nobody to notify")
        self._cfg = cfg
        self._metrics = m.Metrics("notify")
        self._targets = [Target(target, cfg.notify, self._metrics) for target in cfg.notify.targets]
        self._topics = {
            getattr(cfg.topics, what).name: what for what in sorted({t.cfg.what for t in self._targets})
        }
        self._moving = self._moved = True
        self.metrics_url = ""

    async def run(self, stop: asyncio.Event, started: Callable[[Relay], None] | None = None) -> None:
        """Relay until ``stop`` is set; ``started`` is called once a new event would not be missed."""
        where = self._cfg.metrics
        endpoint = m.Endpoint(self._metrics, where.host, where.notify_port)
        self.metrics_url = endpoint.url
        client = kafka.consumer(
            self._cfg.kafka,
            group_id=self._cfg.notify.group_id,
            max_poll_interval_ms=NO_POLL_LIMIT_MS,
        )
        try:
            await topics.ensure(self._cfg)
            kafka.subscribe(client, list(self._topics), self._revoked, self._assigned)
            await client.start()
            log.info("notify started", metrics=endpoint.url, targets=[t.cfg.name for t in self._targets])
            async with httpx.AsyncClient(timeout=self._cfg.notify.timeout_ms / 1000) as http:
                while not stop.is_set():
                    await self._step(client, http, stop)
                    if started is not None and not self._moved:
                        started(self)
                        started = None
        except StoppedError:
            log.info("notify stopped while a target was away; the message is sent at the next start")
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(kafka.STOP_TIMEOUT_S):
                    await client.stop()
            endpoint.close()

    async def _step(self, client: Any, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        batches = await client.getmany(timeout_ms=FETCH_MS, max_records=FETCH_MESSAGES)
        if self._moved:  # what was fetched by now may be from anywhere, and comes again
            if not self._moving:
                await self._anchor(client)
            return
        offsets = {}
        for partition, records in batches.items():
            for record in records:
                await self._relay(record, http, stop)
                offsets[partition] = record.offset + 1
        if offsets:
            await self._commit(client, offsets)

    async def _relay(self, record: Record, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        if record.value is None and self._topics[record.topic] == "incidents":
            return  # one that is long over leaves the topic
        try:
            event = _decode[self._topics[record.topic]](record.value or b"")
        except msgspec.DecodeError as error:
            self._metrics.counter(m.NOTIFY_UNREADABLE).inc()
            log.warning("message skipped: not one of ours", offset=record.offset, cause=str(error))
            return
        wanting = [target for target in self._targets if target.wants(event)]
        results = await asyncio.gather(
            *(target.send(http, event, stop) for target in wanting), return_exceptions=True
        )
        for result in results:  # after all have ended: one target's trouble is not another's
            if isinstance(result, BaseException):
                raise result

    async def _anchor(self, client: Any) -> None:
        """Go to where the group is. A new one begins at `notify.start_from`, and writes that down: after a
        crash it must not begin at a later end.

        A coordinator that has just been restarted takes every group for a new one (ADR 10): it is asked after
        it has acknowledged a write.
        """
        self._moved = False
        try:
            async with asyncio.timeout(OFFSETS_TIMEOUT_S):
                assigned = client.assignment()
                if not assigned:
                    self._moved = True
                    return
                await kafka.settle(self._cfg.kafka, self._cfg.notify.group_id, min(assigned))
                for partition in assigned:
                    offset = await client.committed(partition)
                    if offset is None:
                        offset = await self._begin(client, partition)
                    client.seek(partition, offset)
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets cannot be read; trying again", cause=repr(error))
            self._moved = True

    async def _begin(self, client: Any, partition: Any) -> int:
        latest = self._cfg.notify.start_from == "latest"
        found = await (client.end_offsets if latest else client.beginning_offsets)([partition])
        offset: int = found[partition]
        await client.commit({partition: offset})
        return offset

    async def _commit(self, client: Any, offsets: dict[Any, int]) -> None:
        """An offset that is not committed costs a repetition, which receivers tell by the id."""
        try:
            async with asyncio.timeout(OFFSETS_TIMEOUT_S):
                await client.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets not committed; those events may be sent again", cause=repr(error))

    async def _revoked(self) -> None:
        self._moving = self._moved = True

    def _assigned(self) -> None:
        self._moving, self._moved = False, True


async def _post(client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> str | None:
    """None when it was taken, else why it should be tried again. Raises `GaveUpError` when it should not."""
    try:
        reply = await client.post(url, content=body, headers=headers)
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error}"
    if reply.is_success:
        return None
    said = f"{reply.status_code} {reply.text[:300]}"
    if reply.is_server_error or reply.status_code in _AGAIN:
        return said
    raise GaveUpError("refused", said)


def _template(cfg: config.NotifyTarget) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)  # JSON
    environment.filters["iso"] = ms_to_iso
    try:
        if cfg.template:
            text = Path(cfg.template).read_text(encoding="utf-8")
        else:
            name = f"{cfg.what}-{cfg.kind}.json.j2"
            text = (resources.files("stream") / "templates" / name).read_text("utf-8")
        return environment.from_string(text)
    except (OSError, jinja2.TemplateError) as error:
        raise UserError(f"template of notify target {cfg.name!r}: {error}") from error


async def run(
    cfg: config.Config, stop: asyncio.Event, started: Callable[[Relay], None] | None = None
) -> None:
    """Run a relay in this event loop until ``stop`` is set."""
    await Relay(cfg).run(stop, started)


def main(cfg: config.Config) -> None:
    """Run a relay as this process, until SIGTERM or SIGINT."""
    kafka.quiet()
    until_signal(lambda stop: run(cfg, stop))
