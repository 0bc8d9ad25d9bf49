"""How long a question to `/find` takes: three models on a month of a metric by the minute (43,200 samples).

python -m bench.find            # prints the table

The request is that of the documentation (Autoencoder, Isolation Forest, Prophet on `web_response`), asked of
the real API, with Kafka, ClickHouse and a trainer as processes. First nothing is fitted; then it is asked
again; then models of all three kinds are in use for the metric, and the API judges with those.
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

from bench.served import START_TIMEOUT_S, month, series_of, stage
from detectors import registry
from detectors.batch import History
from schemas import config
from stream.refresh import artifacts

METRIC: Final = "web_response"
ASKED: Final[Mapping[str, Any]] = {
    "models": ["Autoencoder", "Isolation Forest", "Prophet"],
    "column_name": METRIC,
}
DETECTORS: Final = ("aer", "iforest", "prophet")
POLL_MS: Final = 250
SETTLE_S: Final = 3.0
"""Until the API has read of the models."""


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


async def fit(cfg: config.Config) -> None:
    """Fit the models of the metric on the month, as a trainer does, and put them into use."""
    frame = month()
    history = History(frame.ts_ms, frame.columns[METRIC].reshape(-1, 1))
    for name in DETECTORS:
        kind: Any = registry.load(name)
        made = kind.fit({}, history, 1)
        message = artifacts.packed(kind, {}, series_of(METRIC), history, 1, made, {})
        await asyncio.to_thread(artifacts.store_of(cfg).put, message)
        await artifacts.publish(cfg, message, serving=True)


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
        asyncio.run(fit(on.cfg))
        time.sleep(SETTLE_S)
        row("models are in use")
        row("the same again, from the cache")


if __name__ == "__main__":
    main()
