"""The configuration: all mistakes in one go, each with its path, its line and what is allowed."""

from pathlib import Path

import pytest

from schemas.config import Config
from stream import config
from stream.config import ConfigError


def mistakes(text: str, *overrides: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, overrides, env or {})
    return [str(problem) for problem in caught.value.problems]


def test_an_empty_file_is_the_defaults():
    assert config.parse("", env={}) == Config()
    assert config.parse("worker:\n", env={}) == Config()


def test_all_mistakes_are_told_at_once_with_their_lines():
    found = mistakes(
        "kafka:\n  bootstrap_server: x\nworker:\n  batch_interval_ms: -1\n  max_batch_messages: many\n"
    )
    assert found == [
        "line 2: kafka.bootstrap_server is not a key; did you mean bootstrap_servers?",
        "line 4: worker.batch_interval_ms must be a whole number from 0 to 31622400000, it is -1",
        "line 5: worker.max_batch_messages must be a whole number from 1, it is 'many'",
    ]


def test_an_unknown_key_without_a_neighbour_lists_what_there_is():
    assert mistakes("zzz: 1")[0].startswith("line 1: zzz is not a key; there is admission, changes")


def test_items_of_lists_have_their_number_in_the_path():
    found = mistakes("engine:\n  detectors:\n    - name: robust\n    - nam: river\n      weight: 3\n")
    assert found == [
        "line 4: engine.detectors[1].nam is not a key; did you mean name?",
        "line 4: engine.detectors[1].name is missing",
        "line 5: engine.detectors[1].weight must be a number from 0 to 1, it is 3",
    ]


def test_a_key_that_stands_twice_is_a_mistake():
    assert mistakes("sink:\n  group_id: a\n  group_id: b\n") == [
        "line 3: sink.group_id stands twice, first in line 2"
    ]


def test_what_is_not_yaml_names_its_line():
    assert mistakes("kafka:\n  - a\n b: [\n")[0].startswith("line 3: is not YAML")


def test_a_section_given_in_part_keeps_its_other_defaults():
    found = config.parse("topics:\n  anomalies:\n    partitions: 3\n", env={})
    assert (found.topics.anomalies.name, found.topics.anomalies.partitions) == ("tocsin.anomalies", 3)


def test_numbers_may_be_written_with_an_exponent():
    assert config.parse("engine:\n  alert_budget: 1e-3\n", env={}).engine.alert_budget == 0.001


def test_the_environment_fills_in_and_keeps_its_type():
    text = "metrics:\n  worker_port: ${PORT}\nclickhouse:\n  password: ${PASSWORD}\n  host: ${HOST:-here}\n"
    found = config.parse(text, env={"PORT": "7001", "PASSWORD": "0123"})
    assert (found.metrics.worker_port, found.clickhouse.password, found.clickhouse.host) == (
        7001,
        "0123",
        "here",
    )


def test_a_variable_that_is_not_set_is_a_mistake():
    assert "the environment has no SECRET" in mistakes("kafka:\n  sasl_password: ${SECRET}\n")[0]


def test_secrets_come_from_files(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    found = config.parse(f"clickhouse:\n  password_file: {secret}\n", env={})
    assert found.clickhouse.password == "s3cret"
    found = config.parse("clickhouse:\n  password: ${PW}\n", env={"PW_FILE": str(secret)})
    assert found.clickhouse.password == "s3cret"


def test_a_secret_file_that_is_missing_or_not_alone_is_a_mistake(tmp_path: Path):
    missing = tmp_path / "none"
    assert "cannot be read" in mistakes(f"clickhouse:\n  password_file: {missing}\n")[0]
    both = mistakes(f"clickhouse:\n  password: x\n  password_file: {missing}\n")
    assert both == ["line 3: clickhouse.password_file cannot stand beside clickhouse.password: choose one"]


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("worker.batch_interval_ms=50", lambda c: c.worker.batch_interval_ms == 50),
        (
            "inputs[0].topic=metrics",
            lambda c: c.inputs[0].topic == "metrics" and c.inputs[0].partitions == 64,
        ),
        ("engine.detectors[0].weight=0.5", lambda c: c.engine.detectors[0].weight == 0.5),
        ("topics.scores.partitions=2", lambda c: c.topics.scores.name == "tocsin.scores"),
        ("clickhouse.dsn=", lambda c: not c.clickhouse.dsn),
    ],
)
def test_one_value_can_be_set_from_outside(override, read):
    assert read(config.parse("", [override], {}))


def test_overrides_that_lead_nowhere_are_mistakes():
    assert mistakes("", "worker.batch_interval=5") == [
        "worker.batch_interval is not a key; did you mean batch_interval_ms?"
    ]
    assert "is not of the form" in mistakes("", "worker")[0]
    assert "does not exist" in mistakes("", "inputs[7].topic=x")[0]


PROPHET = (
    "{{engine: {{detectors: [{{name: robust}}, {{name: prophet, {0}}}]}}, "
    "refresh: {{rules: [{{detector: prophet, refresh_every_ms: 604800000}}]}}}}"
)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("engine: {detectors: [{name: robst}]}", "engine.detectors[0].name"),
        ("inputs: [{format: jsn}]", "inputs[0].format"),
        ("engine: {detectors: []}", "engine.detectors"),
        ("engine: {detectors: [{name: robust, weight: 0}]}", "engine.detectors"),
        ("inputs: [{topic: a}, {topic: a}]", "inputs[0].topic"),
        ("inputs: [{topic: tocsin.scores}]", "inputs[0].topic"),
        ("engine: {detectors: [{name: robust, match: 'cpu{host'}]}", "engine.detectors[0].match"),
        (PROPHET.format("params: {horizon_ms: 604800000}"), "refresh.rules[0].refresh_every_ms"),
        (PROPHET.format("params: {horizon: 1}"), "refresh.rules[0].detector"),
        ("worker: {rebalance_timeout_ms: 50}", "worker.rebalance_timeout_ms"),
        ("worker: {transaction_timeout_ms: 50}", "worker.transaction_timeout_ms"),
        ("worker: {session_timeout_ms: 1}", "worker.session_timeout_ms"),
        ("sink: {group_id: tocsin-worker}", "sink.group_id"),
        ("kafka: {security_protocol: SASL_SSL}", "kafka.sasl_username"),
        ("kafka: {ssl_keyfile: k}", "kafka.ssl_certfile"),
        ("metrics: {sink_port: 9108}", "metrics.sink_port"),
        ("kafka: {bootstrap_servers: 'a:9092, b'}", "kafka.bootstrap_servers"),
        ("kafka: {bootstrap_servers: 'a:port'}", "kafka.bootstrap_servers"),
        ("snapshots: {url: 'nosuch://bucket'}", "snapshots.url"),
        ("clickhouse: {host: 'http://x'}", "clickhouse.host"),
        ("clickhouse: {dsn: 'http://x'}", "clickhouse.dsn"),
    ],
)
def test_keys_that_cannot_work_together_are_told(text, path):
    with pytest.raises(ConfigError) as caught:
        config.parse(text, env={})
    assert path in [problem.path for problem in caught.value.problems]
    assert all(problem.line == 1 for problem in caught.value.problems if problem.path == path)


def test_the_file_is_found_by_option_then_environment_then_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.find(None, {}) is None
    Path("tocsin.yaml").write_text("")
    assert config.find(None, {}) == Path("tocsin.yaml")
    assert config.find(None, {"TOCSIN_CONFIG": "b.yaml"}) == Path("b.yaml")
    assert config.find(Path("a.yaml"), {"TOCSIN_CONFIG": "b.yaml"}) == Path("a.yaml")


def test_a_missing_file_is_a_mistake_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml.*\n.*cannot be read"):
        config.load(tmp_path / "none.yaml", env={})


def test_the_hash_follows_the_values_and_not_the_passwords():
    plain, other = config.parse("", env={}), config.parse("engine: {window: 64}", env={})
    secret = config.parse("clickhouse: {password: x}", env={})
    assert config.config_hash(plain) == config.config_hash(secret) != config.config_hash(other)
    assert config.config_hash(plain.engine) == config.config_hash(Config().engine)


def test_what_is_shown_reads_back_and_hides_passwords():
    secret = config.parse("clickhouse: {password: swordfish}", env={})
    assert "swordfish" not in config.shown(secret)
    assert config.parse(config.shown(Config()), env={}) == Config()


def test_groups_are_checked_with_their_detector():
    found = mistakes(
        "engine:\n  groups:\n"
        "    - {name: a, group_by: [host], detector: iforest, match: '{'}\n"
        "    - {name: a, group_by: [host], interval_ms: 1000, wait_ms: 9000}\n"
        "refresh:\n  rules:\n    - {detector: multidimensional}\n    - {detector: prophet}\n"
    )
    assert [each.partition(" must ")[0].partition(" is ")[0] for each in found] == [
        "line 3: engine.groups[0].match '{' does not end with '}'",
        "line 3: engine.groups[0].detector iforest judges one series at a time, not a group",
        "line 3: engine.groups[0].name 'a' stands 2 times",
        "line 4: engine.groups[1].wait_ms",
        "line 4: engine.groups[1].name 'a' stands 2 times",
        "line 8: refresh.rules[1].detector 'prophet'",
    ]
