"""Brings the tables of `schemas/clickhouse/*.sql` into a database, in order, each file once.

Every statement in those files may run twice without harm (a test holds them to it). So two sinks that start
together both run a new file and both record it, and a crash between the two is mended by the next start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import Final, NamedTuple

import structlog

from schemas import config
from stream.errors import UserError
from stream.store.clickhouse import Client

log = structlog.get_logger(__name__)

_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32,
    name String,
    sha256 String,
    applied DateTime DEFAULT now()
)
ENGINE = ReplacingMergeTree
ORDER BY (number, sha256)
"""


class MigrationError(UserError):
    """The database and the files contradict each other."""


class Migration(NamedTuple):
    """A file of statements."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> Iterator[str]:
        """The statements, without comments; one ends with a semicolon at the end of a line."""
        bare = "\n".join(line for line in self.text.splitlines() if not line.startswith("--"))
        for statement in re.split(r";\s*(?:\n|$)", bare):
            if statement.strip():
                yield statement.strip()


def shipped() -> list[Migration]:
    """The files of this version, in order."""
    folder = resources.files("schemas") / "clickhouse"
    found = [
        Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    return sorted(found)


def apply(client: Client, cfg: config.ClickHouse, files: list[Migration] | None = None) -> list[str]:
    """Run what the database does not have yet and set the TTLs; returns the names of the files run.

    Raises `MigrationError` when a file has changed since it was applied. Files that the database has and we
    do not are those of a newer version, and left alone.
    """
    client.command(_LEDGER)
    applied: dict[int, set[str]] = {}
    for number, sha256 in client.rows("SELECT number, sha256 FROM schema_migrations"):
        applied.setdefault(number, set()).add(sha256)
    files = shipped() if files is None else files
    for file in files:
        if applied.get(file.number, {file.sha256}) != {file.sha256}:
            raise MigrationError(
                f"{file.name} has changed since it was applied to database {client.database}: "
                "restore it and put the change into a new file"
            )
    pending = [file for file in files if file.number not in applied]
    for file in pending:
        _run(client, file)
    _set_ttl(client, "telemetry", cfg.telemetry_ttl_days)
    for table in ("anomalies", "incidents"):
        _set_ttl(client, table, cfg.anomalies_ttl_days)
    return [file.name for file in pending]


def _run(client: Client, file: Migration) -> None:
    for statement in file.statements():
        client.command(statement)
    client.command(
        "INSERT INTO schema_migrations (number, name, sha256) "
        "VALUES ({number:UInt32}, {name:String}, {sha256:String})",
        {"number": file.number, "name": file.name, "sha256": file.sha256},
    )
    log.info("schema migrated", file=file.name, database=client.database)


def _set_ttl(client: Client, table: str, days: int) -> None:
    """Days come from the configuration and may change at any start, so they are no migration."""
    wanted = f"toIntervalDay({int(days)})"
    found = client.rows(
        "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": client.database, "table": table},
    )
    if found and wanted not in found[0][0]:
        client.command(f"ALTER TABLE {table} MODIFY TTL stored + {wanted}")
