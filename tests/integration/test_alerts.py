"""A spike in telemetry becomes a notification, by a real Prometheus and Alertmanager, and resolves."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.formats.json_point import encode_point
from stream.local.monitoring import Monitoring
from tests.support import Receiver

START_MS = 1_760_000_000_000
SERIES = 'cpu{host="w 1",service="shop"}'


class Message(msgspec.Struct):
    value: bytes
    partition: int = 0
    key: bytes | None = None


def alerts(receiver: Receiver, name: str, status: str) -> list[dict[str, Any]]:
    """Those that it was sent, of a name and status."""
    sent = [alert for _, body in receiver.taken for alert in body["alerts"]]
    return [a for a in sent if a["labels"]["alertname"] == name and a["status"] == status]


async def eventually(what: Callable[[], Any], deadline_s: float = 100.0) -> Any:
    deadline = time.monotonic() + deadline_s
    while not (found := what()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return found


def telemetry(first: int, count: int, spike: float | None = None) -> list[Message]:
    """A minute a sample; the last one is the spike."""
    noise = random.Random(first)
    values = [50 + 5 * math.sin(n / 30) + noise.gauss(0, 1) for n in range(first, first + count)]
    if spike is not None:
        values[-1] = spike
    labels = {"host": "w 1", "service": "shop"}
    return [
        Message(encode_point("cpu", labels, START_MS + 60_000 * (first + n), value))
        for n, value in enumerate(values)
    ]


@pytest.mark.slow
async def test_a_spike_in_telemetry_becomes_a_notification_and_resolves(
    kit: Any, receiver: Receiver, tmp_path: Path
) -> None:
    async with kit.worker() as worker:
        await kit.send(telemetry(0, 1000))
        await kit.scores(1000)
        urls = {"worker": worker.metrics_url}
        monitoring = Monitoring(tmp_path, urls, receiver.url, interval="1s")
        await asyncio.to_thread(monitoring.start)
        try:
            await kit.send(telemetry(1000, 1, spike=500.0))
            (fired, *_) = await eventually(lambda: alerts(receiver, "TocsinAnomaly", "firing"))
            (event,) = (e for e in await kit.events(1) if e.status == "open" and e.actual == 500.0)
            assert fired["labels"] == {
                "alertname": "TocsinAnomaly",
                "anomaly_id": event.anomaly_id,
                "series": SERIES,
                "metric": "cpu",
                "service": "shop",
                "severity": event.severity,
                "direction": "above",
                "started": str(event.started_ms // 1000),
            }
            assert "var-series=cpu%7Bhost%3D%22w+1%22" in fired["annotations"]["dashboard"]
            await kit.send(telemetry(1001, 60))
            (resolved, *_) = await eventually(lambda: alerts(receiver, "TocsinAnomaly", "resolved"))
            assert resolved["labels"] == fired["labels"]
            assert alerts(receiver, "TocsinNoSink", "firing"), "none was started, so it is missed"
        finally:
            await asyncio.to_thread(monitoring.stop)
