"""ClickHouse, made from the configuration: the only module that imports clickhouse_connect.

`Client` is for one thread: a server over HTTP, or the embedded engine in this process. `ClickHouse` gives a
client a thread of its own, for coroutines. What is done with a client (`stream.store.migrations`,
`stream.store.history`, `stream.store.sink`) is therefore written once, as functions that take a `Client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    InterfaceError,
    OperationalError,
    StreamFailureError,
)
from clickhouse_connect.driver.httputil import get_pool_manager_options
from urllib3 import PoolManager

from schemas import config
from stream.errors import UserError

__all__ = ["ClickHouse", "Client", "RefusedError", "UnavailableError"]

CONNECT_TIMEOUT_S: Final = 5
"""Opening a TCP connection. Longer only delays the news that a host is gone."""

REPLY_TIMEOUT_S: Final = 120
"""Waiting for a reply. Shorter than a server's slowest insert (merges, a busy disk) and one that succeeded is
sent again, which costs work and no correctness; longer and a cut connection is noticed later."""

_TRANSIENT: Final = {
    74: "cannot_read_from_file_descriptor",
    75: "cannot_write_to_file_descriptor",  # a disk that is full, as the operating system says it
    159: "timeout_exceeded",
    160: "too_slow",
    164: "readonly",  # a server or a user in maintenance
    202: "too_many_simultaneous_queries",
    203: "no_free_connection",
    209: "socket_timeout",
    210: "network_error",
    225: "no_zookeeper",
    236: "aborted",  # it is shutting down
    241: "memory_limit_exceeded",
    242: "table_is_read_only",
    243: "not_enough_space",
    252: "too_many_parts",
    279: "all_connection_tries_failed",
    285: "too_few_live_replicas",
    286: "unsatisfied_quorum_for_previous_write",
    319: "unknown_status_of_insert",
    335: "barrier_timeout",
    394: "query_was_cancelled",
    425: "system_error",
    439: "cannot_schedule_task",
    473: "deadlock_avoided",
    499: "s3_error",
    517: "cannot_assign_alter",
    774: "table_is_permanently_read_only",  # the table's setting table_readonly
    999: "keeper_exception",
    1000: "poco_exception",
}
"""Errors that pass without anybody changing a statement or a schema: ClickHouse's number and name of each."""

_PROXY_STATUS: Final = re.compile(r"HTTP status (?:429|5\d\d)\b")
_CODE_AND_TEXT: Final = re.compile(r"Code: \d+\. DB::Exception: .*", re.DOTALL)
_NO_SUCH_DATABASE: Final = 81

T = TypeVar("T")


class UnavailableError(Exception):
    """ClickHouse cannot do it now; the same call may succeed later. Whether it was done is not known.

    ``cause`` is ClickHouse's name of the error in lower case, ``unreachable`` when no answer of its came.
    """

    def __init__(self, message: str, cause: str = "unreachable") -> None:
        super().__init__(message)
        self.cause = cause


def no_clickhouse(error: UnavailableError) -> UserError:
    """For a command that cannot wait."""
    return UserError(f"{error}: start one with `tocsin up`, or set clickhouse.host and clickhouse.port")


class RefusedError(UserError):
    """ClickHouse will not do it, however often it is asked; ``code`` is its number for the reason."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Client:
    """A connection for the thread that makes it; all its errors are `UnavailableError` or `RefusedError`."""

    def __init__(self, raw: Any, database: str) -> None:
        self._raw = raw
        self.database = database

    @classmethod
    def connect(cls, cfg: config.ClickHouse, *, create: bool = False, address: str | None = None) -> Self:
        """Connect; ``create`` makes the database where it is missing. Costs about 1.5 s when embedded.

        ``address`` is the IP address of ``cfg.host`` that the caller has looked up and found allowed: the
        name is not looked up again.
        """
        with _in_our_words(cfg):
            client = cls(_open(cfg, address), cfg.database)
        try:
            with _in_our_words(cfg):
                client._enter(create)
        except BaseException:
            client.close()
            raise
        return client

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run a statement that gives no rows, or a single value."""
        with _in_our_words():
            return self._raw.command(sql, parameters=parameters)

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        with _in_our_words():
            found: Sequence[Sequence[Any]] = self._raw.query(sql, parameters=parameters).result_rows
        return found

    def arrow(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> pa.Table:
        """The result as columns, whole in memory; ``settings`` hold for this statement, in their order."""
        with _in_our_words():
            return self._raw.query_arrow(sql, parameters=parameters, settings=settings, use_strings=True)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert and return once ClickHouse has it. Below a million rows it is there whole or not at all,
        partition by partition.
        """
        # A batch of old telemetry may reach over more than the 100 days that a server allows by default.
        settings = {"max_partitions_per_insert_block": 0}
        with _in_our_words():
            self._raw.insert_arrow(table, rows, settings=settings)

    def close(self) -> None:
        with contextlib.suppress(ClickHouseError, OSError):
            self._raw.close()

    def _enter(self, create: bool) -> None:
        name = f"`{self.database}`"  # the configuration allows letters, digits and _ only
        if not int(self._raw.command(f"EXISTS DATABASE {name}", use_database=False)):
            if not create:
                raise RefusedError(f"database {self.database} does not exist: start `tocsin sink` once")
            self._raw.command(f"CREATE DATABASE IF NOT EXISTS {name} ENGINE = Atomic", use_database=False)
        self._raw.database = self.database


class ClickHouse:
    """A `Client` in a thread of its own, connected when first needed and again after it failed to."""

    def __init__(self, cfg: config.ClickHouse, *, create: bool = False) -> None:
        self._cfg = cfg
        self._create = create
        self._client: Client | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """``work(client, *args)`` in the thread; calls run one after another.

        Cancelling stops waiting, not the work.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, work, args)

    async def close(self) -> None:
        """Close once the running work has ended."""
        await asyncio.to_thread(self._thread.submit(self._close).result)
        self._thread.shutdown()

    def _call(self, work: Callable[..., T], args: tuple[Any, ...]) -> T:
        if self._client is None:
            self._client = Client.connect(self._cfg, create=self._create)
        return work(self._client, *args)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def quiet() -> None:
    """Drop the libraries' warnings of each failed try: `UnavailableError` says it, and is told once."""
    for name in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(name).setLevel(logging.ERROR)


def where(cfg: config.ClickHouse) -> str:
    """The address for messages to people, without a password."""
    if cfg.dsn.startswith("chdb:"):
        return cfg.dsn
    return f"http{'s' * cfg.secure}://{cfg.host}:{cfg.port}"


class _NoRedirects(PoolManager):
    """ClickHouse never redirects: whoever answers so would send us, and the password, somewhere else."""

    def urlopen(self, *arguments: Any, **options: Any) -> Any:
        return super().urlopen(*arguments, **(options | {"redirect": False}))


def _pool(cfg: config.ClickHouse) -> PoolManager:
    """For a server that a request has named: its certificate is that of the name, not of the address."""
    named: dict[str, Any] = {"assert_hostname": cfg.host, "server_hostname": cfg.host} if cfg.secure else {}
    return _NoRedirects(**get_pool_manager_options(**named))


def _open(cfg: config.ClickHouse, address: str | None = None) -> Any:
    if cfg.dsn.startswith("chdb:"):
        return clickhouse_connect.get_client(dsn=cfg.dsn)
    where_to: dict[str, Any] = {"host": cfg.host, "dedicated_pool": True}
    if address is not None:
        where_to = {"host": address, "server_host_name": cfg.host, "pool_mgr": _pool(cfg)}
    return clickhouse_connect.get_client(
        **where_to,
        port=cfg.port,
        secure=cfg.secure,
        username=cfg.username,
        password=cfg.password,
        client_name="tocsin",
        compress="lz4",
        autogenerate_session_id=False,  # a session admits one statement at a time
        query_retries=0,  # whoever calls knows whether and how long to try again
        connect_timeout=CONNECT_TIMEOUT_S,
        send_receive_timeout=REPLY_TIMEOUT_S,
    )


@contextlib.contextmanager
def _in_our_words(cfg: config.ClickHouse | None = None) -> Iterator[None]:
    """Sort the library's errors into those that pass and those that stay."""
    place = f"ClickHouse at {where(cfg)}: " if cfg is not None else ""
    try:
        yield
    except ClickHouseError as error:
        code, text = getattr(error, "code", None), f"{place}{_told(error)}"
        if _passes(error, code):
            raise UnavailableError(text, _TRANSIENT.get(code or 0, "unreachable")) from error
        raise RefusedError(text, code) from error
    except OSError as error:
        raise UnavailableError(f"{place}{error}") from error


def _passes(error: ClickHouseError, code: int | None) -> bool:
    if code is not None:
        return code in _TRANSIENT
    if isinstance(error, OperationalError | StreamFailureError | InterfaceError):
        return True
    return _PROXY_STATUS.search(str(error)) is not None


def _told(error: ClickHouseError) -> str:
    """The cause in one line: what the server said, or what the connection died of."""
    said = _CODE_AND_TEXT.search(str(error))
    if said is not None:
        return said[0].split("\n", 1)[0]
    cause = error.__cause__
    reason = getattr(cause, "reason", None) or cause or error
    return str(reason).split("\n", 1)[0]
