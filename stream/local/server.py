"""A server on loopback that this process starts: one child, one folder, one port."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from stream.local.process import LOOPBACK, Child, LocalRuntimeError, free_port, require_free_port


class Server(ABC):
    """Start, stop, kill and start again on the same data and port.

    `port` is the one for clients, a free one when None; it stays the same for the life of this object.
    `folder` is the server's own: its data lie in `data`, its log is `NAME.log`.
    """

    host = LOOPBACK
    name: ClassVar[str]
    """Of the child and its files."""

    title: ClassVar[str]
    """What people call it."""

    start_timeout_s: ClassVar[float]
    stop_timeout_s: ClassVar[float]

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self._wanted_port = port
        self._port: int | None = None
        self.child = Child(self.name, self.folder)

    @property
    def port(self) -> int:
        """The port for clients; known once the server has been started."""
        if self._port is None:
            raise LocalRuntimeError(f"{self.title} has not been started yet.")
        return self._port

    @property
    def log_path(self) -> Path:
        return self.child.log_path

    def start(self, timeout_s: float | None = None) -> None:
        """Return when a client can use it; an orphan of a killed parent is ended first.

        Raises LocalRuntimeError with a sentence for people: port taken, not ready in time, a part missing.
        """
        self.child.acquire()
        try:
            if self._port is None:
                self._port = self._wanted_port or free_port()
            require_free_port(self._port, self.title)
            command = self._command()
        except BaseException:
            self.child.release()
            raise
        self.child.start(
            command, ready=self._answers, timeout_s=self.start_timeout_s if timeout_s is None else timeout_s
        )

    def clear(self) -> None:
        """Forget all data; the server must not run (an orphan of a killed parent is ended)."""
        self.child.acquire()
        if self.child.alive:
            raise LocalRuntimeError(f"Stop {self.title} before clearing its data.")
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop in order, by force at the deadline."""
        self.child.stop(self.stop_timeout_s if timeout_s is None else timeout_s)

    def kill(self) -> None:
        """End the server as a crash would (kill -9); `start` brings it back on the same data and port."""
        self.child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Its command line, with what it reads written to the folder."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether a client can use it."""
