"""What processes tell about themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from schemas.config.base import Port, Section, Text


class Metrics(Section, frozen=True):
    """The Prometheus endpoint of each process."""

    host: Text = "127.0.0.1"
    worker_port: Annotated[Port, Meta(description="0 takes any free port.")] = 9108
    sink_port: Port = 9109
    notify_port: Port = 9110
    max_open_anomalies: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Most open anomalies of a partition that have a series of their own, the strongest.",
        ),
    ] = 50
    max_open_incidents: Annotated[
        int, Meta(ge=0, le=10_000, description="The same for open incidents, of the coordinator.")
    ] = 50
    coordinator_port: Port = 9111
    trainer_port: Port = 9112


class Log(Section, frozen=True):
    """Log lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
