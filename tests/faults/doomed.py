"""`python -c "from tests.faults.doomed import main; main()" POINT COUNT`: a worker that kills itself.

It reads its configuration as `bench.processes.PROGRAM` does, and dies by SIGKILL the COUNT-th time that it
comes to the named point of a commit or of a snapshot. Whatever partition it has then, has just that open.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from schemas.config import Config
from stream.kafka import TransactionalProducer
from stream.worker import worker
from stream.worker.snapshots import SnapshotStore
from tests.faults.member import talk

PROGRAM: Final = "from tests.faults.doomed import main; main()"

POINTS: Final = {
    "kill after begin": (TransactionalProducer, "begin", "after"),
    "kill after send": (TransactionalProducer, "send", "after"),
    "kill before commit": (TransactionalProducer, "commit", "before"),
    "kill after commit": (TransactionalProducer, "commit", "after"),
    "kill during a snapshot": (SnapshotStore, "_prune", "before"),
}
"""Where: the class, its method, and whether before or after its work is done."""


def main() -> None:
    talk()
    owner, name, when = POINTS[sys.argv[1]]
    left = int(sys.argv[2])

    def count() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    real = getattr(owner, name)
    asynchronous = owner is TransactionalProducer
    setattr(owner, name, (_asynchronous if asynchronous else _blocking)(real, when, count))
    worker.main(msgspec.json.decode(sys.stdin.buffer.read(), type=Config))


def _asynchronous(real: Callable[..., Any], when: str, count: Callable[[], None]) -> Callable[..., Any]:
    async def counted(*args: Any) -> Any:
        if when == "before":
            count()
        result = await real(*args)
        if when == "after":
            count()
        return result

    return counted


def _blocking(real: Callable[..., Any], when: str, count: Callable[[], None]) -> Callable[..., Any]:
    def counted(*args: Any) -> Any:
        if when == "before":
            count()
        result = real(*args)
        if when == "after":
            count()
        return result

    return counted
