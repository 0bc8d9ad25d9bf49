"""What goes to a process that fits, and what comes back: MessagePack, 4 bytes of length before each."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from schemas import config
from schemas.find import Found
from schemas.request import Failure, Find, Refit


class Job(msgspec.Struct, frozen=True):
    """A question, or refits of one detector with the same parameters; and the configuration for it."""

    requests: list[Refit | Find]
    cfg: config.Config


class Done(msgspec.Struct, frozen=True, tag="done"):
    """``message`` is an encoded `schemas.artifact.ArtifactMessage`."""

    message: bytes


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    found: Found


class NotDone(msgspec.Struct, frozen=True, tag="not_done"):
    reason: Failure
    text: str


Outcome = Done | Answered | NotDone


def receive(stream: BinaryIO) -> bytes | None:
    """The next message, None at the end."""
    head = stream.read(4)
    return stream.read(int.from_bytes(head, "little")) if len(head) == 4 else None


def send(stream: BinaryIO, message: bytes) -> None:
    stream.write(len(message).to_bytes(4, "little") + message)
    stream.flush()
