"""The embedded ClickHouse engine behind its HTTP front on loopback, as a child process.

    with LocalClickHouse(folder) as server:
        client = clickhouse_connect.get_client(host=server.host, port=server.port)

For one machine, a demonstration and tests, not for production (see `clickhouse_http`).
"""

import http.client
import shutil
import sys
from pathlib import Path
from typing import Self

from stream.local.process import LOOPBACK, Child, LocalRuntimeError, free_port, require_free_port

# The engine is a library of 500 MB: from a cold disk cache its start is bound by the disk.
START_TIMEOUT_S = 60.0
# The front itself waits 10 s for statements that run, then closes the engine.
STOP_TIMEOUT_S = 15.0
_PROBE_TIMEOUT_S = 2.0


class LocalClickHouse:
    """One engine with its folder: start, stop, kill and start again on the same data and port."""

    host = LOOPBACK

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self._wanted_port = port
        self._port: int | None = None
        self.child = Child("clickhouse", self.folder)

    @property
    def port(self) -> int:
        """The HTTP port; known once the engine has been started."""
        if self._port is None:
            raise LocalRuntimeError("The local ClickHouse has not been started yet.")
        return self._port

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.child.log_path

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start and return when `/ping` answers; an orphan of a killed parent is ended first."""
        self.child.acquire()
        try:
            if self._port is None:
                self._port = self._wanted_port or free_port()
            require_free_port(self._port, "the local ClickHouse")
        except BaseException:
            self.child.release()
            raise
        command = [sys.executable, "-m", "stream.local.clickhouse_http"]
        command += ["--path", str(self.folder / "data"), "--port", str(self._port)]
        self.child.start(command, ready=lambda: answers(self.port), timeout_s=timeout_s)

    def clear(self) -> None:
        """Forget all databases; the engine must not run (an orphan of a killed parent is ended)."""
        self.child.acquire()
        if self.child.alive:
            raise LocalRuntimeError("Stop the local ClickHouse before clearing its data.")
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop in order, by force at the deadline."""
        self.child.stop(timeout_s)

    def kill(self) -> None:
        """End the engine as a crash would (kill -9); `start` brings it back on the same data and port."""
        self.child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


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
