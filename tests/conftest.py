"""The real parts that tests run against: one Kafka broker and one ClickHouse engine for each test session."""

import itertools
import shutil
import signal
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from stream import logs
from stream.local import AlreadyRunningError
from stream.local.broker import LocalKafka
from stream.local.clickhouse import LocalClickHouse
from tests.support import ClickHouseAddress

# Where a shell runs the tests in the background, Ctrl-C is ignored, by what they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure of what is tested.
settings.register_profile("tocsin", deadline=None)
settings.load_profile("tocsin")


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test runs in this process sets up no logging for the tests after it."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(logs, "silence", lambda *_: None)


# Fixed folders rather than temporary ones: a session that was killed leaves its broker behind, and the next
# session that takes the folder ends it. Sessions at the same time (or workers of xdist) take the next folder.
_FOLDERS = Path(__file__).resolve().parents[1] / ".tocsin" / "tests"


@pytest.fixture(scope="session")
def local_kafka() -> Iterator[LocalKafka]:
    """The running broker of this session; a test that kills or stops it starts it again before it ends."""
    for folder in _folders("kafka"):
        broker = LocalKafka(folder)
        try:
            broker.clear()
        except AlreadyRunningError:
            continue
        break
    broker.log_path.unlink(missing_ok=True)
    with broker:
        yield broker
    shutil.rmtree(broker.folder / "data", ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(local_kafka: LocalKafka) -> str:
    """The bootstrap servers of the session's broker. Name your topics and groups with `prefix`."""
    return local_kafka.bootstrap


@pytest.fixture
def prefix() -> str:
    """Begins the names of the topics, groups and transactional ids of one test, so that tests never meet."""
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(scope="session")
def local_clickhouse() -> Iterator[LocalClickHouse]:
    """The running engine of this session behind its HTTP front; a test that stops it starts it again."""
    for folder in _folders("clickhouse"):
        server = LocalClickHouse(folder)
        try:
            server.clear()
        except AlreadyRunningError:
            continue
        break
    server.log_path.unlink(missing_ok=True)
    with server:
        yield server
    shutil.rmtree(server.folder / "data", ignore_errors=True)


@pytest.fixture
def clickhouse(local_clickhouse: LocalClickHouse) -> Iterator[ClickHouseAddress]:
    """A fresh database on the session's engine, reached by HTTP as a server is in production."""
    address = ClickHouseAddress(local_clickhouse.host, local_clickhouse.port, f"t{uuid.uuid4().hex[:10]}")
    _post(address, f"CREATE DATABASE {address.database} ENGINE = Atomic")
    yield address
    _post(address, f"DROP DATABASE IF EXISTS {address.database} SYNC")


@pytest.fixture(scope="session")
def _chdb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # One for the session: a process can open one path only, until every client of it is closed.
    return tmp_path_factory.mktemp("chdb")


@pytest.fixture
def chdb_dsn(_chdb_folder: Path) -> Iterator[str]:
    """A DSN of the embedded engine, in this process, with a fresh database for the test."""
    import clickhouse_connect

    database = f"t{uuid.uuid4().hex[:10]}"
    with clickhouse_connect.get_client(dsn=f"chdb://{_chdb_folder}") as client:
        client.command(f"CREATE DATABASE {database} ENGINE = Atomic")
        yield f"chdb://{_chdb_folder}?database={database}"
        client.command(f"DROP DATABASE IF EXISTS {database} SYNC")


def _folders(name: str) -> Iterator[Path]:
    return (_FOLDERS / str(number) / name for number in itertools.count())


def _post(address: ClickHouseAddress, sql: str) -> None:
    with urllib.request.urlopen(address.url, data=sql.encode(), timeout=60) as response:
        response.read()
