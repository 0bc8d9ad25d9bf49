"""Fitted models: the store that keeps each of them, and the compacted topic that says which one serves.

The newest message under the key ``DETECTOR/SERIES`` is the artifact in use; under ``candidate/...`` one that
waits for a person. Compaction drops older ones from the topic, but a rollback and a worker's replay need
them: the store beside the snapshots keeps them, one object each, named by what is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import fsspec
import xxhash

from detectors.batch import Artifact, BatchDetector, History, pack, sha256
from schemas import config
from schemas.artifact import ArtifactMessage, Manifest
from stream.errors import UserError
from stream.kafka import producer
from stream.kafka.following import committed

CANDIDATE: Final = "candidate/"
"""Begins the key of an artifact that nobody has adopted yet."""

KEPT: Final = 8
"""Artifacts of a series and detector in the store. A replay that reaches further back than this many
refreshes begins anew instead; a rollback cannot go further either."""

READ_TIMEOUT_S: Final = 60.0
"""For reading the topic to its end: gigabytes with many series. Too short fails `tocsin artifacts list`."""

_SUFFIX: Final = ".artifact"


class MissingArtifactError(Exception):
    """The store does not have it, or has something else in its place."""


class Stored(NamedTuple):
    """An artifact by its name in the store."""

    path: str
    artifact_id: str
    trained_to_ms: int


class Shown(NamedTuple):
    """A manifest on the topic; ``serving`` says that it is in use, not a candidate."""

    manifest: Manifest
    serving: bool


def packed(
    detector: type[BatchDetector],
    params: Mapping[str, Any],
    series: str,
    history: History,
    seed: int,
    made: Artifact,
    report: Mapping[str, Any],
) -> ArtifactMessage:
    """The artifact with its manifest; the id is a hash of what it was made for and what it is."""
    payload = pack(made)
    digest = sha256(payload)
    trained = (int(history.ts_ms[0]), int(history.ts_ms[-1]) + 1) if len(history.ts_ms) else (0, 0)
    name = f"{detector.name}/{series}/{trained}/{digest}"
    manifest = Manifest(
        artifact_id=sha256(name.encode())[:16],
        detector=detector.name,
        version=detector.version,
        series=series,
        trained_from_ms=trained[0],
        trained_to_ms=trained[1],
        seed=seed,
        sha256=digest,
        size=len(payload),
        params=dict(params),
        report=dict(report),
    )
    return ArtifactMessage(manifest, payload)


class ArtifactStore:
    """Artifacts under ``URL/artifacts``. Blocking; errors come as the store's own, mostly ``OSError``."""

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = f"{root.rstrip('/')}/artifacts"

    def put(self, message: ArtifactMessage) -> None:
        """Keep an artifact; one that is there stays. Drops the oldest of its series beyond `KEPT`."""
        manifest = message.manifest
        if self._has(manifest):
            return
        path = self._path(manifest)
        self._fs.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH120  # an fsspec path is a text
        temporary = f"{path}.{uuid.uuid4().hex[:8]}"
        with self._fs.open(temporary, "wb") as file:
            file.write(message.encode())
        self._fs.mv(temporary, path)
        for old in self.find(manifest.detector, manifest.series)[KEPT:]:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                self._fs.rm_file(old.path)

    def get(self, detector: str, series: str, artifact_id: str) -> ArtifactMessage:
        """An artifact that is sound; raises `MissingArtifactError`."""
        for each in self.find(detector, series):
            if each.artifact_id == artifact_id:
                try:
                    with self._fs.open(each.path, "rb") as file:
                        return ArtifactMessage.decode(file.read())
                except (OSError, ValueError) as error:
                    raise MissingArtifactError(f"artifact {artifact_id}: {error}") from error
        raise MissingArtifactError(f"artifact {artifact_id} of {detector} for {series} is not in the store")

    def find(self, detector: str, series: str) -> list[Stored]:
        """What there is of a series and detector, newest first; names alone are read."""
        folder = self._folder(detector, series)
        self._fs.invalidate_cache(folder)
        try:
            paths: list[str] = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        found = []
        for path in paths:
            name = path.rsplit("/", 1)[-1]
            trained, _, artifact_id = name.removesuffix(_SUFFIX).partition("-")
            if name.endswith(_SUFFIX) and trained.isdecimal():
                found.append(Stored(path, artifact_id, int(trained)))
        return sorted(found, key=lambda each: (each.trained_to_ms, each.artifact_id), reverse=True)

    def _has(self, manifest: Manifest) -> bool:
        try:
            self.get(manifest.detector, manifest.series, manifest.artifact_id)
        except MissingArtifactError:
            return False
        return True

    def _folder(self, detector: str, series: str) -> str:
        return f"{self._root}/{detector}/{xxhash.xxh64_hexdigest(series.encode())}"

    def _path(self, manifest: Manifest) -> str:
        name = f"{manifest.trained_to_ms:013d}-{manifest.artifact_id}{_SUFFIX}"
        return f"{self._folder(manifest.detector, manifest.series)}/{name}"


def store_of(cfg: config.Config) -> ArtifactStore:
    return ArtifactStore(cfg.snapshots.url)


def key(manifest: Manifest, *, serving: bool) -> bytes:
    return f"{'' if serving else CANDIDATE}{manifest.key}".encode()


async def on_topic(cfg: config.Config) -> list[Shown]:
    """The artifacts on the topic, serving ones and candidates."""
    newest: dict[bytes, Shown] = {}
    async with asyncio.timeout(READ_TIMEOUT_S):
        async for record in committed(cfg.kafka, cfg.topics.artifacts.name):
            if record.key is None or record.value is None:
                newest.pop(record.key or b"", None)
                continue
            with contextlib.suppress(ValueError):
                manifest = ArtifactMessage.decode(record.value).manifest
                newest[record.key] = Shown(manifest, not record.key.startswith(CANDIDATE.encode()))
    serving = {s.manifest.artifact_id for s in newest.values() if s.serving}
    return [s for s in newest.values() if s.serving or s.manifest.artifact_id not in serving]


async def publish(cfg: config.Config, message: ArtifactMessage, *, serving: bool) -> None:
    """Send one artifact; returns once Kafka has it."""
    client = producer(cfg.kafka)
    await client.start()
    try:
        await client.send_and_wait(
            cfg.topics.artifacts.name, message.encode(), key=key(message.manifest, serving=serving)
        )
    finally:
        await client.stop()


async def adopt(cfg: config.Config, artifact_id: str) -> Manifest:
    """Put an artifact into use that is on the topic or in the store beside one that is."""
    store = store_of(cfg)
    for detector, series in {(s.manifest.detector, s.manifest.series) for s in await on_topic(cfg)}:
        if any(each.artifact_id == artifact_id for each in store.find(detector, series)):
            message = store.get(detector, series, artifact_id)
            await publish(cfg, message, serving=True)
            return message.manifest
    raise UserError(f"there is no artifact {artifact_id}: `tocsin artifacts list` shows what there is")


async def rollback(cfg: config.Config, detector: str, series: str) -> Manifest:
    """Put the artifact into use that was fitted before the serving one."""
    shown = await on_topic(cfg)
    wanted = (detector, series)
    now = next(
        (s.manifest for s in shown if s.serving and (s.manifest.detector, s.manifest.series) == wanted), None
    )
    if now is None:
        raise UserError(f"no artifact of {detector} serves {series}")
    earlier = [
        each for each in store_of(cfg).find(detector, series) if each.trained_to_ms < now.trained_to_ms
    ]
    if not earlier:
        raise UserError(f"there is no earlier artifact of {detector} for {series}")
    message = store_of(cfg).get(detector, series, earlier[0].artifact_id)
    await publish(cfg, message, serving=True)
    return message.manifest
