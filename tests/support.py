"""What several tests share and fixtures hand out."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pyarrow as pa

from stream.store import history
from stream.store.clickhouse import Client

START_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class ClickHouseAddress:
    """Where a test finds its own empty database."""

    host: str
    port: int
    database: str

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@asynccontextmanager
async def running(process: Any) -> AsyncIterator[Any]:
    """A process of ours in this event loop, started; it must not end by itself."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(process.run(stop, lambda _: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=START_TIMEOUT_S)
    try:
        if task.done():
            task.result()
        yield process
    finally:
        stop.set()
        await asyncio.wait_for(task, START_TIMEOUT_S)


class Receiver:
    """A webhook: answers with the given statuses in turn, then with 200; remembers what it accepted."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.tries = 0
        self.taken: list[tuple[str | None, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.tries += 1
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.taken.append((self.headers["Idempotency-Key"], body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def insert_samples(client: Client, series: str, ts_ms: Sequence[int], values: Any, alert: Any = None) -> None:
    """Samples of a series without scores, as the sink writes them."""
    count = len(ts_ms)
    nothing = pa.array(np.full(count, np.nan, np.float32))
    columns = {
        "series_id": pa.array(np.full(count, history.series_id(series), np.uint64)),
        "ts": pa.array(ts_ms, pa.timestamp("ms", "UTC")),
        "value": pa.array(values, pa.float64()),
        **dict.fromkeys(("score", "level", "expected", "lower", "upper"), nothing),
        "state": pa.array(np.zeros(count, np.uint8)),
        "alert": pa.array(np.zeros(count, np.uint8) if alert is None else alert),
    }
    client.insert("telemetry", pa.table(columns))
