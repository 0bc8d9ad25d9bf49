"""`tocsin mute | mutes | unmute | label | change`: what people tell Tocsin about anomalies."""

# ruff: noqa: PLC0415  # the command line imports this module for its options: nothing heavy before it runs
from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from stream.errors import UserError

if TYPE_CHECKING:
    from schemas import config as schema
    from schemas.control import Command, Mute

_UNITS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_LABEL: Final = re.compile(r"([A-Za-z_]\w*)=([^=\"{}]*)")
_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The YAML file.", show_default=False)]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Set one key.", show_default=False)]
By = Annotated[str, typer.Option(help="Who says so; else the user of this machine.", show_default=False)]
Why = Annotated[str, typer.Option(help="For those who read it later.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def mute(
    matcher: Annotated[
        str, typer.Argument(help="""The series: 'cpu{host=~"web.*"}', '{service="shop"}', '*' for all.""")
    ],
    config: Config = None,
    overrides: Sets = None,
    from_: Annotated[
        str, typer.Option("--from", help="ISO 8601 or Unix time; else now.", show_default=False)
    ] = "",
    until: Annotated[str, typer.Option(help="The end, not included.", show_default=False)] = "",
    for_: Annotated[
        str,
        typer.Option("--for", help="Instead: 90m, 2h, 1d; 'ever' holds until unmuted.", show_default=False),
    ] = "",
    learn: Annotated[bool, typer.Option(help="Whether the models learn meanwhile.")] = True,
    repeat: Annotated[str, typer.Option(help="RFC 5545: FREQ=WEEKLY;BYDAY=SU.", show_default=False)] = "",
    timezone: Annotated[str, typer.Option(help="Of times without one, and of repetitions.")] = "UTC",
    calendar: Annotated[
        Path | None, typer.Option(help="Import the events of an iCalendar file.", show_default=False)
    ] = None,
    why: Why = "",
    by: By = "",
    name: Annotated[str, typer.Option("--id", help="Replace the mute of this id.", show_default=False)] = "",
) -> None:
    """Keep anomalies of some series from people for a time: they are written with the mute, and not sent."""
    import secrets

    from schemas.control import Mute
    from stream.control.commanding import now_ms, selecting, someone

    cfg = _load(config, overrides)
    if bare := _LABEL.fullmatch(matcher):
        meant = selecting({bare[1]: bare[2]})
        raise UserError(f"{matcher} names a metric; for series with that label write '{meant}'")
    _zone(timezone)
    if calendar is not None:
        if from_ or until or for_ or repeat or name:
            raise UserError("--calendar says when: leave out --from, --until, --for, --repeat and --id")
        mutes_ = _from_calendar(calendar, matcher, timezone, learn=learn, by=by or someone())
    else:
        start_ms = _time(from_, timezone) if from_ else now_ms()
        end_ms = _until(start_ms, until, for_, timezone)
        mute_id, at_ms = name or secrets.token_hex(4), now_ms()
        single = Mute(
            command_id=f"{mute_id}-{at_ms}",
            at_ms=at_ms,
            by=by or someone(),
            why=why,
            mute_id=mute_id,
            matcher=matcher,
            start_ms=start_ms,
            end_ms=end_ms,
            repeat=repeat,
            timezone=timezone,
            learn=learn,
        )
        mutes_ = [single]
    _send(cfg, mutes_)
    for each in mutes_:
        typer.echo(f"{each.mute_id}  {_when(each)}  {each.matcher}  {each.why}".rstrip())


def mutes(
    config: Config = None,
    overrides: Sets = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over or lifted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One a line, as on the topic.")] = False,
) -> None:
    """Show the mutes that hold or will."""
    import msgspec

    from stream.control.commanding import now_ms, standing

    found = _run(_load(config, overrides), standing)
    now = now_ms()
    for each in found:
        state = each.state(now)
        if not all_ and state in {"over", "lifted"}:
            continue
        mute_ = each.mute
        if as_json:
            told = {"state": state, "lifted_ms": each.lifted_ms, **msgspec.to_builtins(mute_)}
            typer.echo(msgspec.json.encode(told).decode())
        else:
            note = " ".join(filter(None, ("" if mute_.learn else "(not learned)", mute_.why, mute_.by)))
            typer.echo(f"{mute_.mute_id}  {state:<8} {_when(mute_)}  {mute_.matcher}  {note}".rstrip())


def unmute(
    mute_id: Annotated[str, typer.Argument(help="As `tocsin mutes` shows it.")],
    config: Config = None,
    overrides: Sets = None,
    why: Why = "",
    by: By = "",
) -> None:
    """Lift a mute now, with all its repetitions."""
    from schemas.control import Unmute
    from stream.control.commanding import now_ms, someone, standing

    cfg = _load(config, overrides)
    known = [each.mute.mute_id for each in _run(cfg, standing) if each.lifted_ms is None]
    if mute_id not in known:
        raise UserError(f"no mute {mute_id} is set: `tocsin mutes` shows those that are")
    at_ms = now_ms()
    command = Unmute(
        command_id=f"{mute_id}-{at_ms}", at_ms=at_ms, by=by or someone(), why=why, mute_id=mute_id
    )
    _send(cfg, [command])
    typer.echo(f"{mute_id} is lifted")


def label(
    anomaly_id: Annotated[str, typer.Argument(help="As in the event; `tocsin tail --json` shows it.")],
    verdict: Annotated[
        Literal["true", "false", "expected"],
        typer.Argument(help="true: it was one; false: nothing was wrong; expected: it was, and known."),
    ],
    config: Config = None,
    overrides: Sets = None,
    why: Why = "",
    by: By = "",
    yes: Yes = False,
) -> None:
    """Say what an anomaly was. What the verdict proposes, and would have done to the past month, is shown."""
    from stream.control import verdicts
    from stream.control.commanding import now_ms, someone

    cfg = _load(config, overrides)
    found, preview = _previewed(cfg, anomaly_id, verdict)
    typer.echo(f"{found.series}, peak score {found.peak_score:.2f}: {found.reason}")
    typer.echo("\n".join(preview.lines()))
    if not yes and not typer.confirm(f"Label it {verdict}?"):
        return
    _send(cfg, [verdicts.label(cfg.engine, found, verdict, at_ms=now_ms(), by=by or someone(), why=why)])
    typer.echo(f"{anomaly_id} is labelled {verdict}")


def change(
    labels: Annotated[list[str], typer.Argument(help="Whose series: service=shop, and further labels.")],
    config: Config = None,
    overrides: Sets = None,
    title: Annotated[str, typer.Option(help="For people, such as a version.")] = "",
    kind: Annotated[str, typer.Option(help="For people.")] = "deploy",
    at: Annotated[str, typer.Option(help="ISO 8601 or Unix time; else now.", show_default=False)] = "",
    mute_minutes: Annotated[
        int | None, typer.Option(help="Else changes.mute_minutes; 0 mutes nothing.", min=0, max=10_080)
    ] = None,
    url: Annotated[str, typer.Option(help="Where to read more.")] = "",
    by: By = "",
    name: Annotated[
        str, typer.Option("--id", help="The same change may be told twice under it.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, send nothing.")] = False,
) -> None:
    """Tell of a deployment or another change: its series are muted for a while, by the coordinator."""
    import secrets

    from schemas.control import Change
    from stream.control import commanding

    cfg = _load(config, overrides)
    pairs = dict(each.partition("=")[::2] for each in labels)
    if not all(pairs) or len(pairs) < len(labels) or not all("=" in each for each in labels):
        raise UserError(f"{' '.join(labels)}: write each label once, as name=value")
    told = Change(
        change_id=name or secrets.token_hex(4),
        at_ms=_time(at, "UTC") if at else commanding.now_ms(),
        labels=pairs,
        kind=kind,
        title=title,
        by=by or commanding.someone(),
        url=url,
        mute_minutes=mute_minutes,
    )
    opened = commanding.of_change(told, cfg.changes)
    effect = "mutes nothing" if opened is None else f"mutes {opened.matcher}  {_when(opened)}"
    if dry_run:
        effect += "  (not sent)"
    else:
        if opened is not None:
            effect += f"  (`tocsin unmute {opened.mute_id}` lifts it)"
        try:
            _run(cfg, lambda c: commanding.tell(c, told))
        except ValueError as error:
            raise UserError(str(error)) from None
    typer.echo(f"{told.change_id}  {effect}")


def _previewed(cfg: schema.Config, anomaly_id: str, verdict: Any) -> Any:
    import contextlib

    from stream.control import verdicts
    from stream.store.clickhouse import Client, UnavailableError, no_clickhouse

    if not cfg.clickhouse.enabled:
        raise UserError("the anomaly is looked up in ClickHouse, and clickhouse.enabled is false")
    try:
        with contextlib.closing(Client.connect(cfg.clickhouse)) as client:
            found = verdicts.anomaly(client, anomaly_id)
            return found, verdicts.preview(client, cfg.engine, found, verdict)
    except UnavailableError as error:
        raise no_clickhouse(error) from None


def _from_calendar(path: Path, matcher: str, timezone: str, *, learn: bool, by: str) -> list[Mute]:
    from stream.control import ical
    from stream.control.commanding import now_ms

    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    found = ical.mutes(text, ical.Window(matcher, timezone, learn, by, now_ms()))
    if not found:
        raise UserError(f"{path} has no event")
    return found


def _until(start_ms: int, until: str, for_: str, timezone: str) -> int | None:
    if bool(until) == bool(for_):
        raise UserError(
            "say how long with one of --until TIME and --for 2h; --for ever until `tocsin unmute`"
        )
    if until:
        return _time(until, timezone)
    if for_ == "ever":
        return None
    length = _LENGTH.fullmatch(for_)
    if length is None:
        raise UserError(f"--for {for_}: write a number and s, m, h, d or w, such as 90m")
    return start_ms + int(float(length[1]) * _UNITS[length[2]])


def _time(text: str, timezone: str) -> int:
    from stream.files.tables import parse_time

    zone = _zone(timezone)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    try:
        if moment is not None and moment.tzinfo is None and not text.isdigit():
            return round(moment.replace(tzinfo=zone).timestamp() * 1000)
        return parse_time(text)
    except ValueError as error:
        raise UserError(f"{text}: {error}; a time is ISO 8601, Unix seconds or Unix milliseconds") from None


def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UserError(f"--timezone {name}: write an IANA name such as Europe/Berlin") from None


def _when(mute_: Mute) -> str:
    start = f"{datetime.fromtimestamp(mute_.start_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    end = "until it is lifted"
    if mute_.end_ms is not None:
        end = f"to {datetime.fromtimestamp(mute_.end_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    again = f", {mute_.repeat} ({mute_.timezone})" if mute_.repeat else ""
    return f"{start} {end}{again}"


def _send(cfg: schema.Config, commands: list[Any]) -> None:
    from stream.control.commanding import send

    made: list[Command] = commands
    try:
        _run(cfg, lambda c: send(c, made))
    except ValueError as error:
        raise UserError(str(error)) from None


def _run(cfg: schema.Config, work: Any) -> Any:
    from stream.files.produce import no_broker
    from stream.kafka import KafkaError

    coroutine: Coroutine[Any, Any, Any] = work(cfg)
    try:
        return asyncio.run(coroutine)
    except (KafkaError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error


def _load(path: Path | None, overrides: list[str] | None) -> Any:
    from stream import config, logs

    cfg = config.load(path, overrides or []).config
    logs.silence(cfg.log)
    return cfg
