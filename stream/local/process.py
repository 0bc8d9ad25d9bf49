"""A child process that is started, watched and stopped with deadlines, and found again after a crash.

A child lives in a folder with three files: `NAME.log` (its output), `NAME.pid` (who it is) and `NAME.lock`
(held by its parent as long as the parent lives). The lock tells an orphan from a child in use: whoever gets
the lock while the pid file names a living process has found an orphan of a killed parent, and ends it. A pid
alone proves nothing, since the kernel hands numbers out again, so the file also keeps the start time of the
process.

All calls block; from a coroutine use `asyncio.to_thread`.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

LOOPBACK = "127.0.0.1"
# How often a condition that has no file descriptor is looked at. Longer makes each start slower by as much.
_POLL_S = 0.03
# An orphan is asked to stop in order, for Kafka's sake: a killed broker checks its logs at the next start.
_ORPHAN_STOP_S = 20.0
# A killed process that is still there after this hangs in the kernel (a dead disk): nothing helps it.
_KILL_S = 10.0
_PROBE_TIMEOUT_S = 2.0


class LocalRuntimeError(RuntimeError):
    """The local runtime cannot do what was asked; the message is a sentence that says what to do."""


class AlreadyRunningError(LocalRuntimeError):
    """The folder belongs to a child whose parent is alive."""


def free_port() -> int:
    """A TCP port of the loopback that is free now; another process may take it before you do."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, purpose: str) -> None:
    """Raise a clear sentence when `port` is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose old connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise LocalRuntimeError(
                f"Port {port} for {purpose} is in use: end the program that has it or choose another port."
            ) from error


def answers(url: str) -> bool:
    """Whether something on this machine serves this address."""
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_TIMEOUT_S) as reply:  # noqa: S310  # http on loopback
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def start_time(pid: int) -> str | None:
    """When the process started, as text that no later process of that number repeats; None when gone."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may contain anything, so count from its end: first the state (field 3).
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{fields[19]}"
    listed = subprocess.run(  # noqa: S603 - a number is the only argument
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607 - /bin or /usr/bin, by system
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(None, 1)
    return listed[1].strip() if len(listed) == 2 and not listed[0].startswith("Z") else None


class Child:
    """One child process in its folder; start it again after `stop` or `kill` as often as you like."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self._pid_path = folder / f"{name}.pid"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The number of the running child, None when it does not run."""
        return self._process.pid if self.alive and self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """How the last child ended, None while it runs or before it ran."""
        return self._process.poll() if self._process else None

    def acquire(self) -> None:
        """Take the folder and end the orphan of a killed parent in it, if there is one.

        Raises AlreadyRunningError when a living parent holds the folder. `start` calls this; call it yourself
        before touching the child's files.
        """
        if self._lock is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / f"{self.name}.lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise AlreadyRunningError(
                f"{self.name} in {self.folder} is in use by process {owner}: "
                "end that process or choose another folder."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self._end_orphan()

    def release(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def start(
        self,
        command: Sequence[str],
        *,
        ready: Callable[[], bool],
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run `command` and return once `ready()` is true; on failure nothing is left running.

        The child gets a session of its own, so that Ctrl-C in the terminal reaches the parent only, which
        then stops its children in their order. `ready` is called again and again and must return quickly.
        """
        self.acquire()
        if self.alive:
            raise AlreadyRunningError(f"{self.name} in {self.folder} runs already as process {self.pid}.")
        try:
            self._launch(command, env)
            self._wait_ready(ready, timeout_s)
        except BaseException:
            self.kill()
            self.release()
            raise

    def stop(self, timeout_s: float) -> None:
        """Ask the child to stop, kill it when `timeout_s` is over, and give the folder back."""
        if self._process is not None and self.alive:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()
        self.release()

    def kill(self) -> None:
        """End the child at once, as a crash would (SIGKILL to its process group); the folder stays ours."""
        if self._process is not None and self.alive:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_KILL_S)
        self._forget()

    def _forget(self) -> None:
        """Remove the file that names the child; while the folder is another's, so is the file."""
        if self._lock is not None:
            self._pid_path.unlink(missing_ok=True)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines the child wrote."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self.release()

    def _launch(self, command: Sequence[str], env: Mapping[str, str] | None) -> None:
        with self.log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise LocalRuntimeError(
                    f"{command[0]} was not found: install it or put it on the PATH."
                ) from error
        identity = {"pid": self._process.pid, "started": start_time(self._process.pid)}
        # Whole or not at all: who reads it while it is written must not take the child for nobody.
        written = self._pid_path.with_suffix(".pid.new")
        written.write_text(json.dumps(identity), encoding="utf-8")
        written.replace(self._pid_path)

    def _wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        process = self._process
        if process is None:
            raise RuntimeError("there is no child to wait for")
        deadline = time.monotonic() + timeout_s
        while not ready():
            try:
                # Both the pause between two looks and the way to see at once that the child has died.
                code = process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                reason = f"was not ready within {timeout_s:.0f} s"
            else:
                reason = f"ended with status {code} while starting"
            raise LocalRuntimeError(
                f"{self.name} {reason}; its log {self.log_path} ends with:\n{self.log_tail()}"
            )

    def _end_orphan(self) -> None:
        try:
            identity = json.loads(self._pid_path.read_text(encoding="utf-8"))
            pid, started = int(identity["pid"]), identity["started"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return  # no file, or one that a crash cut short: it names nobody, so nobody is ended
        if started is None:
            return
        for sign, timeout_s in ((signal.SIGTERM, _ORPHAN_STOP_S), (signal.SIGKILL, _KILL_S)):
            deadline = time.monotonic() + timeout_s
            if start_time(pid) == started:
                os.kill(pid, sign)
            while start_time(pid) == started and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        if start_time(pid) == started:
            raise LocalRuntimeError(
                f"{self.name} of an earlier run does not end: end process {pid} yourself."
            )
        self._pid_path.unlink(missing_ok=True)
