"""Fitted models on their way from a trainer to the workers: the compacted topic `tocsin.artifacts`."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact is, how it came about and how it did in its shadow report.

    ``artifact_id`` names it in events and in the journal. ``series`` is the canonical text of a series, or
    of a group for a detector of many channels. The history was ``[trained_from_ms, trained_to_ms)`` in Unix
    milliseconds. ``sha256`` (hex) and ``size`` (bytes) are of the payload. ``version`` is the detector's.
    """

    artifact_id: str
    detector: str
    version: int
    series: str
    trained_from_ms: int
    trained_to_ms: int
    seed: int
    sha256: str
    size: int
    params: dict[str, Any] = {}
    report: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """The key of its message: the newest artifact of a detector and series is kept."""
        return f"{self.detector}/{self.series}"


class ArtifactMessage(msgspec.Struct, frozen=True):
    """A manifest and the safetensors bytes it is about, as MessagePack."""

    manifest: Manifest
    payload: bytes

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, message: bytes) -> ArtifactMessage:
        """Raises ``ValueError`` where it is no such message or its payload is not what the manifest says."""
        found = msgspec.msgpack.decode(message, type=cls)
        digest = hashlib.sha256(found.payload).hexdigest()
        if (digest, len(found.payload)) != (found.manifest.sha256, found.manifest.size):
            raise ValueError(f"artifact {found.manifest.artifact_id} has sha256 {digest}, not the manifest's")
        return found
