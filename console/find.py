"""Jobs of `/find`: one question to each model, answered by the trainers or from the cache."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from schemas.find import FindTask, Found
from stream.errors import UserError

MAX_JOBS: Final = 1000
"""Remembered at once; of more, the oldest that has ended is forgotten."""

Status = Literal["waiting", "running", "done", "failed", "cancelled"]
Progress = Callable[[float], None]
Executor = Callable[[FindTask, Progress], Awaitable[Found]]
"""Answers one question, telling the share that is done; cancelling it gives the work up."""


class Cache:
    """Answers by content of the question, the least recently used dropped beyond ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._found: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> Found | None:
        packed = self._found.get(key)
        if packed is None:
            return None
        self._found.move_to_end(key)
        found: Found = msgspec.msgpack.decode(packed, type=Found)
        return found

    def put(self, key: str, found: Found) -> None:
        packed = msgspec.msgpack.encode(found)
        self._bytes += len(packed) - len(self._found.pop(key, b""))
        self._found[key] = packed
        while self._bytes > self._max_bytes:
            _, oldest = self._found.popitem(last=False)
            self._bytes -= len(oldest)


@dataclass
class Part:
    """One model of a job."""

    task: FindTask
    status: Status = "waiting"
    done: float = 0.0
    found: Found | None = None
    error: str = ""


@dataclass
class Job:
    """A question to several models; ``changed`` is set and replaced at each step of one."""

    job_id: str
    parts: dict[str, Part]
    cancelled: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    runner: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return all(part.status in {"done", "failed", "cancelled"} for part in self.parts.values())

    @property
    def status(self) -> Literal["running", "done", "cancelled"]:
        if self.cancelled:
            return "cancelled"
        return "done" if self.ended else "running"

    def tell(self) -> None:
        """Wake up who waits for news."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until it has ended, at most so long."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            changed = self.changed
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return


class Jobs:
    """All jobs of this process."""

    def __init__(self, execute: Executor, cache: Cache, deadline_s: float) -> None:
        self._execute, self._cache, self._deadline_s = execute, cache, deadline_s
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def start(self, tasks: Mapping[str, FindTask]) -> Job:
        """Begin; raises `UserError` when too many are at work."""
        self._make_room()
        job = Job(secrets.token_urlsafe(12), {name: Part(task) for name, task in tasks.items()})
        self._jobs[job.job_id] = job
        job.runner = asyncio.create_task(self._run(job))
        return job

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Give up what has not ended; the work of a trainer is stopped too."""
        if job.runner is not None and not job.ended:
            job.cancelled = True
            job.runner.cancel()

    async def close(self) -> None:
        runners = [job.runner for job in self._jobs.values() if job.runner and not job.runner.done()]
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)

    def _make_room(self) -> None:
        if len(self._jobs) < MAX_JOBS:
            return
        ended = next((job_id for job_id, job in self._jobs.items() if job.ended), None)
        if ended is None:
            raise UserError(f"{MAX_JOBS} questions are being worked on: ask again later")
        del self._jobs[ended]

    async def _run(self, job: Job) -> None:
        async with asyncio.TaskGroup() as group:
            for part in job.parts.values():
                group.create_task(self._answer(job, part))

    async def _answer(self, job: Job, part: Part) -> None:
        key = content_key(part.task)
        part.found = self._cache.get(key)
        try:
            if part.found is None:
                part.found = await self._work(job, part)
                self._cache.put(key, part.found)
            part.status, part.done = "done", 1.0
        except TimeoutError:
            part.status = "failed"
            part.error = (
                f"not done after {self._deadline_s:.0f} s: ask for a shorter range, "
                "or raise console.find_deadline_ms"
            )
        except (UserError, ValueError) as error:
            part.status, part.error = "failed", str(error)
        except asyncio.CancelledError:
            part.status = "cancelled"
            raise
        finally:
            job.tell()

    async def _work(self, job: Job, part: Part) -> Found:
        def progress(share: float) -> None:
            part.status, part.done = "running", min(max(share, part.done), 1.0)
            job.tell()

        async with asyncio.timeout(self._deadline_s):
            return await self._execute(part.task, progress)


def content_key(task: FindTask) -> str:
    """The same for the same samples, model and parameters."""
    return hashlib.sha256(msgspec.msgpack.encode(task, order="sorted")).hexdigest()
