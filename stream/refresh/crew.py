"""The processes of a trainer and the requests that wait for one; what fits together better goes together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from detectors import registry
from detectors.batch import fits_many
from schemas import config
from schemas.request import Failure, Find, Refit
from stream import metrics as m
from stream.errors import UserError
from stream.refresh.fit_process import FitProcess
from stream.refresh.jobs import Job, NotDone, Outcome
from stream.refresh.settings import settings_of

GATHER_S: Final = 0.5
"""A request that is fitted better with others waits this long for them: those of one look at the timetable
come within milliseconds. Longer only delays, by little against a fit."""

_OF_ONE: Final = frozenset({Failure.DEADLINE, Failure.MEMORY, Failure.DIED})
"""Failures of a process, which one request of several has caused: each is tried alone."""


class Spent(NamedTuple):
    """An outcome, and the seconds that it took, of several together the share of one."""

    outcome: Outcome
    seconds: float


class _Waiting(NamedTuple):
    asked: Refit | Find
    kind: str  # those of one kind, which is not empty, are fitted together
    answer: asyncio.Future[Spent]


class Crew:
    """Gives each request to an idle process; not more at a time than there are processes.

    Where there are several, refits leave one to the questions that are here: refits take minutes, and what
    they may take of the machine is bounded as well.
    """

    def __init__(
        self, cfg: config.Config, metrics: m.Metrics, begun: Callable[[Refit | Find], Awaitable[None]]
    ) -> None:
        """``begun`` is told when work on a request begins."""
        self._cfg, self._metrics, self._begun = cfg, metrics, begun
        limit = cfg.trainer.memory_limit_bytes
        self._processes = [FitProcess(limit) for _ in range(cfg.trainer.processes)]
        self._idle = list(self._processes)
        self._for_refits = max(1, len(self._processes) - 1)
        self._waiting: list[_Waiting] = []
        self._runs: dict[asyncio.Task[None], list[_Waiting]] = {}

    async def start(self) -> None:
        """Start the processes before their first job: loading takes seconds."""
        await asyncio.gather(*(process.start() for process in self._processes))

    async def stop(self) -> None:
        """End the processes; whoever waits has been cancelled."""
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        await asyncio.gather(*(process.stop() for process in self._processes))

    async def work(self, asked: Refit | Find) -> Spent:
        """Do it. Cancelling gives it up; a process that works for nobody any more is ended."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(asked, self._kind(asked), loop.create_future())
        self._waiting.append(waiting)
        loop.call_later(GATHER_S if waiting.kind else 0.0, self._dispatch)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            self._waiting = [each for each in self._waiting if each.answer is not waiting.answer]
            for run, stack in self._runs.items():
                if all(each.answer.done() for each in stack):
                    run.cancel()
            raise

    def _kind(self, asked: Refit | Find) -> str:
        if isinstance(asked, Find) or self._cfg.trainer.stack == 1:
            return ""
        try:
            if not fits_many(registry.load(asked.detector)):
                return ""
            return f"{asked.detector} {settings_of(self._cfg, asked).params}"
        except (UserError, ValueError):  # told by the process, with the reason
            return ""

    def _dispatch(self) -> None:
        while self._idle and (stack := self._next()):
            run = asyncio.create_task(self._run(self._idle.pop(), stack))
            self._runs[run] = stack
            run.add_done_callback(self._ended)

    def _ended(self, run: asyncio.Task[None]) -> None:
        del self._runs[run]
        self._dispatch()

    def _next(self) -> list[_Waiting]:
        """The first that waits and may begin, and its like, shared among the processes that they may have."""
        refits = sum(isinstance(stack[0].asked, Refit) for stack in self._runs.values())
        free = min(len(self._idle), self._for_refits - refits)
        able = [each for each in self._waiting if free > 0 or isinstance(each.asked, Find)]
        if not able:
            return []
        first = able[0]
        alike = [each for each in able if first.kind and each.kind == first.kind] or [first]
        stack = alike[: min(-(-len(alike) // max(1, free)), self._cfg.trainer.stack)]
        self._waiting = [each for each in self._waiting if each not in stack]
        return stack

    async def _run(self, process: FitProcess, stack: list[_Waiting]) -> None:
        busy, began = self._metrics.gauge(m.TRAINER_BUSY), time.monotonic()
        busy.inc()
        try:
            await asyncio.gather(*(self._begun(each.asked) for each in stack))
            job = Job([each.asked for each in stack], self._cfg)
            deadline_s = sum(each.asked.deadline_ms for each in stack) / 1000
            found = await process.run(job, deadline_s)
        except Exception as error:  # noqa: BLE001  # whoever asked raises it
            for each in stack:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        finally:
            busy.dec()
            self._idle.append(process)
        if isinstance(found, NotDone) and found.reason in _OF_ONE and len(stack) > 1:
            self._waiting += [each._replace(kind="") for each in stack if not each.answer.done()]
            return
        outcomes = [found] * len(stack) if isinstance(found, NotDone) else found
        seconds = (time.monotonic() - began) / len(stack)
        for each, outcome in zip(stack, outcomes, strict=True):
            if not each.answer.done():
                each.answer.set_result(Spent(outcome, seconds))
