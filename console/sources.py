"""The ClickHouse servers that a request may read, and what it may do there: look, for a limited time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from console.models import FindRequest
from console.problems import ProblemError
from schemas import config
from stream import addresses
from stream.refresh.frames import Frame
from stream.store import history
from stream.store.clickhouse import Client, RefusedError, UnavailableError

MAX_SERIES: Final = 32
"""Of one question: all metrics of a service, not all of a cluster."""

MAX_MS: Final = 4_102_444_800_000
"""The year 2100: after any sample."""

_FORBIDDEN: Final = re.compile(
    r"^\s*(?:\w*\s*)?Function (file|dictGet\w*|catboostEvaluate|getServerSetting|sleep\w*) ", re.MULTILINE
)
"""Functions that read beside the tables, or hold a thread; readonly=1 forbids table functions and writes."""

_DATE: Final = re.compile(r"(?:Nullable\()?(?:Date|Date32|DateTime)\b")

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def allowed(cfg: config.Config, host: str | None, port: int | None) -> config.DataSource | None:
    """The server that a request names, None for the configured one; raises `ProblemError`."""
    own = cfg.clickhouse
    if host is None or (_same(host, own.host) and (port is None or port == own.port)):
        return None
    for each in cfg.console.data_sources:
        if _same(host, each.host) and (port is None or port == each.port):
            return each
    raise ProblemError(
        HTTPStatus.FORBIDDEN,
        f"data_source {host}:{port or own.port} is not among the servers of the configuration: "
        "leave host and port out for the telemetry of Tocsin, or let an operator add it to "
        "console.data_sources.",
    )


async def query(cfg: config.Config, host: str | None, port: int | None, sql: str) -> pa.Table:
    """The rows of a SELECT, at most ``console.max_rows``; raises `ProblemError` or `RefusedError`."""
    source = allowed(cfg, host, port)
    if source is None:
        return await asyncio.to_thread(_query, cfg.clickhouse, None, sql, cfg.console)
    address = await _address(source)
    return await asyncio.to_thread(_query, _server(source), address, sql, cfg.console)


def _server(source: config.DataSource) -> config.ClickHouse:
    names = ("host", "port", "secure", "username", "password", "database")
    return config.ClickHouse(**{name: getattr(source, name) for name in names})


async def _address(source: config.DataSource) -> str:
    """The address to connect to: looked up once, so that a name cannot mean another one afterwards."""
    try:
        found = await asyncio.to_thread(addresses.resolve, source.host, source.port)
    except OSError as error:
        raise ProblemError(
            HTTPStatus.BAD_GATEWAY, f"{source.host} cannot be looked up: {error.strerror}"
        ) from None
    if not source.allow_private and not all(map(addresses.is_public, found)):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"{source.host} has the private address {found[0]}: an operator can allow it with allow_private.",
        )
    return found[0]


def _query(server: config.ClickHouse, address: str | None, sql: str, limits: config.Console) -> pa.Table:
    inner = sql.strip().rstrip(";").rstrip()
    settings = _settings(limits)
    client = Client.connect(server, address=address)
    try:
        _only_tables(client, f"SELECT * FROM (\n{inner}\n)", settings)  # noqa: S608  # readonly, see below
        columns = ", ".join(_columns(client, inner, settings))
        wrapped = f"SELECT {columns} FROM (\n{inner}\n) LIMIT {limits.max_rows + 1}"  # noqa: S608
        table = client.arrow(wrapped, settings=settings)
    except RefusedError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"data_source.query: {error}") from None
    except UnavailableError as error:
        if "(READONLY)" not in str(error):
            raise
        raise ProblemError(HTTPStatus.FORBIDDEN, f"data_source.query may only read tables: {error}") from None
    finally:
        client.close()
    if len(table) > limits.max_rows:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"data_source.query gives more than {limits.max_rows} rows: ask for a shorter range.",
        )
    return table


def _columns(client: Client, inner: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """What to select; Arrow would carry DateTime and Date as bare numbers."""
    described = client.arrow(f"DESCRIBE TABLE (\n{inner}\n)", settings=settings)
    names, types = (described.column(each).to_pylist() for each in ("name", "type"))
    for name, kind in zip(names, types, strict=True):
        quoted = "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
        yield f"toDateTime64({quoted}, 3, 'UTC') AS {quoted}" if _DATE.match(kind) else quoted


def _settings(limits: config.Console) -> Mapping[str, Any]:
    """In this order: with readonly=1, nothing can be set any more."""
    return {
        "max_execution_time": max(1, limits.query_timeout_ms // 1000),
        "max_result_bytes": limits.max_rows * 200,
        "max_rows_to_read": 200 * limits.max_rows,
        "max_memory_usage": 2_000_000_000,
        "readonly": 1,
    }


def _only_tables(client: Client, sql: str, settings: Mapping[str, Any]) -> None:
    """Raise where the statement calls what reads outside of tables (seen in its syntax tree)."""
    tree = "\n".join(client.arrow(f"EXPLAIN AST {sql}", settings=settings).column(0).to_pylist())
    found = _FORBIDDEN.search(tree)
    if found is not None:
        raise ProblemError(
            HTTPStatus.FORBIDDEN, f"data_source.query: the function {found[1]} is not allowed here."
        )


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower() or {one.lower(), other.lower()} <= _LOCAL_NAMES


class Source(NamedTuple):
    """Samples to ask about, and of the columns that are series of the telemetry their texts."""

    frame: Frame
    series: Mapping[str, str] = {}


def telemetry(client: Client, request: FindRequest, limits: config.Console) -> Source:
    """Samples of the telemetry table; ``column_name`` is a metric or the text of a series.

    Each series of the metric is a column by its text, and by the metric's name where it is the only one.
    """
    texts = _series(client, request.column_name)
    start, end = _span(request)
    found = history.read(client, texts, start, end)
    rows = sum(len(each.ts_ms) for each in found.values())
    if rows > limits.max_rows:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"These are {rows} samples, more than {limits.max_rows}: give start and end.",
        )
    times = np.unique(np.concatenate([each.ts_ms for each in found.values()]))
    columns, series = {}, {}
    for text, each in found.items():
        column = np.full(len(times), np.nan)
        column[np.searchsorted(times, each.ts_ms)] = each.values
        title = _title(text, texts, request.column_name)
        columns[title], series[title] = column, text
    return Source(Frame(times, columns), series)


def _series(client: Client, name: str | None) -> list[str]:
    """Texts of the series that a name means; all that there are, up to `MAX_SERIES`, without one."""
    where = "WHERE metric = {name:String} OR series = {name:String}" if name else ""
    rows = client.rows(
        f"SELECT series FROM series_latest {where} ORDER BY series LIMIT {MAX_SERIES + 1}",  # noqa: S608  # bound
        {"name": name} if name else None,
    )
    if not rows:
        what = f"no series {name!r}" if name else "no telemetry yet"
        raise ProblemError(HTTPStatus.NOT_FOUND, f"There is {what}: GET /series lists what there is.")
    if len(rows) > MAX_SERIES:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"column_name means more than {MAX_SERIES} series: give the text of one from GET /series.",
        )
    return [str(row[0]) for row in rows]


def _title(text: str, texts: list[str], name: str | None) -> str:
    """The column's name: as it was asked for where that means one series."""
    return name if name and len(texts) == 1 else text


def _span(request: FindRequest) -> tuple[int, int]:
    start = 0 if request.start is None else round(request.start.timestamp() * 1000)
    end = MAX_MS if request.end is None else round(request.end.timestamp() * 1000)
    return start, end
