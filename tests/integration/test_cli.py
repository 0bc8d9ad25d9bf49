"""The command `tocsin`, as people type it, on the real broker."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from schemas import config
from stream import kafka
from stream.formats.columnar import Columnar
from stream.kafka.partitioner import partition_of

TELEMETRY = Path(__file__).resolve().parents[2] / "examples" / "redlab" / "telemetry.csv.gz"
LOAD = (str(TELEMETRY), "--value-column", "web_response")


def tocsin(*arguments: str, status: int = 0, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", *arguments],
        input=text, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def options(kafka, prefix, tmp_path) -> list[str]:
    """A configuration with topics of its own."""
    file = tmp_path / "tocsin.yaml"
    file.write_text(f"""
kafka: {{bootstrap_servers: "{kafka}"}}
inputs: [{{topic: {prefix}telemetry, partitions: 3}}]
topics:
  anomalies: {{name: {prefix}anomalies, partitions: 2}}
  scores: {{name: {prefix}scores, partitions: 2}}
  deadletters: {{name: {prefix}deadletters}}
  journal: {{name: {prefix}journal}}
  artifacts: {{name: {prefix}artifacts, compacted: true}}
  requests: {{name: {prefix}requests, partitions: 1}}
  results: {{name: {prefix}results, partitions: 1}}
  replies: {{name: {prefix}replies, partitions: 1}}
  incidents: {{name: {prefix}incidents, partitions: 1, compacted: true}}
  control: {{name: {prefix}control, partitions: 1, compacted: true}}
  changes: {{name: {prefix}changes, partitions: 1}}
worker: {{group_id: {prefix}worker}}
metrics: {{worker_port: 0}}
""")
    return ["--config", str(file)]


async def messages(bootstrap: str, topic: str, at_least: int) -> list[kafka.Record]:
    client = kafka.consumer(config.Kafka(bootstrap_servers=bootstrap), topic)
    await client.start()
    found: list[kafka.Record] = []
    deadline = time.monotonic() + 20
    try:
        while len(found) < at_least and time.monotonic() < deadline:
            for records in (await client.getmany(timeout_ms=200)).values():
                found += records
    finally:
        await client.stop()
    return found


def test_topics_are_listed_as_missing_then_created(options, prefix):
    assert f"{prefix}telemetry" in tocsin("topics", "list", *options).stdout
    assert tocsin("topics", "list", *options).stdout.count("missing") == 12
    assert f"{prefix}telemetry: created, 3 partitions" in tocsin("topics", "create", *options).stdout
    assert tocsin("topics", "create", *options).stdout.count("was there") == 12


async def test_points_are_sent_each_series_to_one_partition_in_order(options, kafka, prefix, tmp_path):
    tocsin("topics", "create", *options)
    file = tmp_path / "wide.csv"
    names = [f"m{i}" for i in range(12)]
    rows = [f"{1_700_000_000 + 60 * t}," + ",".join(str(t + i) for i in range(12)) for t in range(50)]
    file.write_text("\n".join([f"ts,{','.join(names)}", *rows]) + "\n")
    said = tocsin("produce", str(file), "--label", "host=a", *options).stderr
    assert "600 samples in 600 messages" in said
    found = await messages(kafka, f"{prefix}telemetry", 600)
    assert len(found) == 600
    times = defaultdict(list)
    for record in found:
        assert record.partition == partition_of(record.key, 3)
        point = json.loads(record.value)
        assert record.key.decode() == f'{point["metric"]}{{host="a"}}'
        times[record.key].append(point["ts"])
    assert {len(t) for t in times.values()} == {50}
    assert all(t == sorted(t) for t in times.values())


async def test_columns_carry_the_same_samples_to_the_same_partitions(options, kafka, prefix, tmp_path):
    tocsin("topics", "create", *options)
    file = tmp_path / "wide.csv"
    file.write_text("ts,a,b,c,d\n" + "".join(f"{i},{i},{i + 1},,{i + 3}\n" for i in range(1, 31)))
    said = tocsin("produce", str(file), "--encoding", "columnar", *options).stderr
    assert "120 samples" in said
    assert "30 empty values" in said
    found = await messages(
        kafka, f"{prefix}telemetry", len({partition_of(n, 3) for n in (b"a", b"b", b"c", b"d")})
    )
    from stream.worker.admission import Admission

    samples = defaultdict(list)
    for record in found:
        decoded = Columnar.create({}, Admission(config.Admission())).decode([record])
        assert not decoded.dead
        for i, value in zip(decoded.samples.series_index, decoded.samples.values, strict=True):
            name = decoded.samples.series[i]
            assert record.partition == partition_of(name.encode(), 3)
            samples[name].append(value)
    assert samples["b"] == [i + 1 for i in range(1, 31)]
    assert sorted(samples) == ["a", "b", "c", "d"]


def test_a_rate_is_kept(options, tmp_path):
    tocsin("topics", "create", *options)
    file = tmp_path / "one.csv"
    file.write_text("ts,value\n" + "".join(f"{i},{i}\n" for i in range(1, 101)))
    began = time.monotonic()
    said = tocsin("produce", str(file), "--rate", "50", *options).stderr
    assert time.monotonic() - began >= 1.8
    assert "100 samples" in said


def test_a_worker_scores_what_was_produced_and_tail_shows_it(options, tmp_path):
    rng = np.random.default_rng(11)
    values = rng.normal(100, 1, 800)
    values[700] = 500
    file = tmp_path / "load.csv"
    rows = [f"{1_700_000_000 + 60 * i},{value}" for i, value in enumerate(values)]
    file.write_text("\n".join(["ts,value", *rows]) + "\n")
    tocsin("topics", "create", *options)
    tocsin("produce", str(file), "-l", "service=shop", *options)
    worker = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "worker", *options], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 90
        lines: list[str] = []
        while not any('"status":"close"' in line for line in lines):
            assert time.monotonic() < deadline, worker.poll()
            lines = tocsin("tail", "--from-beginning", "--json", *options).stdout.splitlines()
    finally:
        worker.send_signal(signal.SIGTERM)
        log = worker.communicate(timeout=30)[1]
    assert worker.returncode == 0, log
    assert "worker stopped" in log
    events = [json.loads(line) for line in lines]
    assert [event["status"] for event in events] == ["open", "close"]
    assert {event["series"] for event in events} == {'load{service="shop"}'}
    (readable,) = tocsin("tail", "-n", "1", *options).stdout.splitlines()
    assert re.match(r'2023-11-15 09:53:20  \w+ +close +spike +load\{service="shop"\}  ', readable)
    assert not tocsin("tail", "--series", "nothing*", "--json", *options).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["produce", "none.csv"], "none.csv: no such file"),
        (["produce", __file__], "say --format"),
        (["produce", "--label", "x", str(TELEMETRY)], "is not of the form service=shop"),
        (["score", str(TELEMETRY)], "name one of 'timestamp', 'web_response'"),
        (["score", "-", "--plot", "p.gif"], "must end with .png"),
        (["score", str(TELEMETRY), "--detector", "prophet"], "give either --model or --train-until"),
        (["fit", str(TELEMETRY), "--detector", "large", "-o", "x"], "there is nothing to fit"),
        (["score", *LOAD, "--detector", "iforest", "--train-until", "2001-01-01"], "0 samples of history"),
        (["mute", "host=web1", "--for", "1h"], """write '{host="web1"}'"""),
        (["check-config", "--set", "kafka.bootstrap=x"], "did you mean bootstrap_servers?"),
        (["worker", "--set", "engine.detectors[0].params.foo=1"], "large has no parameter 'foo'"),
        (["up", "--set", "kafka.bootstrap_servers=broker.example:9092"], "--no-kafka"),
        (["sink", "--set", "clickhouse.enabled=false"], "nothing for a sink to do"),
        (["tail", "--set", "kafka.bootstrap_servers=127.0.0.1:1"], "no Kafka answers at 127.0.0.1:1"),
        (["worker", "--set", "kafka.bootstrap_servers=127.0.0.1:1"], "no Kafka answers at 127.0.0.1:1"),
        (["incidents", "--set", "clickhouse.port=1"], "start one with `tocsin up`"),
    ],
)
def test_a_mistake_is_a_sentence_and_status_2(arguments, said):
    assert said in tocsin(*arguments, status=2).stderr


def test_a_missing_topic_says_who_makes_it(options):
    assert "tocsin topics create" in tocsin("produce", str(TELEMETRY), *options, status=2).stderr
    assert "tocsin topics create" in tocsin("tail", *options, status=2).stderr


def test_score_reads_standard_input_and_writes_standard_output():
    given = "timestamp,value\n2024-01-01,1\n2024-01-02,\n"
    said = tocsin("score", "-", text=given).stdout.splitlines()
    assert said == [
        "timestamp,value,score,level,expected,lower,upper,alert,anomaly_id",
        "2024-01-01,1,,,,,,0,",
        "2024-01-02,,,,,,,0,",
    ]


def test_check_config_shows_a_file_that_reads_back(tmp_path):
    shown = tocsin("check-config", "--show", "--set", "engine.window=64").stdout
    file = tmp_path / "shown.yaml"
    file.write_text(shown)
    assert "fine" in tocsin("check-config", "-c", str(file)).stdout
    assert "fine" in tocsin("check-config", str(file)).stdout
    assert "window: 64" in shown


def test_the_command_starts_without_the_heavy_libraries():
    program = (
        "import sys; sys.argv = ['tocsin', 'version']\n"
        "from stream.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'numba', 'aiokafka', 'chdb', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_summary_says_how_many_rows_have_a_score_and_how_many_are_out_of_order(tmp_path):
    times = [1_700_000_000 + 60 * at for at in range(200)]
    times[150] = times[140]
    text = "time,value\n" + "".join(f"{time},{at % 7}\n" for at, time in enumerate(times))
    said = tocsin("score", "-", "-o", str(tmp_path / "out.csv"), text=text).stderr
    assert re.match(r"200 rows, \d{2,3} scored, 0 anomalies\nNot later than a row before them: 1 rows", said)
    few = tocsin("score", "-", "-o", str(tmp_path / "out.csv"), text="time,value\n1,1\n").stderr
    assert "No row has a score" in few


def test_a_picture_breaks_its_lines_at_holes_and_needs_a_value(tmp_path):
    picture = str(tmp_path / "p.svg")
    times = [1_700_000_000 + 60 * (at + 500 * (at >= 150)) for at in range(300)]
    text = "time,value\n" + "".join(f"{time},{at % 7}\n" for at, time in enumerate(times))
    tocsin("score", "-", "--plot", picture, text=text)
    drawn = Path(picture).read_text()
    assert "<svg" in drawn
    paths = re.findall(r'<path d="([^"]*)"', drawn)
    lines = [path for path in paths if path.count("L") > 50 and "z" not in path]  # value, score, level
    assert [line.count("M") for line in lines] == [2, 2, 2]
    said = tocsin("score", "-", "--plot", picture, text="time,value\n", status=2).stderr
    assert "there is no row with a value" in said
