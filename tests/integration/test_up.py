"""`tocsin up` from outside: beside one that runs, and after a kill that leaves its processes behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream.local.process import free_port, start_time

PORTS = (
    "clickhouse.port", "metrics.worker_port", "metrics.sink_port", "metrics.coordinator_port",
    "metrics.trainer_port", "console.port", "console.pages_port",
)  # fmt: skip
PROCESSES = 8


def living(folder: Path) -> set[int]:
    """The processes that its pid files name."""
    found = [json.loads(path.read_text()) for path in folder.rglob("*.pid")]
    return {entry["pid"] for entry in found if start_time(entry["pid"]) == entry["started"]}


def started(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C stops all" in line:
            return process
    raise AssertionError("".join(said))


@pytest.mark.timeout(300)  # two starts
def test_a_second_one_is_refused_and_one_after_a_kill_ends_what_is_left(tmp_path: Path) -> None:
    settings = [f"kafka.bootstrap_servers=127.0.0.1:{free_port()}", "inputs[0].partitions=2"]
    settings += [f"{name}={free_port()}" for name in PORTS]
    command = [sys.executable, "-m", "stream.cli", "up", "--state-dir", str(tmp_path)]
    command += [part for each in settings for part in ("--set", each)]
    first = started(command)
    orphans = living(tmp_path)
    assert len(orphans) == PROCESSES
    beside = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert beside.returncode == 2
    assert f"in use by process {first.pid}" in beside.stderr
    assert living(tmp_path) == orphans

    first.kill()
    first.communicate()
    assert living(tmp_path) == orphans
    second = started(command)
    try:
        assert len(living(tmp_path)) == PROCESSES
        assert all(start_time(pid) is None for pid in orphans)
    finally:
        second.send_signal(signal.SIGINT)
        second.communicate(timeout=60)
    assert second.returncode == 0
    assert not living(tmp_path)
