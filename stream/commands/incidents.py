"""`tocsin incidents`: what belongs together, in words."""

# ruff: noqa: PLC0415  # the command line imports this module for its options: nothing heavy before it runs
from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stream.errors import UserError

if TYPE_CHECKING:
    from schemas import config as schema

_FIELDS: Final = (
    "incident_id", "revision", "status", "group", "labels", "severity", "peak_score", "started_ms",
    "ended_ms", "title", "reason", "series", "members",
)  # fmt: skip
_MEMBER: Final = (
    "anomaly_id", "series", "metric", "kind", "severity", "direction", "peak_score", "actual", "expected",
    "lower", "upper", "started", "ended", "reason",
)  # fmt: skip
_COLORS: Final = {"info": "cyan", "warning": "yellow", "critical": "red"}


def incidents(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The YAML file.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Set one key.", show_default=False)
    ] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="So many of the newest.")] = 10,
    open_: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One incident a line, as JSON.")] = False,
) -> None:
    """Show the incidents in ClickHouse: anomalies that belong together, the likely root first."""
    import msgspec

    from stream import config as loader
    from stream import logs

    cfg = loader.load(config, overrides or []).config
    logs.silence(cfg.log)
    found = stored(cfg.clickhouse, last, only_open=open_)
    for each in reversed(found):
        typer.echo(msgspec.json.encode(each).decode() if as_json else "\n".join(lines(each)))
    if not found and not as_json:
        typer.echo("No incidents yet." if not open_ else "No incident is open.", err=True)


def stored(cfg: schema.ClickHouse, last: int, *, only_open: bool = False) -> list[dict[str, Any]]:
    """The newest revision of the newest incidents, newest first, without those that others took over."""
    from stream.store.clickhouse import Client, UnavailableError, no_clickhouse

    if not cfg.enabled:
        raise UserError("incidents are read from ClickHouse, and clickhouse.enabled is false")
    only = "AND status != 'close'" if only_open else ""
    try:
        with contextlib.closing(Client.connect(cfg)) as client:
            rows = client.rows(
                f"SELECT {', '.join(_FIELDS)} FROM incidents_latest WHERE merged_into IS NULL {only} "  # noqa: S608  # ours
                "ORDER BY started DESC, incident_id LIMIT {last:UInt32}",
                {"last": last},
            )
    except UnavailableError as error:
        raise no_clickhouse(error) from None
    found = [dict(zip(_FIELDS, row, strict=True)) for row in rows]
    for each in found:
        each["members"] = [_member(member) for member in each["members"]]
    return found


def _member(values: Any) -> dict[str, Any]:
    """A tuple of ClickHouse, or a mapping of its fields, whichever its driver gives."""
    named = dict(values) if hasattr(values, "keys") else dict(zip(_MEMBER, values, strict=True))
    for name in ("started", "ended"):
        at = named.pop(name)
        named[f"{name}_ms"] = None if at is None else round(at.timestamp() * 1000)
    return named


def lines(incident: dict[str, Any]) -> list[str]:
    """For people: a heading, the reason, and a line for each member in order of likely cause."""
    from stream.tail import short, time_text

    ended = incident["ended_ms"]
    span = f"{time_text(incident['started_ms'])} to {'now' if ended is None else time_text(ended)}"
    head = f"{span}  {incident['severity']:<8} {incident['title']}  [{incident['incident_id']}]"
    found = [typer.style(head, fg=_COLORS[incident["severity"]]), f"  {incident['reason']}"]
    for each in incident["members"]:
        number = f"{short(each['actual'])} (expected {short(each['expected'])})"
        found.append(
            f"    {time_text(each['started_ms'])}  {each['series']}  {each['kind']} {each['direction']}  "
            f"{number}  peak {each['peak_score']:.2f}"
        )
    return found
