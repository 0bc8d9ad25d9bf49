"""The one-node broker: start, crash, restart, orphans, and the sentences for people."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.local import AlreadyRunningError, LocalRuntimeError
from stream.local.broker import LocalKafka, answers
from stream.local.process import Child, start_time

PARENT = """
import sys
from pathlib import Path
from stream.local.broker import LocalKafka
kafka = LocalKafka(Path(sys.argv[1]))
kafka.start()
print(kafka.port, kafka.child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def broker(local_kafka: LocalKafka) -> Iterator[LocalKafka]:
    """The session's broker, running again for the other tests whatever a test here did to it."""
    yield local_kafka
    if not local_kafka.child.alive:
        local_kafka.start()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of our business and must outlive whatever we clean up."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    assert process.poll() is None
    process.communicate()


async def _create(bootstrap: str, topic: str, partitions: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


async def _send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-{value.decode()}")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def _read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_committed_messages_survive_a_stop_and_a_kill_on_the_same_port(
    broker: LocalKafka, prefix: str
) -> None:
    topic = f"{prefix}kept"
    bootstrap = broker.bootstrap
    await _create(bootstrap, topic)
    await _send(bootstrap, topic, b"one")
    broker.stop()
    assert not answers(broker.port)
    assert not broker.child.alive
    broker.start()
    await _send(bootstrap, topic, b"two")
    broker.kill()
    assert broker.child.returncode == -signal.SIGKILL
    broker.start()
    await _send(bootstrap, topic, b"three")
    assert broker.bootstrap == bootstrap
    assert await _read(bootstrap, topic, 3) == [b"one", b"two", b"three"]


async def test_the_session_broker_has_no_topics_of_others_and_makes_none_by_itself(
    kafka: str, prefix: str
) -> None:
    await _create(kafka, f"{prefix}a", partitions=3)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        assert [topic for topic in await admin.list_topics() if topic.startswith(prefix)] == [f"{prefix}a"]
    finally:
        await admin.close()


def test_a_folder_in_use_is_refused_and_its_broker_untouched(broker: LocalKafka) -> None:
    with pytest.raises(AlreadyRunningError, match=f"in use by process {os.getpid()}: end that process"):
        LocalKafka(broker.folder).start()
    assert answers(broker.port)


def test_a_taken_port_is_one_sentence(broker: LocalKafka, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalRuntimeError, match=f"Port {port} for the local Kafka broker is in use"):
            LocalKafka(tmp_path / "kafka", port=port).start()


def test_a_second_start_ends_the_orphan_of_a_killed_parent_and_nothing_else(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    folder = tmp_path / "kafka"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    port, orphan = map(int, parent.stdout.readline().split())
    parent.kill()
    parent.communicate()
    assert answers(port)
    with LocalKafka(folder, port=port) as kafka:
        assert start_time(orphan) is None
        assert kafka.child.pid != orphan
        assert answers(port)


def test_a_pid_that_now_belongs_to_another_program_is_left_alone(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    for started in ("0", None, start_time(os.getpid())):
        (tmp_path / "kafka.pid").write_text(json.dumps({"pid": bystander.pid, "started": started}))
        with Child("kafka", tmp_path) as child:
            child.acquire()
    (tmp_path / "kafka.pid").write_text('{"pid": 1')
    with Child("kafka", tmp_path) as child:
        child.acquire()


def test_ctrl_c_in_the_terminal_does_not_reach_the_child(tmp_path: Path) -> None:
    child = Child("sleeper", tmp_path)
    child.start([sys.executable, "-c", "import time; time.sleep(60)"], ready=lambda: True, timeout_s=5)
    assert child.pid is not None
    assert os.getpgid(child.pid) != os.getpgid(0)
    child.stop(5)
    assert child.returncode == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = "import signal, sys, pathlib, time; signal.signal(15, signal.SIG_IGN); "
    code += "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    child = Child("stubborn", tmp_path)
    child.start([sys.executable, "-c", code, str(ready)], ready=ready.exists, timeout_s=10)
    child.stop(0.2)
    assert child.returncode == -signal.SIGKILL


def test_a_child_that_dies_while_starting_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = Child("broken", tmp_path)
    command = [sys.executable, "-c", "import sys; sys.exit('no such flavour')"]
    with pytest.raises(LocalRuntimeError, match=r"(?s)ended with status 1 while starting.*no such flavour"):
        child.start(command, ready=lambda: False, timeout_s=30)


def test_a_child_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    child = Child("slow", tmp_path)
    with pytest.raises(LocalRuntimeError, match="was not ready within 0 s"):
        child.start([sys.executable, "-c", "import time; time.sleep(60)"], ready=lambda: False, timeout_s=0.1)
    assert not child.alive


def _fake_java(folder: Path, version: str) -> str:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return str(java)


def test_a_missing_or_old_java_and_a_missing_maven_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        LocalRuntimeError, match=r"^Kafka needs Java 17 or newer: install it .* no `nojava` is on"
    ):
        LocalKafka(tmp_path / "k", java="nojava").start()
    for version, major in (("1.8.0_392", "8"), ("11.0.21", "11")):
        with pytest.raises(
            LocalRuntimeError, match=rf"^Kafka needs Java 17 or newer: .* is version {major}\.$"
        ):
            LocalKafka(tmp_path / "k", java=_fake_java(tmp_path, version)).start()
    with pytest.raises(
        LocalRuntimeError, match=r"^Kafka is fetched with Maven: install it .* no `nomvn` is on"
    ):
        LocalKafka(tmp_path / "k", cache_dir=tmp_path / "cache", maven="nomvn").start()
    assert not (tmp_path / "k").exists()
