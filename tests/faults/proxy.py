"""A TCP proxy before a Kafka broker that can cut and delay connections, and lose one kind of reply."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Self

from stream.local.process import LOOPBACK

END_TXN = 26  # the request that commits or aborts a transaction
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes whole Kafka frames on; the broker's address in its replies is replaced by the proxy's own."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._open: set[asyncio.StreamWriter] = set()
        self._running = asyncio.Event()
        self._running.set()
        self._lose_replies = 0
        self.lost_replies = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def cut(self) -> None:
        """Close all connections; new ones are taken."""
        for writer in list(self._open):
            writer.close()

    async def delay(self, seconds: float) -> None:
        """Hold everything back for a while."""
        self._running.clear()
        await asyncio.sleep(seconds)
        self._running.set()

    def lose_end_replies(self, count: int) -> None:
        """The broker ends the next transactions, but the reply is lost with its connection."""
        self._lose_replies = count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._broker_port)
        except OSError:
            writer.close()
            return
        self._open |= {writer, up_writer}
        ends: set[int] = set()  # correlation ids of requests that end a transaction
        ways = [
            asyncio.create_task(self._requests(reader, up_writer, ends)),
            asyncio.create_task(self._replies(up_reader, writer, ends)),
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
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[int]
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                key, _version, correlation = struct.unpack(">hhi", frame[:8])
                if key == END_TXN:
                    ends.add(correlation)
                await self._pass(writer, frame)

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[int]
    ) -> None:
        theirs = LOOPBACK.encode() + struct.pack(">i", self._broker_port)
        mine = LOOPBACK.encode() + struct.pack(">i", self.port)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                if struct.unpack(">i", frame[:4])[0] in ends:
                    ends.discard(struct.unpack(">i", frame[:4])[0])
                    if self._lose_replies:
                        self._lose_replies -= 1
                        self.lost_replies += 1
                        return
                await self._pass(writer, frame.replace(theirs, mine) if len(frame) < 20_000 else frame)

    async def _pass(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        await self._running.wait()
        writer.write(struct.pack(">i", len(frame)) + frame)
        await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)
