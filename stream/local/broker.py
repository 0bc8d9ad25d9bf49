"""A one-node Kafka broker (KRaft, no ZooKeeper) on loopback as a child process.

    with LocalKafka(folder) as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)

One broker and one replica of everything: for a single machine, a demonstration and tests, not for production.
"""

import socket
import struct
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from stream.local import artifacts
from stream.local.process import LOOPBACK, LocalRuntimeError, free_port
from stream.local.server import Server

_FORMAT_TIMEOUT_S = 60.0
_PROBE_TIMEOUT_S = 2.0
_LOG_CONFIG = "simplelogger.properties"

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={log_dir}
# Topics are made by whoever owns them, with the partitions they need.
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# The first member of a group need not wait for others.
group.initial.rebalance.delay.ms=0
# Tests stop consumers in ways that need short session timeouts.
group.min.session.timeout.ms=1000
transaction.max.timeout.ms=900000
# A broker that was killed is let in again after this (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# One machine, few clients, a small heap: the cleaner's buffer alone takes 128 MB by default.
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.threads=1
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
"""


class LocalKafka(Server):
    """One broker; its jars come from `cache_dir`, fetched with Maven when not there (54 MB)."""

    name = "kafka"
    title = "the local Kafka broker"
    start_timeout_s = 90.0  # from a cold disk cache on one busy core; a start takes 3 to 5 s otherwise
    stop_timeout_s = 20.0  # one with a few hundred partitions flushes and closes them in 1 to 2 s

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        cache_dir: Path | None = None,
        heap_mb: int = 512,
        java: str = "java",
        maven: str = "mvn",
    ) -> None:
        super().__init__(folder, port=port)
        self._cache_dir = cache_dir or artifacts.default_cache_dir()
        self._heap_mb = heap_mb
        self._java = java
        self._maven = maven
        self._jars = Path()

    @property
    def bootstrap(self) -> str:
        """What clients call `bootstrap_servers`."""
        return f"{LOOPBACK}:{self.port}"

    def start(self, timeout_s: float | None = None) -> None:
        self._java = artifacts.require_java(self._java)
        self._jars = artifacts.fetch(self._cache_dir, maven=self._maven)
        super().start(timeout_s)

    def _command(self) -> list[str]:
        config = self._write_config()
        classpath = f"{self.folder}:{self._jars}/*"
        self._format(classpath, config)
        return [
            self._java,
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            "-cp",
            classpath,
            "kafka.Kafka",
            str(config),
        ]

    def _answers(self) -> bool:
        return answers(self.port)

    def _write_config(self) -> Path:
        config = self.folder / "server.properties"
        text = _SETTINGS.format(
            host=LOOPBACK, port=self.port, controller_port=free_port(), log_dir=self.folder / "data"
        )
        config.write_text(text, encoding="utf-8")
        # slf4j-simple looks for this name on the classpath, where the folder stands first.
        logging = (artifacts.DEFAULT_POM.parent / _LOG_CONFIG).read_text(encoding="utf-8")
        (self.folder / _LOG_CONFIG).write_text(logging, encoding="utf-8")
        return config

    def _format(self, classpath: str, config: Path) -> None:
        if (self.folder / "data" / "meta.properties").exists():
            return
        # One that begins with a dash, as one in 64 does, would be read as an option.
        cluster_id = "A" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        command = [self._java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath]
        command += [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster_id,
            "-c",
            str(config),
            "--ignore-formatted",
        ]
        done = subprocess.run(  # noqa: S603 - our own java, our own arguments
            command, capture_output=True, text=True, check=False, timeout=_FORMAT_TIMEOUT_S
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise LocalRuntimeError(f"Kafka could not format its folder {self.folder}:\n{said}")


def answers(port: int) -> bool:
    """Whether a broker on `port` takes clients: it names itself in the cluster's metadata.

    An open port is not enough. A broker listens before the controller has let it in (it is "fenced"), and
    until then its metadata lists no broker. This asks what every client asks first (Metadata, version 1).
    """
    client = b"tocsin-probe"
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((LOOPBACK, port), _PROBE_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as reply:
                (length,) = struct.unpack(">i", reply.read(4))
                correlation, brokers = struct.unpack(">ii", reply.read(min(length, 8)))
    except (OSError, struct.error):
        return False
    return bool(correlation == 1 and brokers >= 1)
