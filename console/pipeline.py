"""The pipeline: how far each consumer group is behind, what the workers do, what could not be read."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from console import catalog
from console.lists import Cursor
from console.models import Moment, Page
from console.problems import ProblemError
from console.state import Shared
from schemas import config
from schemas.deadletter import DeadLetter, Reason
from stream import dlq, observe
from stream.kafka import lag

router = APIRouter(tags=["pipeline"])

PAYLOAD_BYTES: Final = 4096
"""Of a dead letter that are shown; `tocsin dlq show` has all."""


class PlaceView(BaseModel):
    """A partition as a group sees it."""

    partition: int
    end: int = Field(description="The offset after the newest committed message.")
    committed: int | None = Field(description="The group's next offset; null before its first commit.")
    lag: int = Field(description="Offsets that wait; markers of transactions count, too.")
    owner: str | None = Field(description="The member that reads it now; null where nobody does.")


class GroupView(BaseModel):
    """A consumer group on one topic."""

    group: str
    role: str = Field(description="The process that it is made of.")
    topic: str
    state: str = Field(description="Kafka's: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead.")
    members: int
    end: int
    committed: int
    lag: int
    produced_per_s: float | None = Field(description="Null until it was looked at twice.")
    consumed_per_s: float | None
    partitions: list[PlaceView]


class WorkerPartition(BaseModel):
    topic: str
    partition: int
    state: str = Field(description="assigned, fencing, restoring, replaying, running, paused, recovering")
    lag: int
    series: int
    open_anomalies: int


class WorkerView(BaseModel):
    """A worker as its own metrics tell; ``error`` says why they could not be read."""

    url: str
    error: str | None = None
    messages_per_s: float | None = Field(
        default=None, description="Committed; null until it was looked at twice."
    )
    samples_per_s: float | None = None
    dead_letters: int = Field(default=0, description="Since it started.")
    recoveries: int = Field(default=0, description="Times that a partition went back to its last commit.")
    partitions: list[WorkerPartition] = []


class Pipeline(BaseModel):
    groups: list[GroupView]
    workers: list[WorkerView]


class DeadLetterView(BaseModel):
    """A message, or the part of it at ``position``, that could not be read."""

    name: str = Field(description="PARTITION/OFFSET, for `tocsin dlq show` and `replay`.")
    set_aside: Moment
    reason: Reason
    error: str
    topic: str
    partition: int
    offset: int
    sent: Moment = Field(description="Kafka's timestamp of the message.")
    position: int | None
    key: str | None
    size: int = Field(description="Bytes of the payload.")
    payload: str = Field(
        description=f"Its first {PAYLOAD_BYTES} bytes as text; what is not printable is escaped. It is what "
        "somebody sent: show it as text only."
    )
    cut: bool = Field(description="Whether the payload goes on.")


@router.get("/pipeline")
async def pipeline(state: Shared) -> Pipeline:
    """Lag and rates of every consumer group, and the state of the workers' partitions."""
    groups, workers = await asyncio.gather(
        lag.of(state.cfg.kafka, {group: topics for group, (_, topics) in _readers(state.cfg).items()}),
        asyncio.gather(*(_told(url) for url in _worker_urls(state.cfg))),
    )
    topics = [each for group in groups for each in _topics(group)]
    counts: dict[Hashable, float] = {}
    for each in topics:
        counts["end", each.group_id, each.topic] = each.end
        counts["committed", each.group_id, each.topic] = each.committed
    for url, told in workers:
        if isinstance(told, observe.Told):
            counts |= {(url, name): told.total(f"tocsin_{name}_total") for name in ("messages", "samples")}
    rates = state.rates.of(counts)
    roles = {group: role for group, (role, _) in _readers(state.cfg).items()}
    return Pipeline(
        groups=[_group(each, roles[each.group_id], rates) for each in topics],
        workers=[_worker(url, told, rates) for url, told in workers],
    )


@router.get("/deadletters")
async def dead_letters(
    state: Shared,
    reason: Annotated[list[Reason] | None, Query(description="Only these; may be repeated.")] = None,
    topic: Annotated[str | None, Query(max_length=249, description="Only of this input topic.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Items of a page.")] = 50,
    cursor: Cursor = None,
) -> Page[DeadLetterView]:
    """The newest first. A page with few of the wanted ones can be short and not the last: see ``next``."""

    def wanted(letter: DeadLetter) -> bool:
        return (not reason or letter.reason in reason) and topic in {None, letter.topic}

    found = await dlq.newest(state.cfg, limit, _before(cursor), wanted)
    rest = None if found.before is None else catalog.encoded(msgspec.json.encode(found.before).decode())
    return Page[DeadLetterView](items=[_letter(each) for each in found.letters], next=rest)


def _readers(cfg: config.Config) -> dict[str, tuple[str, list[str]]]:
    """Role and topics of each group that the configuration knows."""
    names = cfg.topics
    told = [names.anomalies, names.scores, names.incidents, names.control, names.changes]
    found = {
        cfg.worker.group_id: ("worker", [each.topic for each in cfg.inputs]),
        cfg.sink.group_id: ("sink", [each.name for each in told]),
        cfg.trainer.group_id: ("trainer", [names.requests.name]),
        cfg.incidents.group_id: ("coordinator", [names.anomalies.name]),
    }
    if cfg.notify.targets:
        what = sorted({each.what for each in cfg.notify.targets})
        found[cfg.notify.group_id] = ("notify", [getattr(names, each).name for each in what])
    return found


class _OnTopic(NamedTuple):
    """A group on one of its topics."""

    group_id: str
    state: str
    members: int
    topic: str
    places: list[lag.Place]

    @property
    def end(self) -> int:
        return sum(each.end for each in self.places)

    @property
    def committed(self) -> int:
        return sum(each.end - each.lag for each in self.places)


def _topics(group: lag.GroupLag) -> list[_OnTopic]:
    names = dict.fromkeys(each.topic for each in group.places)
    return [
        _OnTopic(*group[:3], name, [each for each in group.places if each.topic == name]) for name in names
    ]


def _group(on: _OnTopic, role: str, rates: Mapping[Hashable, float | None]) -> GroupView:
    return GroupView(
        group=on.group_id,
        role=role,
        topic=on.topic,
        state=on.state,
        members=on.members,
        end=on.end,
        committed=on.committed,
        lag=on.end - on.committed,
        produced_per_s=rates["end", on.group_id, on.topic],
        consumed_per_s=rates["committed", on.group_id, on.topic],
        partitions=[
            PlaceView(
                partition=each.partition,
                end=each.end,
                committed=each.committed,
                lag=each.lag,
                owner=each.owner,
            )
            for each in on.places
        ],
    )


def _worker_urls(cfg: config.Config) -> list[str]:
    own = f"http://{cfg.metrics.host}:{cfg.metrics.worker_port}/metrics"
    return cfg.console.worker_urls or ([own] if cfg.metrics.worker_port else [])


async def _told(url: str) -> tuple[str, observe.Told | str]:
    """The metrics of a worker, or why there are none."""
    try:
        return url, await asyncio.to_thread(observe.told, url)
    except OSError as error:
        return url, str(error)


def _worker(url: str, told: observe.Told | str, rates: Mapping[Hashable, float | None]) -> WorkerView:
    if isinstance(told, str):
        return WorkerView(url=url, error=told)
    running = [labels for labels, value in told.of("tocsin_partition_state") if value == 1]
    return WorkerView(
        url=url,
        messages_per_s=rates[url, "messages"],
        samples_per_s=rates[url, "samples"],
        dead_letters=int(told.total("tocsin_dead_letters_total")),
        recoveries=int(told.total("tocsin_partition_recoveries_total")),
        partitions=sorted(
            (_partition(told, **labels) for labels in running), key=lambda each: (each.topic, each.partition)
        ),
    )


def _partition(told: observe.Told, topic: str, partition: str, state: str) -> WorkerPartition:
    def number(name: str) -> int:
        return int(told.total(name, topic=topic, partition=partition))

    return WorkerPartition(
        topic=topic,
        partition=int(partition),
        state=state,
        lag=number("tocsin_lag_messages"),
        series=number("tocsin_active_series"),
        open_anomalies=number("tocsin_open_anomalies"),
    )


def _before(cursor: str | None) -> dict[int, int]:
    """Offsets by partition."""
    if cursor is None:
        return {}
    (text,) = catalog.decoded(cursor, str)
    try:
        return msgspec.json.decode(text, type=dict[int, int])
    except msgspec.MsgspecError:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, catalog.BAD_CURSOR) from None


def _letter(stored: dlq.Stored) -> DeadLetterView:
    letter = stored.letter
    return DeadLetterView(
        name=stored.name,
        set_aside=_moment(stored.timestamp_ms),
        reason=letter.reason,
        error=letter.error,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        sent=_moment(letter.timestamp_ms),
        position=letter.position,
        key=None if letter.key is None else printable(letter.key[:PAYLOAD_BYTES]),
        size=len(letter.raw),
        payload=printable(letter.raw[:PAYLOAD_BYTES]),
        cut=len(letter.raw) > PAYLOAD_BYTES,
    )


def printable(raw: bytes) -> str:
    """As text in which every byte can be seen: what is not printable is escaped, line breaks stay."""
    text = raw.decode("utf-8", errors="backslashreplace")
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(max(ms, 0) / 1000, UTC)
