"""The embedded path: the engine in this very process."""

import clickhouse_connect
import pytest


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_has_an_empty_database_in_the_embedded_engine(chdb_dsn: str, round_: int) -> None:
    with clickhouse_connect.get_client(dsn=chdb_dsn) as client:
        client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[round_]], column_names=["a"])
        assert client.query("SELECT a FROM t").result_rows == [(round_,)]
