"""`tocsin dlq list | show | replay`: what could not be read, and another try."""

# ruff: noqa: PLC0415  # the command line imports this module for its options: nothing heavy before it runs
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from schemas.deadletter import Reason
from stream.errors import UserError

if TYPE_CHECKING:
    from schemas import config as schema
    from stream import dlq

T = TypeVar("T")

app = typer.Typer(help="Dead letters: what could not be read, and another try.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The YAML file.", show_default=False)
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Set one key.", show_default=False)]
ReasonOption = Annotated[Reason | None, typer.Option(help="Only those.", show_default=False)]


@app.command("list")
def list_(
    config: ConfigOption = None,
    overrides: SetOption = None,
    reason: ReasonOption = None,
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
) -> None:
    """One line a letter, and how many there are of each reason."""
    from stream.tail import time_text

    cfg = _load(config, overrides)
    found = _ask(cfg, _all(cfg, lambda stored: reason is None or stored.letter.reason is reason))
    for stored in found[-last:]:
        letter = stored.letter
        place = f"{letter.topic}/{letter.partition}/{letter.offset}"
        part = "" if letter.position is None else f"[{letter.position}]"
        typer.echo(
            f"{stored.name:<10} {time_text(letter.timestamp_ms)}  {letter.reason:<13} {place}{part}  "
            f"{letter.error}"
        )
    counts = Counter(str(stored.letter.reason) for stored in found)
    of_each = ", ".join(f"{n} {name}" for name, n in counts.most_common())
    typer.echo(f"{len(found)} dead letters{': ' if found else ''}{of_each}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="PARTITION/OFFSET, the first column of the list.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """A letter with the bytes that came."""
    cfg = _load(config, overrides)
    for stored in _ask(cfg, _all(cfg, lambda stored: stored.name == name)):
        letter = stored.letter
        typer.echo(f"from    {letter.topic}/{letter.partition} at {letter.offset}, key {letter.key!r}")
        typer.echo(f"reason  {letter.reason}: {letter.error}\nbytes   {len(letter.raw)}")
        typer.echo(letter.raw.decode("utf-8", errors="backslashreplace"))
        return
    raise UserError(f"there is no dead letter {name}: `tocsin dlq list` shows their names")


@app.command()
def replay(
    names: Annotated[
        list[str] | None, typer.Argument(help="PARTITION/OFFSET; else give --reason or --all.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    reason: ReasonOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Send messages to their topic again, after the cause is mended; the letters stay."""
    if not (names or reason or everything):
        raise UserError("say which: names, --reason or --all")
    from stream import dlq

    cfg = _load(config, overrides)

    def wanted(stored: dlq.Stored) -> bool:
        return everything or stored.name in (names or ()) or stored.letter.reason is reason

    sent, skipped = _ask(cfg, dlq.replay(cfg, wanted))
    typer.echo(f"{sent} messages sent again; {skipped} skipped (parts of messages, or cut ones)")


async def _all(cfg: schema.Config, wanted: Callable[[dlq.Stored], bool]) -> list[dlq.Stored]:
    from stream import dlq

    return [stored async for stored in dlq.read(cfg) if wanted(stored)]


def _load(path: Path | None, overrides: list[str] | None) -> schema.Config:
    from stream import config as loader
    from stream import logs

    cfg = loader.load(path, overrides or []).config
    logs.silence(cfg.log)
    return cfg


def _ask(cfg: schema.Config, asking: Awaitable[T]) -> T:
    from stream.files.produce import no_broker
    from stream.kafka import KafkaError

    async def run() -> T:
        return await asking

    try:
        return asyncio.run(run())
    except (KafkaError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error
