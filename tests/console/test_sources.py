"""Servers that a request may read: the list, private addresses, redirects, names that change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from console import sources
from console.problems import ProblemError
from schemas import config
from stream import addresses
from stream.errors import UserError
from stream.store.clickhouse import UnavailableError


def cfg_with(**source: Any) -> config.Config:
    return config.Config(console=config.Console(data_sources=[config.DataSource(**source)]))


@contextmanager
def server(status: int, headers: dict[str, str]) -> Iterator[tuple[int, list[str]]]:
    """A port that gives one answer to everything, and the Host of each request that came."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Host"])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        do_POST = do_GET  # noqa: N815  # as the library names it

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield http.server_port, seen
    finally:
        http.shutdown()
        http.server_close()


def test_only_the_configured_server_is_allowed_by_default() -> None:
    cfg = config.Config()
    for host, port in ((None, None), ("localhost", 8123), ("127.0.0.1", None)):
        assert sources.allowed(cfg, host, port) is None
    for host, port in (("localhost", 22), ("db.example", None), ("127.0.0.1.", None), ("127.1", 8123)):
        with pytest.raises(ProblemError, match="not among the servers") as refused:
            sources.allowed(cfg, host, port)
        assert refused.value.status == 403


def test_a_server_of_the_list_is_allowed_on_its_port_only() -> None:
    cfg = cfg_with(host="db.example", port=8123)
    assert sources.allowed(cfg, "DB.example", 8123) is cfg.console.data_sources[0]
    with pytest.raises(ProblemError, match="not among the servers"):
        sources.allowed(cfg, "db.example", 9000)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b:1::1", "64:ff9b::10.0.0.1", "2002:a00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_world(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_addresses_of_the_world(address: str) -> None:
    assert addresses.is_public(address)


async def test_a_name_with_any_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda host, port: ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(ProblemError, match="private address") as refused:
        await sources.query(cfg_with(host="db.example", port=8123), "db.example", 8123, "SELECT 1")
    assert refused.value.status == 403


async def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it means afterwards makes no difference: the connection goes to the address that was checked."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(addresses, "resolve", resolve)
    with server(500, {}) as (port, seen):
        cfg = cfg_with(host="db.example", port=port, allow_private=True)
        with pytest.raises((UnavailableError, UserError, ProblemError)):
            await sources.query(cfg, "db.example", port, "SELECT 1")
    assert asked == ["db.example"]
    assert seen
    assert all("db.example" in host or "127.0.0.1" in host for host in seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    with server(200, {}) as (elsewhere, reached):
        with server(status, {"Location": f"http://127.0.0.1:{elsewhere}/"}) as (port, seen):
            cfg = cfg_with(host="127.0.0.1", port=port, allow_private=True)
            with pytest.raises((UnavailableError, UserError, ProblemError)):
                await sources.query(cfg, "127.0.0.1", port, "SELECT 1")
        assert seen
        assert reached == []
