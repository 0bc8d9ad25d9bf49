"""`tocsin refresh`: a request to the trainers from a person."""

from __future__ import annotations

import asyncio
import time
import uuid

import msgspec
import typer

from schemas import config
from schemas.request import Refit, Trigger
from stream import kafka, topics
from stream.errors import UserError
from stream.files.produce import no_broker
from stream.kafka import KafkaError
from stream.refresh import artifacts
from stream.refresh.timetable import Timetable


def run(cfg: config.Config, series: str, detector: str) -> None:
    """Send a request for each rule of the series; the trainers' answers go to `tocsin.results`."""
    watched = Timetable(cfg.refresh, cfg.engine.groups).saw(series, 0, 0)
    found = watched.models if watched is not None else {}
    rules = {name: model.rule for name, model in found.items() if detector in {"", name}}
    if not rules:
        raise UserError(f"no rule under refresh.rules fits {detector or 'any detector'} on {series}")
    try:
        for asked in asyncio.run(_ask(cfg, series, rules)):
            typer.echo(f"{asked.request_id}: {asked.detector} for {series}")
    except (KafkaError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error


async def _ask(cfg: config.Config, series: str, rules: dict[str, config.RefreshRule]) -> list[Refit]:
    await topics.ensure(cfg)
    serving = {
        s.manifest.detector: s.manifest.artifact_id
        for s in await artifacts.on_topic(cfg)
        if s.serving and s.manifest.series == series
    }
    now_ms = int(time.time() * 1000)
    asked = [
        Refit(
            request_id=uuid.uuid4().hex[:16],
            detector=name,
            series=series,
            from_ms=now_ms - rules[name].history_ms,
            until_ms=now_ms,
            trigger=Trigger.PERSON,
            adopt=rules[name].auto_adopt,
            serving=serving.get(name, ""),
            deadline_ms=rules[name].deadline_ms,
        )
        for name in rules
    ]
    producer = kafka.producer(cfg.kafka)
    await producer.start()
    try:
        for each in asked:
            await producer.send_and_wait(
                cfg.topics.requests.name, msgspec.msgpack.encode(each), key=each.request_id.encode()
            )
    finally:
        await producer.stop()
    return asked
