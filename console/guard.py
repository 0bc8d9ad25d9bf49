"""Who may ask, how often, and how much: token, rate limit and size of a request, before anything reads it."""

from __future__ import annotations

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console import problems
from schemas import config

OPEN_PATHS: Final = frozenset({"/healthz"})
"""Answered without a token: who watches the process has none."""

MAX_CLIENTS: Final = 10_000
"""Whose rate is remembered; of more, the ones that were silent longest begin anew."""


class Bucket:
    """Token buckets: a client may ask ``per_minute`` times at once, and then at that rate."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._rate, self._clock = float(per_minute), per_minute / 60, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Seconds to wait until the next request is welcome; 0 when this one is."""
        now = self._clock()
        left, since = self._left.pop(client, (self._size, now))
        left = min(self._size, left + (now - since) * self._rate)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[client] = (left if wait_s else left - 1, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return wait_s


class Guard:
    """ASGI middleware; the answers are problem details."""

    def __init__(self, app: ASGIApp, cfg: config.Console) -> None:
        self._app, self._cfg = app, cfg
        self._bucket = Bucket(cfg.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refuse(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, self._measured(receive), send)

    def _refuse(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        client = scope["client"][0] if scope.get("client") else ""
        wait_s = self._bucket.take(client)
        if wait_s:
            seconds = str(math.ceil(wait_s))
            return problems.answer(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"More than {self._cfg.requests_per_minute} requests a minute: wait {seconds} s.",
                {"Retry-After": seconds},
            )
        if not self._knows(headers.get("authorization", "")):
            return problems.answer(
                HTTPStatus.UNAUTHORIZED,
                "Send the header `Authorization: Bearer TOKEN` with the token of console.token.",
                {"WWW-Authenticate": "Bearer"},
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._cfg.max_upload_bytes:
            return problems.answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
        return None

    def _knows(self, authorization: str) -> bool:
        if not self._cfg.token:
            return True
        scheme, _, token = authorization.partition(" ")
        same = hmac.compare_digest(token.strip().encode(), self._cfg.token.encode())
        return same and scheme.lower() == "bearer"

    def _measured(self, receive: Receive) -> Receive:
        """A body sent in chunks has no length before it has come.

        The error is FastAPI's, which makes a bad request of every other while it reads a body.
        """
        seen = 0

        async def measured() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._cfg.max_upload_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
            return message

        return measured

    @property
    def _too_large(self) -> str:
        limit = self._cfg.max_upload_bytes
        return f"The body is larger than {limit} bytes: send less, or raise console.max_upload_bytes."
