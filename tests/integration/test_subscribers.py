"""The example subscribers print what is on the topic."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from schemas.event import AnomalyEvent, Direction, Kind, Severity, Status
from stream import kafka as clients
from stream import topics
from stream.kafka import TopicPartition
from stream.local.artifacts import default_cache_dir, fetch
from stream.output import event_message

FOLDER = Path(__file__).resolve().parents[2] / "examples/subscriber"
EVENT = AnomalyEvent(
    event_id="e", anomaly_id="a", revision=1, status=Status.OPEN, series="cpu", series_id="0", metric="cpu",
    labels={}, kind=Kind.SPIKE, severity=Severity.WARNING, direction=Direction.ABOVE, score=1.5,
    peak_score=1.5, actual=9.0, expected=1.0, lower=0.0, upper=2.0, started_ms=1, detected_ms=1,
    ended_ms=None, samples=1, detectors=[], reason="cpu is 9",
)  # fmt: skip


def first_line(command: list[str], deadline_s: float = 60.0) -> str:
    """What a program prints first; it is ended then, or at the deadline."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    timer = threading.Timer(deadline_s, process.kill)
    timer.start()
    try:
        return process.stdout.readline().strip()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
async def arguments(kit: Any) -> list[str]:
    """Broker, topic and group; an event is on the topic."""
    await topics.ensure(kit.cfg)
    producer = clients.producer(kit.cfg.kafka)
    await producer.start()
    message = event_message(kit.cfg.topics.anomalies.name, EVENT, TopicPartition("telemetry", 0))
    await producer.send_and_wait(message.topic, value=message.value, headers=message.headers)
    await producer.stop()
    return [kit.cfg.kafka.bootstrap_servers, message.topic, f"{kit.cfg.worker.group_id}-subscriber"]


async def test_the_subscriber_in_python_prints_the_event(arguments: list[str]) -> None:
    file = FOLDER / "subscriber.py"
    assert first_line([sys.executable, str(file), *arguments]) == "open | warning | cpu | cpu is 9"
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 25


async def test_the_subscriber_in_java_prints_the_event(arguments: list[str]) -> None:
    jars = fetch(default_cache_dir())
    line = first_line(["java", "-cp", f"{jars}/*", str(FOLDER / "Subscriber.java"), *arguments])
    assert json.loads(line)["event_id"] == "e"
