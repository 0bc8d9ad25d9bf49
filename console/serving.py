"""Which fitted model serves each series: `/find` judges with it instead of fitting one again."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from detectors import registry
from detectors.batch import is_batch
from schemas import config
from schemas.artifact import ArtifactMessage, Manifest
from schemas.find import Fitted
from stream.kafka import Record
from stream.kafka.following import follow
from stream.refresh.artifacts import CANDIDATE

READY_S: Final = 5.0
"""For reading the topic after a start. Shorter and the first questions are fitted again; longer and they wait
for a broker that is away."""


class Serving:
    """The manifests of the artifacts that serve, as their topic says; about 1 KB each."""

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self._manifests: dict[str, Manifest] = {}
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await follow(self._cfg.kafka, self._cfg.topics.artifacts.name, self._record, self._ready.set)

    async def of(self, model: str, series: str, first_ms: int, last_ms: int) -> Fitted | None:
        """The one of a series that can judge samples between these times."""
        detector: Any = registry.load(model)
        if not is_batch(detector):
            return None
        try:
            async with asyncio.timeout(READY_S):
                await self._ready.wait()
        except TimeoutError:
            return None
        manifest = self._manifests.get(f"{model}/{series}")
        if manifest is None or manifest.version != detector.version:
            return None
        # A forecast begins with its history and has an end.
        reach = getattr(detector, "reach_ms", None)
        if reach is not None:
            end_ms = manifest.trained_to_ms + reach(manifest.params)
            if not manifest.trained_from_ms <= first_ms <= last_ms < end_ms:
                return None
        return Fitted(series, manifest.artifact_id)

    async def _record(self, record: Record) -> None:
        self.take(record.key, record.value)

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Note a message of the topic; a damaged one is passed over, as the workers do."""
        name = (key or b"").decode(errors="replace")
        if name.startswith(CANDIDATE):
            return
        if value is None:
            self._manifests.pop(name, None)
            return
        try:
            self._manifests[name] = ArtifactMessage.decode(value).manifest
        except ValueError:
            return
