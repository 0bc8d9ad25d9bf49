"""Fitted models on their way into the partitions of a worker.

One side consumer of a worker reads the compacted topic; `Desk` knows what should serve. A partition compares
that with what its engine has at a batch boundary, adopts the difference, and writes it to the journal in the
same transaction. Comparing instead of passing messages on makes it all the same whether a partition came
late, a series began after its model, or an evicted series returned.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import structlog

from detectors import registry
from detectors.batch import is_batch
from detectors.engine import Engine
from schemas import config
from schemas.artifact import ArtifactMessage
from schemas.journal import Adopted
from stream import metrics as m
from stream.kafka import Record, TopicPartition
from stream.kafka.following import follow
from stream.refresh.artifacts import CANDIDATE, ArtifactStore, MissingArtifactError
from stream.worker.pipeline import Pipeline

log = structlog.get_logger(__name__)

ADOPTING_S: Final = 0.005
"""A batch looks for models and adopts them for this long, and one at least, which takes 0.2 to 2 ms. Longer
makes its samples late by as much; shorter makes a partition of many series slow to take a refresh over."""

CACHE_BYTES: Final = 64 * 1024 * 1024
"""Of models that came a moment ago, so that partitions need not read them from the store."""


class Place(NamedTuple):
    """Where one model serves at a time."""

    detector: str
    series: str


class Wanted(NamedTuple):
    """What should serve in a place since which of the changes."""

    artifact_id: str
    change: int


class Due(NamedTuple):
    """A model that a partition should take."""

    detector: str
    series: str
    artifact_id: str

    @property
    def place(self) -> Place:
        return Place(self.detector, self.series)

    def entry(self, partition: TopicPartition, next_offset: int) -> Adopted:
        return Adopted(
            topic=partition.topic,
            partition=partition.partition,
            next_offset=next_offset,
            series=self.series,
            detector=self.detector,
            artifact=self.artifact_id,
        )


class Desk:
    """What should serve, as the topic says; read by the partitions of one worker in its event loop."""

    def __init__(self, cfg: config.Config, store: ArtifactStore, metrics: m.Metrics) -> None:
        self._cfg, self.store, self._metrics = cfg, store, metrics
        names = {each.name for each in cfg.engine.detectors} | {each.detector for each in cfg.engine.groups}
        found = {name: registry.load(name) for name in sorted(names)}
        self._versions = {name: kind.version for name, kind in found.items() if is_batch(kind)}
        self._wanted: dict[Place, Wanted] = {}  # in order of their changes
        self._recent: OrderedDict[str, ArtifactMessage] = OrderedDict()
        self._recent_bytes = 0
        self.changes = 0
        """Goes up whenever something else should serve."""
        self.ready = False
        """The topic has been read to its end: before, an older model may seem to serve."""

    @property
    def needed(self) -> bool:
        """Whether any detector of this configuration is fitted."""
        return bool(self._versions)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await follow(self._cfg.kafka, self._cfg.topics.artifacts.name, self._record, self._caught_up)

    def _caught_up(self) -> None:
        self.ready = True

    def take(self, key: bytes | None, value: bytes | None) -> ArtifactMessage | None:
        """Note a message of the topic; gives the artifact where one should be adopted.

        A message that is damaged, or of another version of the detector, is refused: the old model stays.
        """
        name = (key or b"").decode(errors="replace")
        if value is None:
            detector, _, series = name.partition("/")
            self._wanted.pop(Place(detector, series), None)
            return None
        if name.startswith(CANDIDATE) or name.partition("/")[0] not in self._versions:
            return None
        try:
            message = ArtifactMessage.decode(value)
        except ValueError as error:
            self.refuse("damaged", name, str(error))
            return None
        manifest = message.manifest
        if manifest.key != name or manifest.version != self._versions[manifest.detector]:
            wanted = f"{name} version {self._versions[name.partition('/')[0]]}"
            self.refuse("version", name, f"is {manifest.key} version {manifest.version}, not {wanted}")
            return None
        return message

    def want(self, message: ArtifactMessage) -> None:
        """Let partitions adopt it."""
        manifest = message.manifest
        place = Place(manifest.detector, manifest.series)
        self.changes += 1
        self._wanted.pop(place, None)
        self._wanted[place] = Wanted(manifest.artifact_id, self.changes)
        self._keep(message)

    def _keep(self, message: ArtifactMessage) -> None:
        manifest = message.manifest
        if manifest.artifact_id not in self._recent:
            self._recent_bytes += manifest.size
        self._recent[manifest.artifact_id] = message
        self._recent.move_to_end(manifest.artifact_id)
        while self._recent_bytes > CACHE_BYTES:
            self._recent_bytes -= self._recent.popitem(last=False)[1].manifest.size

    def refuse(self, reason: str, name: str, text: str) -> None:
        self._metrics.counter(m.ARTIFACTS_REFUSED, reason).inc()
        log.error("artifact refused; the old one stays", artifact=name, reason=reason, cause=text)

    def drop(self, due: Due) -> None:
        """Do not offer again what an engine has refused."""
        wanted = self._wanted.get(due.place)
        if wanted is not None and wanted.artifact_id == due.artifact_id:
            del self._wanted[due.place]

    def adopted(self, due: Due) -> None:
        self._metrics.counter(m.ARTIFACTS_ADOPTED, due.detector).inc()
        log.info("artifact adopted", detector=due.detector, series=due.series, artifact=due.artifact_id)

    def since(self, change: int) -> list[Place]:
        """Where something else should serve after this change, in order; costs as much as there is of it."""
        newest_first = reversed(self._wanted.items())
        found = itertools.takewhile(lambda item: item[1].change > change, newest_first)
        return [place for place, _ in found][::-1]

    def due(self, engine: Engine, place: Place) -> Due | None:
        """What should serve there and does not; None also where the engine has no such series or group."""
        wanted = self._wanted.get(place)
        if wanted is None or engine.serving(place.series, place.detector) in {None, wanted.artifact_id}:
            return None
        return Due(*place, wanted.artifact_id)

    def read(self, detector: str, series: str, artifact_id: str) -> ArtifactMessage:
        """Blocking; raises `MissingArtifactError`."""
        recent = self._recent.get(artifact_id)
        return recent if recent is not None else self.store.get(detector, series, artifact_id)

    async def _record(self, record: Record) -> None:
        message = self.take(record.key, record.value)
        if message is None:
            return
        # The journal will name it, and a replay must find it however late: first the store, then the engines.
        await asyncio.to_thread(self.store.put, message)
        self.want(message)


class Hands(Protocol):
    """Threads of the task whose partition it is."""

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any: ...
    async def blocking(self, function: Callable[..., Any], *args: Any) -> Any: ...


class Adopter:
    """Adopts for one state of one partition."""

    def __init__(self, desk: Desk, partition: TopicPartition, hands: Hands) -> None:
        self._desk, self._partition, self._hands = desk, partition, hands
        self._change = 0  # the newest that was looked at
        self._series = (0, 0)  # how many there were, and how many had been evicted, when all was looked at
        self._open: deque[Place] = deque()  # where something may be due

    async def adopt(self, pipeline: Pipeline, next_offset: int) -> list[Adopted]:
        """Bring the engine closer to what should serve; the entries for the journal, at ``next_offset``."""
        if not self._desk.ready:
            return []
        engine: Engine = pipeline.engine
        self._look(engine)
        entries: list[Adopted] = []
        until = time.monotonic() + ADOPTING_S
        while self._open:
            due = self._desk.due(engine, self._open.popleft())
            if due is not None and (entry := await self._take(pipeline, due, next_offset)) is not None:
                entries.append(entry)
            if time.monotonic() > until:
                break
        return entries

    def _look(self, engine: Engine) -> None:
        """Note where models have changed; everywhere once series have come or gone, then as time permits."""
        series = len(engine.series), engine.series.evictions
        if not self._open and series != self._series:
            self._change, self._series = 0, series
        if self._change != self._desk.changes:
            self._open += self._desk.since(self._change)
            self._change = self._desk.changes

    async def _take(self, pipeline: Pipeline, due: Due, next_offset: int) -> Adopted | None:
        entry = due.entry(self._partition, next_offset)
        try:
            message = await self._hands.blocking(self._desk.read, *due)
            await self._hands.compute(pipeline.adopt, entry, message)
        except (MissingArtifactError, ValueError) as error:
            self._desk.refuse("unusable", due.artifact_id, str(error))
            self._desk.drop(due)
            return None
        self._desk.adopted(due)
        return entry
