"""The configuration file as typed, closed structs: every key, its default and what it is for.

The docs page `docs/configuration.md` is generated from this package. An attribute's comment in the form of
`Annotated[..., Meta(description=...)]` is its documentation.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from schemas.config.base import Ms, Name, Port, Positive, Section, Text
from schemas.config.console import Console, DataSource
from schemas.config.engine import DetectorConfig, Engine, Group, Policy
from schemas.config.incidents import Changes, IncidentGroup, IncidentLink, Incidents, Notify, NotifyTarget
from schemas.config.kafka import Input, Kafka, Topic, Topics
from schemas.config.observe import Log, Metrics
from schemas.config.refresh import Refresh, RefreshRule, Trainer
from schemas.config.store import ClickHouse, Sink
from schemas.config.worker import Admission, Snapshots, Worker

__all__ = [
    "Admission",
    "Changes",
    "ClickHouse",
    "Config",
    "Console",
    "DataSource",
    "DetectorConfig",
    "Engine",
    "Group",
    "IncidentGroup",
    "IncidentLink",
    "Incidents",
    "Input",
    "Kafka",
    "Log",
    "Metrics",
    "Ms",
    "Name",
    "Notify",
    "NotifyTarget",
    "Policy",
    "Port",
    "Positive",
    "Refresh",
    "RefreshRule",
    "Section",
    "Sink",
    "Snapshots",
    "Text",
    "Topic",
    "Topics",
    "Trainer",
    "Worker",
]


class Config(Section, frozen=True):
    """The whole file."""

    kafka: Kafka = Kafka()
    inputs: Annotated[list[Input], Meta(min_length=1)] = field(default_factory=lambda: [Input()])
    topics: Topics = Topics()
    worker: Worker = Worker()
    admission: Admission = Admission()
    engine: Engine = field(default_factory=Engine)
    clickhouse: ClickHouse = ClickHouse()
    sink: Sink = Sink()
    incidents: Incidents = field(default_factory=Incidents)
    changes: Changes = Changes()
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    snapshots: Snapshots = Snapshots()
    refresh: Refresh = Refresh()
    trainer: Trainer = Trainer()
    console: Console = Console()
    log: Log = Log()
