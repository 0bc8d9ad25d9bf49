"""`tocsin up`: Kafka, ClickHouse and our processes as children of one terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from rich.console import Console

from schemas import config
from stream import topics
from stream.errors import UserError
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from stream.local.process import LOOPBACK, Child, LocalRuntimeError, answers, require_free_port

START_TIMEOUT_S: Final = 90.0
"""For worker and sink: the first start on a machine compiles kernels, on a busy core for half a minute."""

STOP_TIMEOUT_S: Final = 15.0
"""Above what a worker gives its open batches (10 s): less would kill what would have finished."""

RESTART_PAUSE_S: Final = (1.0, 2.0, 5.0, 15.0)
"""Before the first, second, ... restart of a process that ended by itself; the last one from then on."""

STEADY_S: Final = 60.0
"""A process that ran this long counts as well again."""

OURS: Final = ("worker", "sink", "coordinator", "trainer", "console", "pages")

_LOCAL_HOSTS: Final = frozenset({"localhost", LOOPBACK})
_WATCH_S: Final = 0.3


class Service:
    """A command of `tocsin` as a child process; ready when ``ready_path`` of its URL is answered."""

    def __init__(
        self, name: str, folder: Path, options: Sequence[str], url: str, ready_path: str = "/metrics"
    ) -> None:
        self.child = Child(name, folder)
        self.url = url
        self.metrics_url = f"{url}/metrics"
        self._ready_url = f"{url}{ready_path}"
        self._command = [sys.executable, "-m", "stream.cli", name, *options]
        self._started = 0.0
        self._failures = 0
        self._due = 0.0

    def start(self) -> None:
        self._started = time.monotonic()
        self.child.start(self._command, ready=lambda: answers(self._ready_url), timeout_s=START_TIMEOUT_S)

    def ended(self) -> bool:
        """Whether it ended by itself; told once, and then a restart is due after a pause."""
        if self.child.alive or self._due:
            return False
        if time.monotonic() - self._started > STEADY_S:
            self._failures = 0
        pause = RESTART_PAUSE_S[min(self._failures, len(RESTART_PAUSE_S) - 1)]
        self._failures += 1
        self._due = time.monotonic() + pause
        return True

    def restart_due(self) -> bool:
        if not self._due or time.monotonic() < self._due:
            return False
        self._due = 0.0
        return True


class Stack:
    """All processes of one machine, in one folder; `start` brings them up in order, `stop` ends them.

    ``options`` are those of `tocsin` that give a child the configuration ``cfg``. Ports come from ``cfg``.
    """

    def __init__(
        self,
        cfg: config.Config,
        options: Sequence[str],
        folder: Path,
        *,
        kafka: bool = True,
        clickhouse: bool = True,
    ) -> None:
        self.cfg, self.folder = cfg, folder
        self.kafka = LocalKafka(folder / "kafka", port=_kafka_port(cfg)) if kafka else None
        with_store = cfg.clickhouse.enabled
        self.clickhouse = (
            LocalClickHouse(folder / "clickhouse", port=_clickhouse_port(cfg))
            if clickhouse and with_store
            else None
        )
        ports = {"worker": cfg.metrics.worker_port}
        if with_store:
            ports["sink"] = cfg.metrics.sink_port
        ports["coordinator"] = cfg.metrics.coordinator_port
        if with_store:
            ports["trainer"] = cfg.metrics.trainer_port  # also answers what the console asks
        self.services = [
            Service(name, folder, options, f"http://{cfg.metrics.host}:{port}")
            for name, port in ports.items()
        ]
        self.fronts = _fronts(cfg, folder, options) if with_store else []

    @property
    def all(self) -> list[Service]:
        """Those with metrics (`services`), and those that people open (`fronts`)."""
        return [*self.services, *self.fronts]

    def start(self, say: Callable[[str], None]) -> None:
        """Start all; ``say`` hears what is being done. On failure what has been started is stopped."""
        parts = [part for part in (self.kafka, self.clickhouse) if part is not None]
        try:
            # First what a killed parent has left, which holds the ports; again in order.
            self._together([service.child.acquire for service in self.all])
            self._together([part.child.acquire for part in parts])
            for service in self.fronts:
                require_free_port(int(service.url.rpartition(":")[2]), f"`tocsin {service.child.name}`")
            say("Kafka and ClickHouse start")
            self._together([part.start for part in parts])
            say("topics are created")
            asyncio.run(topics.ensure(self.cfg))
            say(f"{', '.join(service.child.name for service in self.all)} start")
            self._together([service.start for service in self.all])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop in order: first who writes, then where it is written to. Nothing interrupts it."""
        with _undisturbed():
            self._together([lambda c=service.child: c.stop(STOP_TIMEOUT_S) for service in self.all])  # type: ignore[misc]
            self._together([part.stop for part in (self.kafka, self.clickhouse) if part is not None])

    def watch(self, say: Callable[[str], None]) -> None:
        """Restart our processes that end, until interrupted; raises when Kafka or ClickHouse ends."""
        while True:
            for part in (self.kafka, self.clickhouse):
                if part is not None and not part.child.alive:
                    raise LocalRuntimeError(
                        f"{part.child.name} ended by itself; "
                        f"its log {part.log_path} ends with:\n{part.child.log_tail()}"
                    )
            for service in self.all:
                self._tend(service, say)
            time.sleep(_WATCH_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @staticmethod
    def _tend(service: Service, say: Callable[[str], None]) -> None:
        child = service.child
        if service.ended():
            say(f"{child.name} ended with status {child.returncode}; its log ends with:\n{child.log_tail(5)}")
        elif service.restart_due():
            try:
                service.start()
                say(f"{child.name} runs again")
            except LocalRuntimeError as error:
                say(str(error))

    @staticmethod
    def _together(actions: Sequence[Callable[[], None]]) -> None:
        """Run at the same time and wait for all, whatever happens to one; raises the first failure."""
        with ThreadPoolExecutor(max(1, len(actions))) as pool:
            running = [pool.submit(action) for action in actions]
        for each in running:
            each.result()


def clear(folder: Path) -> None:
    """Forget the data of an earlier run in this folder and end what is left of it, if its parent was killed.

    Raises `AlreadyRunningError` when its parent is alive.
    """
    kafka, clickhouse = LocalKafka(folder / "kafka"), LocalClickHouse(folder / "clickhouse")
    ours = [Child(name, folder) for name in (*OURS, "prometheus", "alertmanager")]
    children = [*ours, kafka.child, clickhouse.child]
    try:
        for child in children:
            child.acquire()
        for part in (kafka, clickhouse):
            part.clear()
    finally:
        for child in children:
            child.release()


def run(cfg: config.Config, options: Sequence[str], folder: Path, *, kafka: bool, clickhouse: bool) -> None:
    """Bring all up, say where everything is, and stay until Ctrl-C or SIGTERM."""
    console = Console(highlight=False)
    with Stack(cfg, options, folder, kafka=kafka, clickhouse=clickhouse) as stack:
        with console.status("Starting ...") as status:
            stack.start(lambda text: status.update(f"Starting: {text} ..."))
        console.print("\n".join(where(stack)), soft_wrap=True)
        console.print(
            "\nSend telemetry with `tocsin produce FILE.csv`, see anomalies with `tocsin tail -f`. "
            "Ctrl-C stops all.",
            soft_wrap=True,
        )
        try:
            stack.watch(lambda text: console.print(text, markup=False, soft_wrap=True))
        except KeyboardInterrupt:
            console.print("Stopping ...")


def _fronts(cfg: config.Config, folder: Path, options: Sequence[str]) -> list[Service]:
    host = LOOPBACK if cfg.console.host == "0.0.0.0" else cfg.console.host  # noqa: S104  # compared, not bound
    return [
        Service("console", folder, options, f"http://{host}:{cfg.console.port}", "/healthz"),
        Service("pages", folder, options, f"http://{host}:{cfg.console.pages_port}", "/_stcore/health"),
    ]


def where(stack: Stack) -> Iterator[str]:
    """Lines that say where each part is."""
    cfg = stack.cfg
    yield f"Kafka        {cfg.kafka.bootstrap_servers}, telemetry in {', '.join(i.topic for i in cfg.inputs)}"
    yield f"anomalies    topic {cfg.topics.anomalies.name}"
    if cfg.clickhouse.enabled:
        store = cfg.clickhouse
        yield f"ClickHouse   http://{store.host}:{store.port}, database {store.database}"
    for service in stack.services:
        yield f"{service.child.name:<12} {service.metrics_url}, log {service.child.log_path}"
    yield from fronts(stack)


def fronts(stack: Stack) -> Iterator[str]:
    """Lines that say what to open in a browser."""
    if not stack.fronts:
        yield "console      is not started: clickhouse.enabled is false, and it shows what ClickHouse holds"
    for service in stack.fronts:
        what = f"{service.url}/docs" if service.child.name == "console" else service.url
        yield f"{service.child.name:<12} {what}, log {service.child.log_path}"


def _kafka_port(cfg: config.Config) -> int:
    host, _, port = cfg.kafka.bootstrap_servers.partition(":")
    if host not in _LOCAL_HOSTS or not port.isdigit():
        raise UserError(
            f"kafka.bootstrap_servers is {cfg.kafka.bootstrap_servers}, which is not on this machine: "
            "use that Kafka with --no-kafka, or set it to 127.0.0.1:9092 for a local one"
        )
    return int(port)


def _clickhouse_port(cfg: config.Config) -> int:
    if cfg.clickhouse.dsn:
        raise UserError(
            "clickhouse.dsn opens the engine in one process; `tocsin up` serves it over HTTP: leave it empty"
        )
    if cfg.clickhouse.host not in _LOCAL_HOSTS:
        raise UserError(
            f"clickhouse.host is {cfg.clickhouse.host}, which is not this machine: "
            "use that one with --no-clickhouse"
        )
    return cfg.clickhouse.port


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C would leave processes behind; every step inside has a deadline of its own."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
