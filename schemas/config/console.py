"""The HTTP API and the pages."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas.config.base import Ms, Port, Positive, Section, Text


class DataSource(Section, frozen=True):
    """A ClickHouse server that `/find` may read, besides the configured one."""

    host: Text
    port: Port = 8123
    secure: bool = False
    username: str = "default"
    password: Annotated[str, Meta(description="Use ${ENV}.")] = ""
    database: Annotated[Text, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "default"
    allow_private: Annotated[
        bool,
        Meta(description="Whether the host may have an address of a private network or of this machine."),
    ] = False


class Console(Section, frozen=True):
    """The HTTP API and the pages."""

    host: Annotated[Text, Meta(description="Beyond loopback a token is required.")] = "127.0.0.1"
    port: Port = 8000
    pages_port: Port = 8501
    api_url: Annotated[
        str, Meta(description="Where the pages reach the API, as http://console:8000; empty: host and port.")
    ] = ""
    token: Annotated[
        str, Meta(description="Bearer token of every request but health. Use ${ENV}; empty asks for none.")
    ] = ""
    allowed_origins: Annotated[
        list[str], Meta(description="Web origins whose pages may call the API (CORS); none by default.")
    ] = []
    worker_urls: Annotated[
        list[str],
        Meta(
            description="Where workers tell their metrics, for the page of the pipeline, as "
            "http://worker-1:9108/metrics; empty: the one at metrics.host and metrics.worker_port."
        ),
    ] = []
    data_sources: Annotated[
        list[DataSource], Meta(description="Servers that a request may name, besides clickhouse.host.")
    ] = []
    requests_per_minute: Annotated[
        Positive, Meta(description="Of one client; beyond it the answer is 429 with a time to wait.")
    ] = 600
    max_upload_bytes: Annotated[Positive, Meta(description="Of one request's body.")] = 32 * 1024 * 1024
    max_rows: Annotated[Positive, Meta(description="Rows that one query or file may have.")] = 200_000
    query_timeout_ms: Annotated[Ms, Meta(description="Time for a query of a request.")] = 30_000
    find_wait_ms: Annotated[
        Ms, Meta(description="`/find` answers at once when it takes no longer, else 202 with a job.")
    ] = 5_000
    find_deadline_ms: Annotated[Ms, Meta(description="A model that takes longer is given up.")] = 600_000
    cache_bytes: Annotated[Positive, Meta(description="Memory for results that may be asked again.")] = (
        256 * 1024 * 1024
    )
