"""`tocsin topics`: what Kafka has of the topics of the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import typer

from schemas import config
from stream import topics
from stream.files.produce import no_broker
from stream.kafka import KafkaError

T = TypeVar("T")


def show(cfg: config.Config) -> None:
    """One line a topic."""
    found = asyncio.run(_ask(cfg, topics.describe(cfg)))
    width = max(map(len, found))
    for wanted in topics.wanted(cfg):
        has = found[wanted.name]
        state = "missing: `tocsin topics create` makes it" if has is None else _partitions(has)
        if has is not None and has != wanted.partitions:
            state += f" (the configuration says {wanted.partitions}, which counts only when it is created)"
        typer.echo(f"{wanted.name:<{width}}  {state}")


def create(cfg: config.Config) -> None:
    """Make what is missing and say what was done."""
    for status in asyncio.run(_ask(cfg, topics.ensure(cfg))):
        done = "created" if status.created else "was there"
        typer.echo(f"{status.name}: {done}, {_partitions(status.partitions)}")


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


async def _ask(cfg: config.Config, asking: Awaitable[T]) -> T:
    try:
        return await asking
    except (KafkaError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error
