"""A process that works until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop


def until_signal(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a coroutine function in a loop of its own; SIGTERM and SIGINT set the event that it is given."""
    uvloop.run(_until_signal(run))


async def _until_signal(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(stop)
