"""ClickHouse's HTTP interface over the embedded engine, for one machine: NOT a server for production.

The engine can be opened by one process only. This one opens it and serves the unmodified clickhouse-connect
client (sync and async), so that on one machine sink and console can be two processes, and so that tests take
the path that production takes. There is no authentication, no TLS and no limit of memory; a result is made
whole before it is sent. It therefore binds to loopback only, and refuses requests that a web page could make.

    python -m stream.local.clickhouse_http --path DIR --port PORT
"""

import argparse
import email.parser
import email.policy
import gzip
import json
import signal
import sys
import threading
import uuid
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import lz4.frame  # type: ignore[import-untyped]
from backports import zstd

from stream.addresses import is_loopback
from stream.local.chdb_engine import Answer, Engine, EngineError, Statement, refusal

# How long a SIGTERM waits for statements that run; an INSERT of a million rows takes about a second.
_DRAIN_S = 10.0
# A client that stops in the middle of its request holds a thread no longer than this; an idle one as well.
_SOCKET_TIMEOUT_S = 300.0

# Parts of the HTTP interface; every other parameter of the URL is a setting.
_NO_SETTINGS = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)
_BAD_REQUEST = {6, 26, 27, 33, 36, 38, 41, 43, 44, 53, 62, 69, 70, 117, 130, 372, 373, 386, 456, 457}
_NOT_FOUND = {16, 46, 47, 50, 56, 60, 73, 81, 115}
_NOT_IMPLEMENTED = 48
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
}


def _unlz4(data: bytes) -> bytes:
    """One frame after another, as clients that compress block by block send them."""
    out = []
    while data:
        frame = lz4.frame.LZ4FrameDecompressor()
        out.append(frame.decompress(data))
        if not frame.eof:
            raise ValueError("the lz4 frame is not complete")
        data = frame.unused_data or b""
    return b"".join(out)


_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": lambda data: zstd.compress(data, 1),
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": lambda data: zlib.compress(data, 1),
}
_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "lz4": _unlz4,
    "zstd": zstd.decompress,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


class Front(ThreadingHTTPServer):
    """The server: one thread a connection, one engine for all."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str, host: str, port: int) -> None:
        if not is_loopback(host):
            raise ValueError(f"{host} is not a loopback address: this front has no authentication.")
        super().__init__((host, port), _Handler)
        self.engine = Engine(path)
        self._idle = threading.Condition()
        self._running = 0

    def run(self, statement: Statement) -> Answer:
        """Run a statement and count it among those that a stop waits for."""
        with self._idle:
            self._running += 1
        try:
            return self.engine.run(statement)
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def close(self) -> None:
        """Take no more connections, let running statements end, close the engine."""
        self.shutdown()
        self.server_close()
        with self._idle:
            drained = self._idle.wait_for(lambda: self._running == 0, _DRAIN_S)
        if drained:  # an engine that is closed under a running statement aborts the process
            self.engine.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; 40 ms of delayed ACK each otherwise
    wbufsize = -1
    timeout = _SOCKET_TIMEOUT_S
    server: Front

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing about requests: the log is for what goes wrong."""

    def _handle(self) -> None:
        body = self._body()
        url = urlsplit(self.path)
        if self.headers.get("Origin") or not is_loopback(_host_name(self.headers.get("Host", ""))):
            self._reply(HTTPStatus.FORBIDDEN, b"Only programs of this machine are served, no web pages.\n")
        elif url.path == "/ping" or (url.path == "/" and not url.query and not body):
            self._reply(HTTPStatus.OK, b"Ok.\n")
        elif url.path != "/":
            self._reply(
                HTTPStatus.NOT_FOUND, b"There is no such page: statements go to /, health is at /ping.\n"
            )
        else:
            self._answer(dict(parse_qsl(url.query, keep_blank_values=True)), body)

    def _answer(self, query: dict[str, str], body: bytes) -> None:
        headers = {
            "X-ClickHouse-Query-Id": query.get("query_id") or str(uuid.uuid4()),
            "X-ClickHouse-Timezone": self.server.engine.timezone,
        }
        try:
            answer = self.server.run(self._statement(query, body))
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            self._reply(_status(error.code), f"{error}\n".encode(), headers)
            return
        headers["X-ClickHouse-Summary"] = json.dumps(answer.summary)
        if answer.format is not None:
            headers["X-ClickHouse-Format"] = answer.format
            headers["Content-Type"] = _CONTENT_TYPES.get(answer.format, "application/octet-stream")
        result = answer.body
        encoding = self._encoding() if query.get("enable_http_compression") in {"1", "true"} else None
        if encoding and result:
            headers["Content-Encoding"] = encoding
            result = _COMPRESS[encoding](result)
        self._reply(HTTPStatus.OK, result, headers)

    def _statement(self, query: dict[str, str], body: bytes) -> Statement:
        content_encoding = self.headers.get("Content-Encoding", "identity")
        if content_encoding != "identity":
            body = _decompress(body, content_encoding)
        if self.headers.get_content_type() == "multipart/form-data":
            query, body = query | _form(self.headers["Content-Type"], body), b""
        parts = [part for part in (query.get("query", "").encode(), body) if part]
        if not parts:
            raise refusal(62, "Empty query", "SYNTAX_ERROR")
        own = {name: text for name, text in query.items() if name not in _NO_SETTINGS}
        return Statement(
            sql=b"\n".join(parts),
            database=query.get("database") or self.headers.get("X-ClickHouse-Database") or "",
            settings={name: text for name, text in own.items() if not name.startswith("param_")},
            params={name[6:]: text for name, text in own.items() if name.startswith("param_")},
            default_format=query.get("default_format")
            or self.headers.get("X-ClickHouse-Format")
            or "TabSeparated",
            session_id=query.get("session_id", ""),
            session_timeout_s=_number(query.get("session_timeout", "60"), "session_timeout"),
            session_must_exist=query.get("session_check") == "1",
        )

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _encoding(self) -> str | None:
        """The first encoding of the client's list that we know."""
        wanted = self.headers.get("Accept-Encoding", "").split(",")
        return next((name for item in wanted if (name := item.split(";")[0].strip()) in _COMPRESS), None)

    def _reply(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=UTF-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _host_name(header: str) -> str:
    """The name in a Host header; a web page that lets its own name resolve to us still sends that name."""
    return urlsplit(f"//{header}").hostname or ""


def _status(code: int) -> HTTPStatus:
    if code in _BAD_REQUEST:
        return HTTPStatus.BAD_REQUEST
    if code in _NOT_FOUND:
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.NOT_IMPLEMENTED if code == _NOT_IMPLEMENTED else HTTPStatus.INTERNAL_SERVER_ERROR


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise refusal(36, f"{name} must be a number", "BAD_ARGUMENTS") from None


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding not in _DECOMPRESS:
        raise refusal(48, f"Content-Encoding {encoding} is not known", "NOT_IMPLEMENTED")
    try:
        return _DECOMPRESS[encoding](body)
    except (ValueError, RuntimeError, EOFError, OSError, zlib.error, zstd.ZstdError) as error:
        raise refusal(271, f"The {encoding} body is damaged: {error}", "CANNOT_DECOMPRESS") from error


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart form, in which clients send long parameters."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields = {}
    for part in message.iter_parts():
        if part.get_filename() is not None:
            raise refusal(48, "This front takes no external tables", "NOT_IMPLEMENTED")
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = (
            str(part.get_content()) if part.get_content_maintype() == "text" else part.get_content().decode()
        )
    return fields


def main() -> int:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m stream.local.clickhouse_http", description=__doc__)
    parser.add_argument("--path", required=True, help="folder of the engine's data")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    if not is_loopback(arguments.host):
        parser.error(f"{arguments.host} is not a loopback address: this front has no authentication.")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    front = Front(arguments.path, arguments.host, arguments.port)
    threading.Thread(target=front.serve_forever, name="accept", daemon=True).start()
    stop.wait()
    front.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
