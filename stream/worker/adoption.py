"""Fitted models on their way into the partitions of a worker.

One side consumer of a worker reads the compacted topic; `Desk` knows what should serve. A partition compares
that with what its engine has at a batch boundary, adopts the difference, and writes it to the journal in the
same transaction. Comparing instead of passing messages on makes it all the same whether a partition came
late, a series began after its model, or an evicted series returned.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
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

ADOPTED_PER_BATCH: Final = 8
"""Most models that one batch adopts. More of them at once would make its samples late; fewer make a partition
that many series share slow to take a refresh over."""

CACHE_BYTES: Final = 64 * 1024 * 1024
"""Of models that came a moment ago, so that partitions need not read them from the store."""


class Due(NamedTuple):
    """A model that a partition should take."""

    detector: str
    series: str
    artifact_id: str

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
        self._wanted: dict[tuple[str, str], str] = {}
        self._recent: OrderedDict[str, ArtifactMessage] = OrderedDict()
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
            self._wanted.pop((detector, series), None)
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
        self._wanted[manifest.detector, manifest.series] = manifest.artifact_id
        self._recent[manifest.artifact_id] = message
        self._recent.move_to_end(manifest.artifact_id)
        while sum(each.manifest.size for each in self._recent.values()) > CACHE_BYTES:
            self._recent.popitem(last=False)
        self.changes += 1

    def refuse(self, reason: str, name: str, text: str) -> None:
        self._metrics.counter(m.ARTIFACTS_REFUSED, reason).inc()
        log.error("artifact refused; the old one stays", artifact=name, reason=reason, cause=text)

    def drop(self, due: Due) -> None:
        """Do not offer again what an engine has refused."""
        if self._wanted.get((due.detector, due.series)) == due.artifact_id:
            del self._wanted[due.detector, due.series]

    def adopted(self, due: Due) -> None:
        self._metrics.counter(m.ARTIFACTS_ADOPTED, due.detector).inc()
        log.info("artifact adopted", detector=due.detector, series=due.series, artifact=due.artifact_id)

    def due(self, engine: Engine) -> list[Due]:
        """What should serve and does not, of series and groups that the engine has."""
        return [
            Due(detector, series, artifact_id)
            for (detector, series), artifact_id in self._wanted.items()
            if engine.serving(series, detector) not in {None, artifact_id}
        ]

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
        self._looked: tuple[object, ...] = ()

    async def adopt(self, pipeline: Pipeline, next_offset: int) -> list[Adopted]:
        """Bring the engine closer to what should serve; the entries for the journal, at ``next_offset``."""
        engine: Engine = pipeline.engine
        if not self._desk.ready:
            return []
        state = (self._desk.changes, len(engine.series), engine.series.evictions)
        if state == self._looked:
            return []
        due = self._desk.due(engine)
        if len(due) <= ADOPTED_PER_BATCH:
            self._looked = state
        entries = []
        for each in due[:ADOPTED_PER_BATCH]:
            entry = each.entry(self._partition, next_offset)
            try:
                message = await self._hands.blocking(self._desk.read, *each)
                await self._hands.compute(pipeline.adopt, entry, message)
            except (MissingArtifactError, ValueError) as error:
                self._desk.refuse("unusable", each.artifact_id, str(error))
                self._desk.drop(each)
                continue
            self._desk.adopted(each)
            entries.append(entry)
        return entries
