"""`python -c "from tests.faults.member import main; main()"`: a worker that tells at SIGUSR1 what it awaits.

It reads its configuration as `bench.processes.PROGRAM` does.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import sys
from typing import Final

import msgspec

from schemas.config import Config
from stream.worker import worker

PROGRAM: Final = "from tests.faults.member import main; main()"


def main() -> None:
    talk()
    worker.main(msgspec.json.decode(sys.stdin.buffer.read(), type=Config))


def talk() -> None:
    """Log what the Kafka client does; the stacks of all tasks and threads at SIGUSR1."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("aiokafka.consumer").setLevel(logging.INFO)
    signal.signal(signal.SIGUSR1, lambda *_: _explain())


def _explain() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    faulthandler.dump_traceback()
