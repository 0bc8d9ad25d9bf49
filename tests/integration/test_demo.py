"""`tocsin demo` from outside: what it reports, and that it leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from stream.local.process import start_time

SERIES = 4
ROWS = 43_272
PROCESSES = 8
FOLDER = Path(__file__).resolve().parents[2] / ".tocsin" / "tests" / f"demo-{os.getpid()}"
COMMAND = [sys.executable, "-m", "stream.cli", "demo", "--state-dir", str(FOLDER)]


@pytest.fixture(autouse=True)
def _removed():
    yield
    # A test that failed may have left a demo that still writes; its failure is the news.
    shutil.rmtree(FOLDER, ignore_errors=True)


def children() -> list[int]:
    """The processes of the demo that live, by their pid files."""
    found = [json.loads(path.read_text()) for path in FOLDER.rglob("*.pid")]
    return [entry["pid"] for entry in found if start_time(entry["pid"]) == entry["started"]]


def wait_for(condition, process: subprocess.Popen[str], deadline_s: float = 120.0):
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(420)  # two demos, each with nine models
def test_the_demo_counts_what_is_in_the_parts_also_after_a_kill():
    killed = subprocess.Popen([*COMMAND, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    first = json.loads(killed.stdout.readline())
    orphans = children()
    assert len(orphans) == PROCESSES
    killed.kill()
    killed.communicate()
    assert children() == orphans

    second = subprocess.run(
        [*COMMAND, "--exit", "--json"], capture_output=True, text=True, timeout=240, check=False
    )
    assert second.returncode == 0, second.stderr
    result = json.loads(second.stdout.splitlines()[-1])
    assert result["samples"] == result["clickhouse_rows"] == SERIES * ROWS
    # Not equal, for models come at other offsets. The demo itself compares topic and database.
    assert min(result["anomalies"], first["anomalies"]) > 0
    assert min(result["incidents"], first["incidents"]) > 0
    assert "more series" in second.stderr
    assert result["samples_per_s"] == pytest.approx(result["samples"] / result["seconds"], rel=0.01)
    assert "apdex" in second.stderr
    fitted = re.search(r"(\d+) models were fitted for (\d+) places, (\d+)\s+adopted", second.stderr)
    assert fitted is not None
    assert fitted.groups() == ("18", "9", "18")  # each twice
    assert re.search(r"prophet +apdex +\S+ \S+ +\d+ +\d+ +\d+\.\d% +\d+ -> \d+", second.stderr)
    assert not children()
    assert all(start_time(pid) is None for pid in orphans)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_stops_every_process(sign):
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(children()) == PROCESSES, demo)
    started = children()
    demo.send_signal(sign)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, out + err
    assert "Traceback" not in err
    assert all(start_time(pid) is None for pid in started)
    assert not children()


def test_a_second_demo_at_the_same_time_is_refused():
    first = subprocess.Popen([*COMMAND, "--exit"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(children()) >= 2, first)
        second = subprocess.run([*COMMAND, "--exit"], capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 2
        assert "in use by process" in second.stderr
    finally:
        first.send_signal(signal.SIGINT)
        first.wait(60)
    assert not children()


def test_prometheus_and_alertmanager_are_fed_by_the_demo_and_end_with_it():
    demo = subprocess.Popen(
        [*COMMAND, "--json", "--prometheus"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    try:
        samples = json.loads(demo.stdout.readline())["samples"]
        said = "".join(iter(demo.stderr.readline, "Everything stays up until you press Ctrl-C.\n"))
        address = re.search(r"Prometheus +(http://\S+)/alerts", said)
        assert address is not None
        assert "Alertmanager" in said
        query = f"{address[1]}/api/v1/query?query=sum(tocsin_samples_total)"

        def scraped() -> bool:
            with urllib.request.urlopen(query, timeout=5) as reply:
                found = json.load(reply)["data"]["result"]
            return bool(found) and int(found[0]["value"][1]) == samples

        wait_for(scraped, demo)
        assert len(children()) == PROCESSES + 2
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    assert not children()


def test_without_the_programs_the_demo_says_what_to_install():
    env = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    command = [*COMMAND, "--exit", "--prometheus"]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert demo.returncode == 2
    assert "prometheus and alertmanager are not on the PATH: install them" in demo.stderr
