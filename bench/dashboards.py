"""What the Grafana dashboards ask, as the engines get it.

Grafana and its ClickHouse plugin put macros and variables into the text of a query. The same is done here, so
that tests can run every query, and `bench.pictures` can draw the panels without Grafana.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from schemas import config
from stream import observe

FOLDER: Final = Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards"

_MACRO: Final = re.compile(r"\$__(\w+)(?:\((\w+(?:\.\w+)?)\))?")
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}")


class Query(NamedTuple):
    """One query; ``language`` is sql or promql, ``where`` says whose it is."""

    dashboard: str
    where: str
    language: str
    text: str


class Range(NamedTuple):
    """What the time picker says, in Unix seconds, and the width of a point."""

    start_s: int
    end_s: int
    step_s: int = 60


def dashboards() -> list[dict[str, Any]]:
    """All dashboards, by name of the file."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Those of panels and annotations; `variables` has its own."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield _query(dashboard["uid"], f"panel {panel['title']!r} {target['refId']}", target)
    for annotation in dashboard["annotations"]["list"]:
        yield _query(dashboard["uid"], f"annotation {annotation['name']!r}", annotation["target"])


def variables(dashboard: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, SQL, and whether many values may be chosen, in the order in which they depend on each other."""
    return [(each["name"], each["query"], each["multi"]) for each in dashboard["templating"]["list"]]


def expand_sql(text: str, span: Range, chosen: Mapping[str, Sequence[str]]) -> str:
    """As the ClickHouse plugin does; raises ``ValueError`` for a macro or a variable that is unknown."""

    def macro(found: re.Match[str]) -> str:
        name, column = found[1], found[2]
        if name == "timeFilter":
            return f"{column} >= toDateTime({span.start_s}) AND {column} <= toDateTime({span.end_s})"
        if name == "timeInterval":
            return f"toStartOfInterval(toDateTime({column}), INTERVAL {span.step_s} second)"
        if name == "fromTime":
            return f"toDateTime({span.start_s})"
        if name == "toTime":
            return f"toDateTime({span.end_s})"
        raise ValueError(f"unknown macro $__{name}")

    def variable(found: re.Match[str]) -> str:
        if found[1] not in chosen or found[2] != "sqlstring":
            raise ValueError(f"unknown variable or format {found[0]}")
        return ",".join("'" + value.replace("'", "''") + "'" for value in chosen[found[1]])

    return _VARIABLE.sub(variable, _MACRO.sub(macro, text))


def expand_promql(text: str, rate_interval_s: int) -> str:
    """As Grafana does, for dashboards without variables."""
    expanded = text.replace("$__rate_interval", f"{rate_interval_s}s")
    if "$" in expanded:
        raise ValueError(f"unknown variable in {text}")
    return expanded


def _query(uid: str, where: str, target: Mapping[str, Any]) -> Query:
    if target["datasource"]["type"] == "prometheus":
        return Query(uid, where, "promql", target["expr"])
    return Query(uid, where, "sql", target["rawSql"])


def choose(store: config.ClickHouse, dashboard: Mapping[str, Any], span: Range) -> dict[str, list[str]]:
    """What Grafana would at first: all values where many may be chosen, else the first one."""
    chosen: dict[str, list[str]] = {}
    for name, sql, multi in variables(dashboard):
        rows = observe.query(store, expand_sql(sql, span, chosen))
        values = [str(next(iter(row.values()))) for row in rows]
        chosen[name] = values if multi else values[:1]
    return chosen
