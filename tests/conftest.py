"""The real parts that tests run against: one Kafka broker and one ClickHouse engine for each test session."""

import itertools
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.local import AlreadyRunningError
from stream.local.broker import LocalKafka

# Fixed folders rather than temporary ones: a session that was killed leaves its broker behind, and the next
# session that takes the folder ends it. Sessions at the same time (or workers of pytest-xdist) take the next one.
_FOLDERS = Path(__file__).resolve().parents[1] / ".tocsin" / "tests"


def _claim(name: str) -> tuple[Path, LocalKafka]:
    for number in itertools.count():
        kafka = LocalKafka(_FOLDERS / str(number) / name)
        try:
            kafka.clear()
        except AlreadyRunningError:
            continue
        return kafka.folder, kafka
    raise AssertionError("unreachable")


@pytest.fixture(scope="session")
def local_kafka() -> Iterator[LocalKafka]:
    """The running broker of this session; a test that kills or stops it starts it again before it ends."""
    _, broker = _claim("kafka")
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
