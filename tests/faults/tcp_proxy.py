"""A TCP proxy on loopback; what it does to requests and replies is told by those who extend it."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Generic, Self, TypeVar

from stream.local.process import LOOPBACK

State = TypeVar("State")


class TcpProxy(abc.ABC, Generic[State]):
    """Serves while entered. ``State`` is what the two ways of one connection share."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections; new ones are taken."""
        for writer in list(self._open):
            writer.close()

    @abc.abstractmethod
    def connected(self) -> State:
        """The state of a new connection."""

    @abc.abstractmethod
    async def requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: State
    ) -> None:
        """Pass on what the client sends, until either side ends."""

    @abc.abstractmethod
    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: State) -> None:
        """Pass on what the server sends; to return ends the connection."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self.upstream_port)
        except OSError:
            writer.close()
            return
        self._open |= {writer, up_writer}
        state = self.connected()
        ways = [
            asyncio.create_task(_until_closed(self.requests(reader, up_writer, state))),
            asyncio.create_task(_until_closed(self.replies(up_reader, writer, state))),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the test's loop ends; asyncio would log it as an error
            pass
        finally:
            for way in ways:
                way.cancel()
            for each in (writer, up_writer):
                each.close()
                self._open.discard(each)


async def _until_closed(way: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await way
