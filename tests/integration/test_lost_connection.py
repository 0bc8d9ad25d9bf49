"""uvloop says otherwise than asyncio that a connection is gone; a client must survive both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from stream.kafka import KafkaConnectionError


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_request_on_a_connection_that_was_just_lost_is_a_connection_error(
    kafka: str, new_loop: Callable[[], Any]
) -> None:
    async def lose_and_send() -> None:
        host, port = kafka.split(":")
        connection = await create_conn(host, int(port))
        await connection.send(MetadataRequest([]))
        connection._writer.transport.abort()
        for _ in range(5):  # turns of the loop until its reader has seen it
            await asyncio.sleep(0)
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(lose_and_send())
