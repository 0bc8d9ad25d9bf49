"""A TCP proxy before ClickHouse's HTTP port: delays replies, loses those of inserts, takes rights away."""

from __future__ import annotations

import asyncio
import re

from tests.faults.tcp_proxy import TcpProxy

INSERT = re.compile(rb"query=INSERT\+INTO\+(?:%60)?(\w+)")


class Request:
    """What a connection sent last."""

    table = b""  # of an insert


class HttpProxy(TcpProxy[Request]):
    """Passes bytes on. A client waits for each reply, so a reply belongs to the last request."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.delay_s = 0.0
        self.lose: set[bytes] = set()
        """Tables: the reply of the next insert into each is lost, once it has succeeded."""
        self.delayed = 0
        self.readonly = False

    def connected(self) -> Request:
        return Request()

    async def requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Request
    ) -> None:
        while data := await reader.read(65536):
            if data.startswith(b"POST /?"):
                # The client puts the statement into the URL when the body is Arrow.
                found = INSERT.search(data.partition(b" HTTP/1.1")[0])
                state.table = found[1] if found else b""
                if self.readonly:  # as a user with this setting in its profile has it
                    data = data.replace(b"POST /?", b"POST /?readonly=1&", 1)
            writer.write(data)
            await writer.drain()

    async def replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Request
    ) -> None:
        while data := await reader.read(65536):
            if state.table in self.lose and data.startswith(b"HTTP/1.1 200"):
                self.lose.discard(state.table)
                return
            if self.delay_s:
                self.delayed += 1
                await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
