"""A TCP proxy before a Kafka broker: cuts and delays connections, loses replies, forgets offsets."""

from __future__ import annotations

import asyncio
import struct

from stream.local.process import LOOPBACK
from tests.faults.tcp_proxy import TcpProxy

OFFSET_FETCH, END_TXN, TXN_OFFSET_COMMIT = 9, 26, 28  # keys of requests
Kinds = dict[int, tuple[int, int]]  # of requests without a reply: correlation id to key and version


class Proxy(TcpProxy[Kinds]):
    """Passes whole Kafka frames on; the broker's address in its replies is replaced by the proxy's own."""

    def __init__(self, broker_port: int) -> None:
        super().__init__(broker_port)
        self._running = asyncio.Event()
        self._running.set()
        self._lose_replies = 0
        self.lost_replies = 0
        self._forget = 0
        self.forgotten = 0

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    async def delay(self, seconds: float) -> None:
        """Hold everything back for a while."""
        self._running.clear()
        await asyncio.sleep(seconds)
        self._running.set()

    def lose_end_replies(self, count: int) -> None:
        """The broker ends the next transactions, but the reply is lost with its connection."""
        self._lose_replies = count

    def forget_offsets(self, count: int) -> None:
        """Answer as often that nothing was committed, or until an offset is written in a transaction.

        So a coordinator answers that has just been restarted.
        """
        self._forget = count

    def connected(self) -> Kinds:
        return {}

    async def requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Kinds
    ) -> None:
        while True:
            frame = await _frame(reader)
            key, version, correlation = struct.unpack(">hhi", frame[:8])
            if key in (OFFSET_FETCH, END_TXN, TXN_OFFSET_COMMIT):
                state[correlation] = key, version
            await self._pass(writer, frame)

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Kinds) -> None:
        theirs = LOOPBACK.encode() + struct.pack(">i", self.upstream_port)
        mine = LOOPBACK.encode() + struct.pack(">i", self.port)
        while True:
            frame = await _frame(reader)
            kind, version = state.pop(struct.unpack(">i", frame[:4])[0], (0, 0))
            if kind == END_TXN and self._lose_replies:
                self._lose_replies -= 1
                self.lost_replies += 1
                return
            if kind == TXN_OFFSET_COMMIT:
                self._forget = 0
            if kind == OFFSET_FETCH and self._forget:
                frame = _without_offsets(frame, version)
                self._forget -= 1
                self.forgotten += 1
            await self._pass(writer, frame.replace(theirs, mine) if len(frame) < 20_000 else frame)

    async def _pass(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        await self._running.wait()
        writer.write(struct.pack(">i", len(frame)) + frame)
        await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def _without_offsets(reply: bytes, version: int) -> bytes:
    """A reply to OffsetFetch: of each topic its name, and of each partition number, offset, text, error."""
    frame, at = bytearray(reply), 8 if version == 3 else 4  # the third begins with a time
    (topics,) = struct.unpack_from(">i", frame, at)
    at += 4
    for _ in range(topics):
        at += 2 + struct.unpack_from(">h", frame, at)[0]
        (partitions,) = struct.unpack_from(">i", frame, at)
        at += 4
        for _ in range(partitions):
            struct.pack_into(">q", frame, at + 4, -1)
            at += 14 + max(0, struct.unpack_from(">h", frame, at + 12)[0]) + 2
    return bytes(frame)
