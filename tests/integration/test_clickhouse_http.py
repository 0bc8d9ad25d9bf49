"""The HTTP front over the embedded engine, through the unmodified clickhouse-connect client."""

import asyncio
import datetime as dt
import gzip
import http.client
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from stream.local.clickhouse import LocalClickHouse
from tests.support import ClickHouseAddress

TABLE = """CREATE TABLE points (
    id UInt64, ts DateTime64(3, 'UTC'), value Float64, note LowCardinality(String), tags Map(String, String),
    maybe Nullable(Int32), list Array(String)
) ENGINE = MergeTree ORDER BY (id, ts)"""
COLUMNS = ["id", "ts", "value", "note", "tags", "maybe", "list"]
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def _row(number: int) -> list[object]:
    # 2570 is 0x0A0A, an empty line within a binary column; the text has what ends a statement elsewhere.
    when = NOON + dt.timedelta(milliseconds=number)
    return [
        2570 + number,
        when,
        number / 3,
        "a\n\nb;'\\",
        {"k": "v"},
        None if number % 2 else number,
        ["x", "ÿ"],
    ]


@pytest.fixture
def client(clickhouse: ClickHouseAddress) -> Iterator[Client]:
    with clickhouse_connect.get_client(
        host=clickhouse.host, port=clickhouse.port, database=clickhouse.database
    ) as made:
        yield made


def _get(
    clickhouse: ClickHouseAddress, path: str, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(clickhouse.host, clickhouse.port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": "localhost", **headers})
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


@pytest.mark.parametrize("compress", [False, "lz4", "zstd"])
def test_rows_come_back_as_they_were_inserted(clickhouse: ClickHouseAddress, compress: bool | str) -> None:
    rows = [_row(number) for number in range(3000)]
    with clickhouse_connect.get_client(
        host=clickhouse.host,
        port=clickhouse.port,
        database=clickhouse.database,
        compress=compress,
        tz_mode="aware",
    ) as client:
        client.command(TABLE)
        summary = client.insert("points", rows, column_names=COLUMNS)
        assert summary.written_rows == len(rows)
        assert [list(row) for row in client.query("SELECT * FROM points ORDER BY id").result_rows] == rows


def test_a_gzipped_body_is_inserted_and_a_damaged_one_refused(client: Client) -> None:
    client.command("CREATE TABLE g (a Int32) ENGINE = MergeTree ORDER BY a")
    body = gzip.compress(b"1\n2\n")
    client.raw_insert("g", ["a"], body, fmt="TSV", compression="gzip")
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("g", ["a"], body[:-6], fmt="TSV", compression="gzip")
    assert caught.value.code == 271
    assert client.query("SELECT count() FROM g").result_rows == [(2,)]


def test_an_arrow_table_is_inserted_and_read(client: Client) -> None:
    client.command(
        "CREATE TABLE a (id UInt64, ts DateTime64(3, 'UTC'), v Float32) ENGINE = MergeTree ORDER BY id"
    )
    table = pa.table(
        {
            "id": pa.array(range(200_000), pa.uint64()),
            "ts": pa.array([1_714_564_800_000 + n for n in range(200_000)], pa.timestamp("ms", "UTC")),
            "v": pa.array([n / 7 for n in range(200_000)], pa.float32()),
        }
    )
    assert client.insert_arrow("a", table).written_rows == 200_000
    back = client.query_arrow("SELECT id, v FROM a ORDER BY id")
    assert back.column("id").to_pylist() == list(range(200_000))
    assert back.column("v").combine_chunks().equals(table.column("v").combine_chunks())


def test_parameters_are_bound_by_the_engine(client: Client) -> None:
    text = "it's \\ a\ttab; DROP TABLE x\nline"
    result = client.query("SELECT {n:UInt32} + 1, {s:String}", parameters={"n": 41, "s": text})
    assert result.result_rows == [(42, text)]


def test_long_parameters_travel_as_a_form(client: Client) -> None:
    ids = list(range(20_000))
    assert client.query("SELECT length({ids:Array(UInt64)})", parameters={"ids": ids}).result_rows == [
        (20_000,)
    ]


def test_settings_hold_for_one_statement_only(client: Client) -> None:
    ask = "SELECT getSetting('max_block_size'), getSetting('max_threads')"
    client.command("SET max_threads = 3")
    before = client.query(ask).result_rows[0]
    assert client.query(ask, settings={"max_block_size": 1234, "max_threads": 1}).result_rows == [(1234, 1)]
    assert client.query(ask).result_rows[0] == before
    assert before[1] == 3


def test_a_session_keeps_its_temporary_table_and_others_do_not_see_it(clickhouse: ClickHouseAddress) -> None:
    one = clickhouse_connect.get_client(host=clickhouse.host, port=clickhouse.port, session_id="one")
    other = clickhouse_connect.get_client(host=clickhouse.host, port=clickhouse.port, session_id="other")
    one.command("CREATE TEMPORARY TABLE mine (a Int32)")
    one.command("INSERT INTO mine VALUES (1), (2)")
    assert one.query("SELECT sum(a) FROM mine").result_rows == [(3,)]
    with pytest.raises(DatabaseError) as caught:
        other.query("SELECT sum(a) FROM mine")
    assert caught.value.code == 60
    one.close()
    other.close()


def test_a_session_that_must_exist_and_does_not_is_an_error(clickhouse: ClickHouseAddress) -> None:
    status, body, headers = _get(clickhouse, "/?query=SELECT+1&session_id=nobody&session_check=1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "372"), body


@pytest.mark.parametrize(
    ("sql", "code", "name"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT toInt32('x')", 6, "CANNOT_PARSE_TEXT"),
        ("USE nowhere", 81, "UNKNOWN_DATABASE"),
    ],
)
def test_an_error_carries_its_code_and_leaves_the_client_usable(
    client: Client, sql: str, code: int, name: str
) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command(sql)
    assert (caught.value.code, caught.value.name) == (code, name)
    assert client.query("SELECT 1").result_rows == [(1,)]


def test_an_insert_of_the_wrong_type_is_refused_whole(client: Client) -> None:
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(DatabaseError):
        client.raw_insert("t", ["a"], b"1\n2\nthree\n", fmt="TSV")
    assert client.query("SELECT count() FROM t").result_rows == [(0,)]


def test_an_empty_result_keeps_its_names_and_types(client: Client) -> None:
    client.command(TABLE)
    result = client.query("SELECT id, note, {p:Int8} AS p, tags FROM points -- none", parameters={"p": 1})
    assert result.result_rows == []
    assert result.column_names == ("id", "note", "p", "tags")
    assert [kind.name for kind in result.column_types] == [
        "UInt64",
        "LowCardinality(String)",
        "Int8",
        "Map(String, String)",
    ]
    assert client.query("SHOW TABLES LIKE 'nothing'").column_names == ("name",)


def test_commands_answer_as_on_a_server(client: Client) -> None:
    assert client.command("SELECT 1") == 1
    assert client.command("EXISTS TABLE nothing") == 0
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    assert client.query("DESCRIBE TABLE t").result_rows[0][:2] == ("a", "Int32")
    assert client.raw_query("SELECT 1 AS a", fmt="JSONEachRow") == b'{"a":1}\n'
    assert client.query("/* which */ SELECT 2").result_rows == [(2,)]
    client.command("INSERT INTO t SELECT number FROM numbers(5)")
    client.command("INSERT INTO t FORMAT JSONEachRow", data='{"a": 7}\n{"a": 8}\n')
    assert client.query("SELECT count(), max(a) FROM t").result_rows == [(7, 8)]


def test_two_hundred_queries_at_once_answer_each_to_its_asker(clickhouse: ClickHouseAddress) -> None:
    with (
        clickhouse_connect.get_client(
            host=clickhouse.host, port=clickhouse.port, autogenerate_session_id=False
        ) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        answers = list(
            pool.map(lambda n: client.query(f"SELECT {n} FROM numbers(3)").result_rows, range(200))
        )
    assert answers == [[(n,)] * 3 for n in range(200)]


async def test_the_async_client_inserts_and_queries_concurrently(clickhouse: ClickHouseAddress) -> None:
    async with await clickhouse_connect.get_async_client(
        host=clickhouse.host,
        port=clickhouse.port,
        database=clickhouse.database,
        autogenerate_session_id=False,
    ) as client:
        await client.command(TABLE)
        await asyncio.gather(
            *(
                client.insert("points", [_row(n * 100 + k) for k in range(100)], column_names=COLUMNS)
                for n in range(8)
            )
        )
        results = await asyncio.gather(*(client.query("SELECT count() FROM points") for _ in range(8)))
        assert {result.result_rows[0][0] for result in results} == {800}


def test_a_large_result_arrives_whole(client: Client) -> None:
    total = rows = 0
    with client.query_column_block_stream("SELECT number, toString(number) FROM numbers(3000000)") as blocks:
        for numbers, _ in blocks:
            rows += len(numbers)
            total += sum(numbers)
    assert (rows, total) == (3_000_000, 3_000_000 * 2_999_999 // 2)


def test_headers_say_what_a_server_says(clickhouse: ClickHouseAddress) -> None:
    path = "/?query=SELECT+1&query_id=q7&enable_http_compression=1"
    status, body, headers = _get(clickhouse, path, **{"Accept-Encoding": "br, gzip, zstd"})
    assert (status, headers["Content-Encoding"], gzip.decompress(body)) == (200, "gzip", b"1\n")
    assert headers["X-ClickHouse-Query-Id"] == "q7"
    assert headers["X-ClickHouse-Format"] == "TabSeparated"
    assert headers["X-ClickHouse-Timezone"]
    assert '"read_rows"' in headers["X-ClickHouse-Summary"]
    assert _get(clickhouse, "/ping")[:2] == (200, b"Ok.\n")


def test_web_pages_and_foreign_names_are_refused(clickhouse: ClickHouseAddress) -> None:
    assert _get(clickhouse, "/?query=SELECT+1", Origin="https://example.com")[0] == 403
    assert _get(clickhouse, "/?query=SELECT+1", Host="rebound.example.com")[0] == 403


def test_the_front_binds_to_loopback_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stream.local.clickhouse_http", "--path", str(tmp_path), "--port", "1"]
    done = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not a loopback address" in done.stderr


def test_rows_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    with LocalClickHouse(tmp_path / "clickhouse") as server:
        port = server.port
        for round_, end in enumerate((server.stop, server.kill), start=1):
            with clickhouse_connect.get_client(host=server.host, port=port) as client:
                client.command("CREATE TABLE IF NOT EXISTS t (a Int32) ENGINE = MergeTree ORDER BY a")
                client.insert("t", [[round_]], column_names=["a"])
                assert client.query("SELECT a FROM t ORDER BY a").result_rows == [
                    (n,) for n in range(1, round_ + 1)
                ]
            end()
            assert not server.child.alive
            if end == server.stop:
                assert server.child.returncode == 0, server.child.log_tail()
            server.start()
        assert server.port == port
        with clickhouse_connect.get_client(host=server.host, port=port) as client:
            assert client.query("SELECT count() FROM t").result_rows == [(2,)]
    assert server.child.log_tail() == ""
