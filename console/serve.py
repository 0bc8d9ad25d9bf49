"""`tocsin console`: the API as a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvicorn

from console.api import create_app
from schemas import config
from stream.errors import UserError
from stream.local.process import LocalRuntimeError, require_free_port
from stream.refresh.asking import Asker
from stream.running import until_signal


async def run(cfg: config.Config, stop: asyncio.Event, started: Callable[[str], None] | None = None) -> None:
    """Serve until ``stop`` is set; ``started`` hears the URL once requests are taken."""
    asker = await Asker.connect(cfg)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(cfg, asker.find),
            host=cfg.console.host,
            port=cfg.console.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    serving = asyncio.create_task(server._serve())  # noqa: SLF001  # serve() takes the signals that are ours
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        if started is not None and server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            started(f"http://{cfg.console.host}:{port}")
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait([waiting, serving], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        server.should_exit = True
        await serving
    finally:
        await asker.close()


def main(cfg: config.Config) -> None:
    """Serve as this process, until SIGTERM or SIGINT; raises `UserError` when the port is taken."""
    try:
        require_free_port(cfg.console.port, "the API")
    except LocalRuntimeError as error:
        raise UserError(f"{error} (console.port)") from None
    until_signal(lambda stop: run(cfg, stop))
