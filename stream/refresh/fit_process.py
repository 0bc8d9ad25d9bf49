"""One process that fits, from outside: given jobs, watched, and ended when it hangs or grows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from typing import Final

import msgspec

from schemas.request import Failure
from stream.refresh.jobs import Job, NotDone, Outcome

LOOK_EVERY_S: Final = 0.05
"""How often the memory of a fit is looked at. Longer lets one that grows fast take more than its limit."""

STOP_TIMEOUT_S: Final = 5.0
"""For a killed process to be gone; longer would only wait for the kernel."""

_THREADS: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Several fits share the machine: threads of theirs would only get into each other's way."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_decode = msgspec.msgpack.Decoder(list[Outcome]).decode


class FitProcess:
    """One child; it is started when it is needed and again after it was ended."""

    def __init__(self, memory_limit_bytes: int) -> None:
        self._limit_bytes = memory_limit_bytes
        self._process: Process | None = None

    async def run(self, job: Job, deadline_s: float) -> list[Outcome] | NotDone:
        """Do a job: an outcome for each request, or why there is none. Cancelling ends the process, too."""
        process = await self._started()
        asking = asyncio.create_task(_ask(process, msgspec.msgpack.encode(job)))
        try:
            verdict = await self._watch(asking, process.pid, time.monotonic() + deadline_s)
            if verdict is not None:
                return verdict
            answer = asking.result()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.stop()
            return NotDone(Failure.DIED, f"the process of the fit ended with status {process.returncode}")
        finally:
            if not asking.done() or asking.cancelled():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await self.stop()
        outcomes: list[Outcome] = _decode(answer)
        return outcomes

    async def _watch(self, asking: asyncio.Task[bytes], pid: int, deadline: float) -> NotDone | None:
        while True:
            await asyncio.wait([asking], timeout=LOOK_EVERY_S)
            if asking.done():
                return None
            if time.monotonic() > deadline:
                return NotDone(Failure.DEADLINE, "the fit took longer than its deadline and was ended")
            if (used := _resident_bytes(pid)) > self._limit_bytes:
                return NotDone(Failure.MEMORY, f"the fit used {used} bytes, its limit is {self._limit_bytes}")

    async def start(self) -> None:
        """Start the child before its first job: loading takes seconds."""
        await self._started()

    async def stop(self) -> None:
        """End the child, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a fit may have children, as Prophet's optimizer
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "stream.refresh.fitting",
                stdin=PIPE,
                stdout=PIPE,
                env=os.environ | _THREADS,
                start_new_session=True,
            )
        return self._process


async def _ask(process: Process, message: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise ConnectionError("the process of the fit has no pipes")
    process.stdin.write(len(message).to_bytes(4, "little") + message)
    await process.stdin.drain()
    head = await process.stdout.readexactly(4)
    return await process.stdout.readexactly(int.from_bytes(head, "little"))


def _resident_bytes(pid: int) -> int:
    """Of a process and those that it has started, as Prophet starts its optimizer.

    Zero where it cannot be told: the process has just ended.
    """
    return sum(_pages(each) for each in _descendants(pid)) * _PAGE_BYTES


def _descendants(pid: int) -> list[int]:
    """The processes that descend from one, itself included."""
    found = [pid]
    for each in found:  # grows meanwhile
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):  # noqa: PTH208  # twenty times a second
                with open(f"/proc/{each}/task/{task}/children", encoding="ascii") as file:  # noqa: PTH123
                    found += [int(child) for child in file.read().split()]
    return found


def _pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123  # twenty times a second
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0
