"""Dead letters are listed, and a replay sends whole messages to where they came from."""

from __future__ import annotations

from typing import Any

from stream import dlq
from tests.integration.test_recovery import Message, telemetry

Kit = Any


async def test_a_replayed_letter_comes_to_its_partition_again(kit: Kit) -> None:
    await kit.send([*telemetry(5), Message(b"{no", 2, b"k"), Message(b'{"metric":1}', 3)])
    async with kit.worker():
        await kit.dead_letters(2)
        found = [stored async for stored in dlq.read(kit.cfg)]
        assert {stored.letter.raw for stored in found} == {b"{no", b'{"metric":1}'}
        sent = await dlq.replay(kit.cfg, lambda stored: stored.letter.raw == b"{no")
        assert sent == (1, 0)
        again = await kit.dead_letters(3)
    assert [(x.partition, x.key) for x in again if x.raw == b"{no"] == [(2, b"k")] * 2
