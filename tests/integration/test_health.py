"""What a worker says of its own health, and that work in threads does not cost it its place in the group."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from stream.formats.json_point import encode_point
from stream.worker.pipeline import Pipeline
from tests.integration.test_recovery import Message, telemetry

Kit = Any


def _ask(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def _until_ready(url: str, status: int) -> dict[str, Any]:
    began = time.monotonic()
    while True:
        found, said = await asyncio.to_thread(_ask, url)
        if found == status:
            return said
        assert time.monotonic() - began < 30, said
        await asyncio.sleep(0.1)


async def test_a_running_worker_is_ready_and_one_whose_breaker_tripped_says_which_partition(kit: Kit) -> None:
    kit = kit.with_admission(breaker_window_ms=300)
    await kit.send(telemetry(10))
    async with kit.worker() as worker:
        base = worker.metrics_url.removesuffix("/metrics")
        assert await _until_ready(f"{base}/readyz", 200) == {"ok": True, "problems": {}}
        for _ in range(8):
            await kit.send([Message(b"{no", 1)] * 200)
        said = await _until_ready(f"{base}/readyz", 503)
        assert said["problems"] == {f"{kit.cfg.inputs[0].topic}/1": "paused"}
        assert (await asyncio.to_thread(_ask, f"{base}/healthz"))[0] == 200


async def test_a_slow_detector_costs_no_heartbeat(
    kit: Kit, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = kit.with_worker(session_timeout_ms=3000)
    real = Pipeline.score

    def slow(self: Pipeline, samples: Any) -> Any:
        time.sleep(6.0)  # far beyond the session timeout
        return real(self, samples)

    async with kit.worker() as worker:
        began = metric(worker.metrics_url, "tocsin_rebalances_total")  # a busy machine may start in two steps
        monkeypatch.setattr(Pipeline, "score", slow)
        await kit.send([Message(encode_point("load", {}, 1_700_000_000_000, 1.0), p) for p in range(4)])
        await kit.scores(4)
        taken = metric(worker.metrics_url, "tocsin_rebalances_total")
        back = metric(worker.metrics_url, "tocsin_partition_recoveries_total")
    assert taken == began
    assert not sum(back.values())
