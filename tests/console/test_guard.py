"""Who may ask, how often and how much; what a browser of another origin is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from console.api import create_app
from console.guard import Bucket
from schemas import config
from stream import config as loader
from stream.config.loader import ConfigError
from tests.console.test_api import problem


async def nobody_answers(*_: Any) -> Any:
    raise AssertionError("no question should come so far")


@asynccontextmanager
async def served(client: str = "192.0.2.1", **console: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(config.Config(console=config.Console(**console)), nobody_answers)
    transport = httpx.ASGITransport(app, client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as http:
        yield http


async def test_with_a_token_everything_but_health_asks_for_it() -> None:
    async with served(token="secret") as api:
        assert (await api.get("/healthz")).json() == {"ok": True}
        for path in ("/models", "/docs", "/openapi.json", "/nowhere"):
            refused = await api.get(path)
            assert "Bearer" in problem(refused, 401), path
            assert refused.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer other", "Basic secret", "secret", "Bearer", "Bearer secretx", "Bearer sécret"):
            headers = {"Authorization": wrong.encode()}
            assert (await api.get("/models", headers=headers)).status_code == 401, wrong
        assert (await api.get("/models", headers={"Authorization": "bearer secret"})).status_code == 200


async def test_beyond_loopback_it_does_not_start_without_a_token() -> None:
    with pytest.raises(ConfigError, match=r"console\.token"):
        loader.parse("console: {host: 0.0.0.0}", [])
    assert loader.parse("console: {host: 0.0.0.0, token: secret}", []).console.token == "secret"


async def test_who_asks_too_often_is_told_when_to_come_again() -> None:
    async with served(requests_per_minute=2) as api:
        assert [(await api.get("/models")).status_code for _ in range(2)] == [200, 200]
        refused = await api.get("/models")
        assert "More than 2 requests a minute" in problem(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert (await api.get("/healthz")).status_code == 200


def test_a_client_may_ask_again_at_the_rate_and_others_are_not_held_up() -> None:
    now = [0.0]
    bucket = Bucket(60, lambda: now[0])
    assert [bucket.take("a") for _ in range(60)] == [0.0] * 60
    assert bucket.take("a") == pytest.approx(1.0)
    assert bucket.take("b") == 0.0
    now[0] = 1.0
    assert bucket.take("a") == 0.0
    assert bucket.take("a") > 0.0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(chunked: bool) -> None:
    body = b'{"models": ["' + b"x" * 2000 + b'"]}'

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 500):
            yield body[at : at + 500]

    async with served(max_upload_bytes=1000) as api:
        reply = await api.post(
            "/find", content=chunks() if chunked else body, headers={"Content-Type": "application/json"}
        )
        assert "larger than 1000 bytes" in problem(reply, 413)


PREFLIGHT = {
    "Origin": "https://grafana.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "Content-Type",
}


async def test_pages_of_other_origins_may_not_ask_unless_the_configuration_says_so() -> None:
    async with served() as api:
        closed = await api.options("/find", headers=PREFLIGHT)
        assert closed.status_code == 405
        assert "access-control-allow-origin" not in closed.headers
        assert "access-control-allow-origin" not in (await api.get("/models", headers=PREFLIGHT)).headers
    async with served(allowed_origins=["https://grafana.example"], token="secret") as api:
        opened = await api.options("/find", headers=PREFLIGHT)
        assert opened.headers["access-control-allow-origin"] == "https://grafana.example"
        other = await api.options("/find", headers=PREFLIGHT | {"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in other.headers
