"""Health of a process over HTTP, beside its metrics: is it alive, and can it do its work?"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

Health = Callable[[], Mapping[str, str]]
"""What is wrong, by what it is about; empty when nothing is. Called in the server's thread."""


def well() -> Mapping[str, str]:
    """Of a process that has nothing to say: it answers, so it lives."""
    return {}


def serve(
    registry: CollectorRegistry, host: str, port: int, live: Health, ready: Health
) -> tuple[WSGIServer, threading.Thread]:
    """Answer ``/metrics``, ``/healthz`` and ``/readyz`` until the server is shut down.

    ``/healthz`` is 503 when only a restart helps; ``/readyz`` is 503 while work stands still: why.
    """
    metrics = make_wsgi_app(registry)
    checks = {"/healthz": live, "/readyz": ready}

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        check = checks.get(environ.get("PATH_INFO", ""))
        if check is None:
            return metrics(environ, start_response)
        problems = check()
        start_response(
            "503 Service Unavailable" if problems else "200 OK", [("Content-Type", "application/json")]
        )
        return [json.dumps({"ok": not problems, "problems": dict(problems)}).encode() + b"\n"]

    server = make_server(host, port, app, WSGIServer, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="metrics")
    thread.start()
    return server, thread


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the library
        """Say nothing: a line for each scrape would bury the others."""
