"""A TCP proxy before ClickHouse's HTTP port: delays replies, loses those of inserts, takes rights away."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Self

from stream.local.process import LOOPBACK

INSERT = re.compile(rb"query=INSERT\+INTO\+(?:%60)?(\w+)")


class HttpProxy:
    """Passes bytes on. A client waits for each reply, so a reply belongs to the last request."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._open: set[asyncio.StreamWriter] = set()
        self.delay_s = 0.0
        self.lose: set[bytes] = set()
        """Tables: the reply of the next insert into each is lost, once it has succeeded."""
        self.delayed = 0
        self.readonly = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._upstream)
        except OSError:
            writer.close()
            return
        self._open |= {writer, up_writer}
        state = _Request()
        ways = [
            asyncio.create_task(self._requests(reader, up_writer, state)),
            asyncio.create_task(self._replies(up_reader, writer, state)),
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

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: _Request
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if data.startswith(b"POST /?"):
                    # The client puts the statement into the URL when the body is Arrow.
                    found = INSERT.search(data.partition(b" HTTP/1.1")[0])
                    state.table = found[1] if found else b""
                    if self.readonly:  # as a user with this setting in its profile has it
                        data = data.replace(b"POST /?", b"POST /?readonly=1&", 1)
                writer.write(data)
                await writer.drain()

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: _Request
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if state.table in self.lose and data.startswith(b"HTTP/1.1 200"):
                    self.lose.discard(state.table)
                    return
                if self.delay_s:
                    self.delayed += 1
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()


class _Request:
    """What a connection sent last."""

    table = b""  # of an insert
