"""A connection of aiokafka that knows how uvloop says that it is lost.

A write to a transport that has just been closed is dropped by asyncio, and a moment later the connection's
reader ends it. uvloop raises RuntimeError instead, which aiokafka does not expect (its issue 1038): whichever
task sent the request dies of it. If that is the one that keeps the metadata of a consumer, the consumer waits
for metadata for ever, its heartbeats go on, and its partitions stand still.
"""

from __future__ import annotations

from typing import Any

from aiokafka import conn
from aiokafka.errors import KafkaConnectionError


class UvloopConnection(conn.AIOKafkaConnection):  # type: ignore[misc]  # aiokafka publishes no types
    """Says of a lost connection what aiokafka's callers handle."""

    def send(self, request: Any, expect_response: bool = True) -> Any:  # theirs
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            raise self._lost(error) from error

    def _send_sasl_token(self, payload: bytes, expect_response: bool = True) -> Any:
        try:
            return super()._send_sasl_token(payload, expect_response)
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> KafkaConnectionError:
        self.close(reason=conn.CloseReason.CONNECTION_BROKEN, exc=error)
        return KafkaConnectionError(f"Connection at {self.host}:{self.port} is lost: {error}")


def install() -> None:
    """Have all clients of this process connect by it; `aiokafka.conn.create_conn` takes no class."""
    conn.AIOKafkaConnection = UvloopConnection
