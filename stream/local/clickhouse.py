"""The embedded ClickHouse engine behind its HTTP front on loopback, as a child process.

    with LocalClickHouse(folder) as server:
        client = clickhouse_connect.get_client(host=server.host, port=server.port)

For one machine, a demonstration and tests, not for production (see `clickhouse_http`).
"""

import http.client
import sys

from stream.local.process import LOOPBACK
from stream.local.server import Server

_PROBE_TIMEOUT_S = 2.0


class LocalClickHouse(Server):
    """One engine."""

    name = "clickhouse"
    title = "the local ClickHouse"
    start_timeout_s = 60.0  # a library of 500 MB: from a cold disk cache its start is bound by the disk
    stop_timeout_s = 15.0  # the front itself waits 10 s for statements that run, then closes the engine

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "stream.local.clickhouse_http"]
        return [*command, "--path", str(self.folder / "data"), "--port", str(self.port)]

    def _answers(self) -> bool:
        return answers(self.port)


def answers(port: int) -> bool:
    """Whether the front on `port` takes statements."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
