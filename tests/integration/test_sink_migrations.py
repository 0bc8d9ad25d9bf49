"""The schema on the real engine, over HTTP and embedded: fresh, there already, changed, two at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from schemas import config
from stream.local.process import free_port
from stream.store import migrations
from stream.store.clickhouse import Client, RefusedError, UnavailableError

Connect = Callable[[], Client]


@pytest.fixture(params=["http", "embedded"])
def cfg(request: pytest.FixtureRequest) -> config.ClickHouse:
    """An empty database on the session's engine behind HTTP, or in this process."""
    if request.param == "embedded":
        dsn: str = request.getfixturevalue("chdb_dsn")
        return config.ClickHouse(dsn=dsn, database=dsn.rpartition("=")[2])
    address = request.getfixturevalue("clickhouse")
    return config.ClickHouse(host=address.host, port=address.port, database=address.database)


@pytest.fixture
def client(cfg: config.ClickHouse) -> Iterator[Client]:
    client = Client.connect(cfg)
    yield client
    client.close()


def test_a_fresh_database_gets_every_file_and_an_existing_one_none(
    client: Client, cfg: config.ClickHouse
) -> None:
    names = [file.name for file in migrations.shipped()]
    assert migrations.apply(client, cfg) == names
    assert migrations.apply(client, cfg) == []
    tables = {name for (name,) in client.rows("SHOW TABLES")}
    assert tables >= {"telemetry", "anomalies", "series", "telemetry_dedup", "anomalies_latest"}


def test_a_missing_database_is_made_when_asked_and_else_a_clear_refusal(
    client: Client, cfg: config.ClickHouse
) -> None:
    missing = msgspec.structs.replace(cfg, database=f"{cfg.database}_more")
    with pytest.raises(RefusedError, match="does not exist"):
        Client.connect(missing)
    more = Client.connect(missing, create=True)
    assert migrations.apply(more, missing)
    more.command(f"DROP DATABASE {missing.database} SYNC")
    more.close()


def test_a_file_that_was_changed_after_it_was_applied_is_named(
    client: Client, cfg: config.ClickHouse
) -> None:
    files = migrations.shipped()
    migrations.apply(client, cfg, files)
    files[1] = files[1]._replace(text=files[1].text + "-- changed\n")
    with pytest.raises(migrations.MigrationError, match=files[1].name):
        migrations.apply(client, cfg, files)


def test_a_new_file_is_applied_to_a_database_with_rows(client: Client, cfg: config.ClickHouse) -> None:
    files = migrations.shipped()
    migrations.apply(client, cfg, files)
    client.command("INSERT INTO telemetry (series_id, ts, value) VALUES (1, now(), 5)")
    text = "ALTER TABLE telemetry ADD COLUMN IF NOT EXISTS unit String;\n"
    new = migrations.Migration(len(files) + 1, "new.sql", text)
    assert migrations.apply(client, cfg, [*files, new]) == ["new.sql"]
    assert client.rows("SELECT value, unit FROM telemetry") == [(5.0, "")]


def test_an_older_version_leaves_a_newer_schema_alone(client: Client, cfg: config.ClickHouse) -> None:
    files = migrations.shipped()
    migrations.apply(client, cfg, files)
    assert migrations.apply(client, cfg, files[:-1]) == []


def test_several_sinks_may_migrate_at_once(client: Client, cfg: config.ClickHouse) -> None:
    def migrate(_: int) -> None:
        own = Client.connect(cfg)
        migrations.apply(own, cfg)
        own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, range(4)))
    assert migrations.apply(client, cfg) == []
    (count,) = client.rows("SELECT count() FROM schema_migrations FINAL")[0]
    assert count == len(migrations.shipped())


def test_the_ttl_follows_the_configuration(client: Client, cfg: config.ClickHouse) -> None:
    def ttl() -> str:
        sql = "SELECT engine_full FROM system.tables WHERE database = {d:String} AND name = 'telemetry'"
        return str(client.rows(sql, {"d": client.database})[0][0])

    migrations.apply(client, cfg)
    assert "stored + toIntervalDay(90)" in ttl()
    migrations.apply(client, msgspec.structs.replace(cfg, telemetry_ttl_days=9))
    assert "stored + toIntervalDay(9)" in ttl()


def test_of_two_samples_at_one_time_the_first_that_was_judged_stays(
    client: Client, cfg: config.ClickHouse
) -> None:
    migrations.apply(client, cfg)
    for value, state in ((1, 0), (2, 3), (3, 4), (4, 2)):
        client.command(
            f"INSERT INTO telemetry (series_id, ts, value, state) VALUES (7, 100, {value}, {state})"
        )
    assert client.rows("SELECT value, state FROM telemetry_dedup") == [(1.0, "scored")]


def test_a_server_that_is_not_there_is_unavailable_and_named() -> None:
    port = free_port()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}.*refused"):
        Client.connect(config.ClickHouse(port=port))


def test_a_wrong_statement_is_refused_with_the_words_of_the_engine(client: Client) -> None:
    with pytest.raises(RefusedError, match=r"(?i)no_such_table") as caught:
        client.rows("SELECT 1 FROM no_such_table")
    assert caught.value.code == 60
