"""`/find` judges with the models in use for a series, and says which."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from console.serving import Serving
from detectors import registry
from detectors.batch import History
from schemas import config
from schemas.artifact import ArtifactMessage
from stream.refresh import artifacts
from tests.console.conftest import SAMPLES, SPIKE_AT, START_MS, STEP_MS, wave
from tests.console.test_api import SPIKE, SPIKE_TEXT

pytestmark = pytest.mark.timeout(600)
SERIES = 'web_response{service="shop"}'
END_MS = START_MS + SAMPLES * STEP_MS
CHEAP: dict[str, dict[str, Any]] = {
    "iforest": {"n_estimators": 50},
    "prophet": {"max_samples": 1000},
    "aer": {"epochs": 3, "max_windows": 500},
}


def fitted(detector: str) -> ArtifactMessage:
    """As a trainer fits it, on the samples before the spike."""
    ts_ms = START_MS + STEP_MS * np.arange(SPIKE_AT - 10, dtype=np.int64)
    kind: Any = registry.load(detector)
    history = History(ts_ms, wave("web_response")[: len(ts_ms)].reshape(-1, 1))
    params = CHEAP[detector]
    return artifacts.packed(kind, params, SERIES, history, 1, kind.fit(params, history, 1), {})


async def publish(cfg: config.Config, message: ArtifactMessage, *, serving: bool = True) -> None:
    await asyncio.to_thread(artifacts.store_of(cfg).put, message)
    await artifacts.publish(cfg, message, serving=serving)


async def asked(api: httpx.AsyncClient, model: str, **more: Any) -> dict[str, Any]:
    request = {"models": [model], "column_name": "web_response", **more}
    reply = await api.post("/find", json=request)
    while reply.status_code == 202:  # the first answer waits for compiled kernels
        reply = await api.get(reply.headers["location"], params={"wait_ms": 60_000})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()[model]
    return found


async def until_served(api: httpx.AsyncClient, model: str) -> dict[str, Any]:
    """The console follows the topic: a moment after Kafka has the model, it is used."""
    async with asyncio.timeout(300):
        while not (found := await asked(api, model))["artifact"]:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.2)
    return found


@pytest.mark.parametrize("model", ["iforest", "prophet"])
async def test_the_model_in_use_judges_the_samples(
    api: httpx.AsyncClient, cfg: config.Config, model: str
) -> None:
    message = await asyncio.to_thread(fitted, model)
    await publish(cfg, message)
    found = await until_served(api, model)
    assert found["artifact"] == message.manifest.artifact_id
    spike = next(each for each in found["points"] if each["timestamp"] == SPIKE_TEXT)
    assert spike["anomaly"]
    anew = await asked(api, model, refit=True)
    assert anew["artifact"] is None
    assert anew["points"] != found["points"]


async def test_the_network_in_use_looks_back_in_episodes(api: httpx.AsyncClient, cfg: config.Config) -> None:
    message = await asyncio.to_thread(fitted, "aer")
    await publish(cfg, message)
    found = await until_served(api, "aer")
    assert (found["kind"], found["artifact"]) == ("intervals", message.manifest.artifact_id)
    text = SPIKE.isoformat()
    assert any(each["start"] <= text <= each["end"] for each in found["intervals"])


async def test_a_model_that_waits_for_a_person_is_not_used(
    api: httpx.AsyncClient, cfg: config.Config
) -> None:
    await publish(cfg, await asyncio.to_thread(fitted, "iforest"), serving=False)
    assert (await asked(api, "iforest"))["artifact"] is None


async def test_parameters_of_ones_own_ask_for_a_fit(api: httpx.AsyncClient, cfg: config.Config) -> None:
    message = await asyncio.to_thread(fitted, "iforest")
    await publish(cfg, message)
    await until_served(api, "iforest")
    own = {"parameters": {"iforest": {"n_estimators": 20}}}
    assert (await asked(api, "iforest", **own))["artifact"] is None
    budget = {"parameters": {"iforest": {"alert_budget": 0.5}}}
    assert (await asked(api, "iforest", **budget))["artifact"] == message.manifest.artifact_id


async def test_a_forecast_is_used_where_it_reaches() -> None:
    message = await asyncio.to_thread(fitted, "prophet")
    serving = Serving(config.Config())
    serving._ready.set()
    serving.take(message.manifest.key.encode(), message.encode())
    reach_ms = registry.load("prophet").reach_ms({})  # type: ignore[attr-defined]
    last = message.manifest.trained_to_ms + reach_ms
    assert await serving.of("prophet", SERIES, START_MS, last - 1)
    assert await serving.of("prophet", SERIES, START_MS - 1, last - 1) is None
    assert await serving.of("prophet", SERIES, START_MS, last) is None
    assert await serving.of("prophet", "another", START_MS, END_MS) is None
    assert await serving.of("large", SERIES, START_MS, END_MS) is None
    serving.take(message.manifest.key.encode(), None)
    assert await serving.of("prophet", SERIES, START_MS, END_MS) is None
