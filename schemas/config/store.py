"""ClickHouse and the process that writes it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas.config.base import Ms, Name, Port, Positive, Section, Text


class ClickHouse(Section, frozen=True):
    """Where scores and anomalies are stored."""

    enabled: bool = True
    dsn: Annotated[
        str, Meta(description="chdb:///path opens the embedded engine (one process only); wins over host.")
    ] = ""
    host: Text = "127.0.0.1"
    port: Port = 8123
    secure: bool = False
    username: str = "default"
    password: Annotated[str, Meta(description="Use ${ENV} or password_file.")] = ""
    database: Annotated[Text, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "tocsin"
    telemetry_ttl_days: Annotated[
        Positive, Meta(description="Days that samples are kept after they came, however old they are.")
    ] = 90
    anomalies_ttl_days: Annotated[Positive, Meta(description="The same for anomalies and incidents.")] = 730


class Sink(Section, frozen=True):
    """The process that writes to ClickHouse."""

    group_id: Name = "tocsin-sink"
    batch_interval_ms: Annotated[Ms, Meta(description="An insert at least this often while rows come.")] = (
        1000
    )
    max_batch_rows: Annotated[
        int, Meta(ge=1, le=900_000, description="Below a million: larger is not atomic.")
    ] = 200_000
    retry_max_ms: Annotated[Ms, Meta(description="Longest pause between tries while ClickHouse is away.")] = (
        15_000
    )
    session_timeout_ms: Annotated[
        Ms, Meta(description="A sink silent for this long loses its partitions.")
    ] = 30_000
    max_series: Annotated[
        Positive,
        Meta(description="Series remembered as written; beyond it all are forgotten, and written again."),
    ] = 1_000_000
