"""A spike in telemetry becomes a notification, by a real Prometheus and Alertmanager, and resolves."""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.formats.json_point import encode_point
from stream.local.monitoring import Monitoring

START_MS = 1_760_000_000_000
SERIES = 'cpu{host="w 1",service="shop"}'


class Message(msgspec.Struct):
    value: bytes
    partition: int = 0
    key: bytes | None = None


class Receiver:
    """A webhook that remembers the alerts that it was sent."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.alerts += json.loads(body)["alerts"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, name: str, status: str) -> list[dict[str, Any]]:
        return [a for a in self.alerts if a["labels"]["alertname"] == name and a["status"] == status]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


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
            (fired, *_) = await eventually(lambda: receiver.of("TocsinAnomaly", "firing"))
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
            (resolved, *_) = await eventually(lambda: receiver.of("TocsinAnomaly", "resolved"))
            assert resolved["labels"] == fired["labels"]
            assert receiver.of("TocsinNoSink", "firing"), "none was started, so it is missed"
        finally:
            await asyncio.to_thread(monitoring.stop)
