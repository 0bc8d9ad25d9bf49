"""Series, samples and anomalies from ClickHouse, a page at a time."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa

from console.problems import ProblemError
from schemas.matcher import METRIC, Matcher, Term
from stream.store.clickhouse import Client

T = TypeVar("T")
BAD_CURSOR: Final = "cursor is not one that this list has given: begin without it."

_ANOMALY: Final = (
    "anomaly_id, revision, status, series, metric, labels, kind, severity, direction, score, peak_score, "
    "actual, expected, lower, upper, started, detected, ended, samples, detectors, reason, muted_by"
)
_INCIDENT: Final = (
    "incident_id, revision, status, group, labels, severity, peak_score, started, ended, title, reason, "
    "series, members"
)
_LABEL: Final = "anomaly_id, at, series, verdict, started, ended, detectors, policy, by, why"
_MEMBER: Final = (
    "anomaly_id", "series", "metric", "kind", "severity", "direction", "peak_score", "actual", "expected",
    "lower", "upper", "started", "ended", "reason",
)  # fmt: skip


class Condition(NamedTuple):
    """A part of a WHERE clause with its parameters."""

    sql: str
    parameters: Mapping[str, Any]


class Listing(NamedTuple):
    """A page of rows as dictionaries, and the cursor of the next one."""

    items: list[dict[str, Any]]
    next: str | None


def series(client: Client, where: Sequence[Condition], limit: int, cursor: str | None) -> Listing:
    """In the order of their texts."""
    conditions = list(where)
    if cursor is not None:
        (text,) = decoded(cursor, str)
        conditions.append(Condition("series > {c_series:String}", {"c_series": text}))
    rows = _select(
        client,
        "series_id, series, metric, labels, first_seen, last_seen",
        "series_latest",
        conditions,
        "series",
        limit + 1,
    )
    items = [{"id": f"{row.pop('series_id'):016x}", **row} for row in rows]
    return _page(items, limit, lambda last: [last["series"]])


def one_series(client: Client, series_id: int) -> str:
    """The text of a series; raises `ProblemError` when there is none."""
    rows = client.rows("SELECT series FROM series_latest WHERE series_id = {id:UInt64}", {"id": series_id})
    if not rows:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"There is no series with the id {series_id:016x}.")
    return str(rows[0][0])


def anomalies(client: Client, where: Sequence[Condition], limit: int, cursor: str | None) -> Listing:
    """The newest first."""
    found = _newest_first(
        client, _ANOMALY, "anomalies_latest", ("started", "anomaly_id"), where, limit, cursor
    )
    for item in found.items:
        item["detectors"] = [_spoke(each) for each in item["detectors"]]
    return found


def incidents(client: Client, where: Sequence[Condition], limit: int, cursor: str | None) -> Listing:
    """The newest first."""
    found = _newest_first(
        client, _INCIDENT, "incidents_latest", ("started", "incident_id"), where, limit, cursor
    )
    for item in found.items:
        item["members"] = [_member(each) for each in item["members"]]
    return found


def labels(client: Client, where: Sequence[Condition], limit: int, cursor: str | None) -> Listing:
    """The newest first."""
    return _newest_first(client, _LABEL, "labels_latest", ("at", "anomaly_id"), where, limit, cursor)


def _newest_first(
    client: Client,
    columns: str,
    table: str,
    order: tuple[str, str],
    where: Sequence[Condition],
    limit: int,
    cursor: str | None,
) -> Listing:
    """By a time and an id, both falling."""
    moment, name = order
    conditions = list(where)
    if cursor is not None:
        ms, last = decoded(cursor, int, str)
        conditions.append(
            Condition(
                f"(toUnixTimestamp64Milli({moment}), {name}) < ({{c_ms:Int64}}, {{c_id:String}})",
                {"c_ms": ms, "c_id": last},
            )
        )
    rows = _select(client, columns, table, conditions, f"{moment} DESC, {name} DESC", limit + 1)
    return _page(rows, limit, lambda last: [_ms(last[moment]), last[name]])


def started(start: datetime | None, end: datetime | None) -> list[Condition]:
    """Conditions on the start of an anomaly or incident."""
    found = [] if start is None else [since("started", "start", start)]
    return found if end is None else [*found, before("started", "end", end)]


def window(
    client: Client, series_id: int, start: datetime, end: datetime, columns: Sequence[str]
) -> pa.Table:
    """Samples with ``start <= ts < end``, each time once, in order: ``ts_ms`` (int64), and those of
    ``columns`` (of telemetry_dedup, null where there is nothing).
    """
    conditions = [
        Condition("series_id = {id:UInt64}", {"id": series_id}),
        since("ts", "start", start),
        before("ts", "end", end),
    ]
    clause, parameters = _where(conditions)
    wanted = ", ".join(["toUnixTimestamp64Milli(ts) AS ts_ms", *columns])
    return client.arrow(f"SELECT {wanted} FROM telemetry_dedup {clause} ORDER BY ts", parameters)  # noqa: S608  # ours


def newest(client: Client, series_id: int) -> datetime | None:
    """The time of the newest sample."""
    rows = client.rows(
        "SELECT max(ts), count() FROM telemetry WHERE series_id = {id:UInt64}", {"id": series_id}
    )
    return rows[0][0].replace(tzinfo=UTC) if rows[0][1] else None


def matching(text: str) -> list[Condition]:
    """Conditions on metric and labels of a matcher as in Prometheus; raises `ProblemError`."""
    return [_condition(f"m{number}", term) for number, term in enumerate(matcher(text).terms)]


def matcher(text: str) -> Matcher:
    """Raises `ProblemError`."""
    try:
        return Matcher.parse(text)
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"match {error}") from None


def of_series(text: str, column: str) -> Condition:
    """That a column, or one item of a column of texts, is the text of a series that matches; raises
    `ProblemError`.
    """
    clause, parameters = _where(matching(text))
    found = f"(SELECT groupArray(series) FROM series_latest {clause})"  # noqa: S608  # ours; values are bound
    return Condition(f"hasAny({column}, {found})", parameters)


def sliced(items: Iterable[tuple[str, T]], limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """A page of items with unique names, in the order of these; and the cursor of the next."""
    after = decoded(cursor, str)[0] if cursor is not None else ""
    rest = sorted((each for each in items if each[0] > after), key=lambda each: each[0])
    more = encoded(rest[limit - 1][0]) if len(rest) > limit else None
    return [each for _, each in rest[:limit]], more


def _condition(name: str, term: Term) -> Condition:
    value, parameters = f"{{{name}:String}}", {name: term.value}
    if term.label == METRIC:
        column = "metric"
    else:
        column, parameters[f"{name}l"] = f"labels[{{{name}l:String}}]", term.label
    if term.operator == "*=":
        parameters[name] = _like(term.value)
        return Condition(f"{column} LIKE {value}", parameters)
    if term.operator in {"=~", "!~"}:
        parameters[name] = f"^(?s:{term.value})$"
        return Condition(f"{'NOT ' * (term.operator == '!~')}match({column}, {value})", parameters)
    return Condition(f"{column} {term.operator} {value}", parameters)


def _like(glob: str) -> str:
    escaped = re.sub(r"([\\%_])", r"\\\1", glob)
    return escaped.replace("*", "%").replace("?", "_")


def since(column: str, name: str, moment: datetime) -> Condition:
    """``column >= moment``; ``name`` is that of the parameter."""
    return Condition(f"{column} >= fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')", {name: _ms(moment)})


def before(column: str, name: str, moment: datetime) -> Condition:
    return Condition(f"{column} < fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')", {name: _ms(moment)})


def one_of(column: str, name: str, values: Sequence[str]) -> Condition:
    return Condition(f"{column} IN {{{name}:Array(String)}}", {name: list(values)})


def encoded(*parts: str | int) -> str:
    """A cursor: opaque to clients, readable to us."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def decoded(cursor: str, *kinds: type) -> list[Any]:
    """The parts of a cursor; raises `ProblemError` when it is not one of ours."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if len(parts) == len(kinds) and all(type(p) is k for p, k in zip(parts, kinds, strict=True)):
            return list(parts)
    except (ValueError, TypeError):
        pass
    raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, BAD_CURSOR)


def _select(
    client: Client, columns: str, table: str, where: Sequence[Condition], order: str, limit: int
) -> list[dict[str, Any]]:
    clause, parameters = _where(where)
    names = columns.split(", ")
    sql = f"SELECT {columns} FROM {table} {clause} ORDER BY {order} LIMIT {limit}"  # noqa: S608  # ours; values are bound
    return [dict(zip(names, row, strict=True)) for row in client.rows(sql, parameters)]


def _where(conditions: Sequence[Condition]) -> tuple[str, dict[str, Any]]:
    """The clause and the parameters that it binds."""
    parameters: dict[str, Any] = {}
    for each in conditions:
        parameters |= each.parameters
    clause = f"WHERE {' AND '.join(each.sql for each in conditions)}" if conditions else ""
    return clause, parameters


def _page(items: list[dict[str, Any]], limit: int, key: Any) -> Listing:
    if len(items) <= limit:
        return Listing(items, None)
    items = items[:limit]
    return Listing(items, encoded(*key(items[-1])))


def _member(told: Any) -> dict[str, Any]:
    return dict(told) if isinstance(told, Mapping) else dict(zip(_MEMBER, told, strict=True))


def _spoke(said: Any) -> dict[str, Any]:
    if isinstance(said, Mapping):
        return dict(said)
    name, version, score, artifact = said
    return {"name": name, "version": version, "score": score, "artifact": artifact or None}


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
