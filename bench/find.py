"""How long a question to `/find` takes: three models on a month of a metric by the minute (43,200 samples).

python -m bench.find            # prints the table

The request is that of the documentation (Autoencoder, Isolation Forest, Prophet on `web_response`), asked of
the real API, with Kafka, ClickHouse and a trainer as processes. First nothing is fitted; then it is asked
again; then the trainer has fitted the three models as a refresh does, and the API judges with those.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from bench.served import START_TIMEOUT_S, month, series_of, stage
from schemas import config
from schemas.request import Refit, Trigger
from stream.kafka import producer
from stream.refresh import artifacts

METRIC: Final = "web_response"
ASKED: Final[Mapping[str, Any]] = {
    "models": ["Autoencoder", "Isolation Forest", "Prophet"],
    "column_name": METRIC,
}
DETECTORS: Final = ("aer", "iforest", "prophet")
POLL_MS: Final = 250


class Told(NamedTuple):
    """Seconds to the first progress that is seen, and to the answer; models in use that have judged."""

    progress_s: float
    took_s: float
    in_use: int


def answered(api: httpx.Client) -> Told:
    """Raises when a model failed."""
    began = time.perf_counter()
    progress_s = 0.0
    reply = api.post("/find", json=ASKED, params={"wait_ms": 0})
    while reply.status_code == HTTPStatus.ACCEPTED:
        if not progress_s and any(each["done"] for each in reply.json()["models"].values()):
            progress_s = time.perf_counter() - began
        reply = api.get(reply.headers["location"], params={"wait_ms": POLL_MS})
    took_s = time.perf_counter() - began
    found = reply.raise_for_status().json()
    failed = {model: each["error"] for model, each in found.items() if each["kind"] == "error"}
    if failed:
        raise RuntimeError(str(failed))
    return Told(progress_s, took_s, sum(bool(each["artifact"]) for each in found.values()))


async def refit(cfg: config.Config) -> None:
    """Ask for the models of the metric, and wait until they serve."""
    times = month().ts_ms
    client = producer(cfg.kafka)
    await client.start()
    try:
        for each in DETECTORS:
            request = Refit(
                request_id=f"bench-{each}",
                detector=each,
                series=series_of(METRIC),
                from_ms=int(times[0]),
                until_ms=int(times[-1]) + 1,
                trigger=Trigger.PERSON,
                adopt=True,
            )
            await client.send_and_wait(cfg.topics.requests.name, msgspec.msgpack.encode(request))
    finally:
        await client.stop()
    while sum(each.serving for each in await artifacts.on_topic(cfg)) < len(DETECTORS):  # noqa: ASYNC110
        await asyncio.sleep(1.0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as on:
        print(f"{'question':<36} {'seconds':>9} {'first progress':>15}  in use", flush=True)

        api = httpx.Client(base_url=on.api.url, timeout=START_TIMEOUT_S)

        def row(name: str) -> None:
            told = answered(api)
            print(
                f"{name:<36} {told.took_s:>9.2f} {told.progress_s:>15.2f} {told.in_use:>7} of 3", flush=True
            )

        row("nothing is fitted")
        row("the same again, from the cache")
        began = time.perf_counter()
        asyncio.run(refit(on.cfg))
        print(f"(the trainer fits the three models: {time.perf_counter() - began:.0f} s)", flush=True)
        row("models are in use")
        row("the same again, from the cache")


if __name__ == "__main__":
    main()
