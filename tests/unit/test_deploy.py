"""What cannot be started here (there is no container engine) is held to its rules by reading it."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream import config as loader

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
LONG_RUNNING = sorted(name for name, service in SERVICES.items() if service["restart"] != "no")
KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init",
    "ports", "profiles", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "ulimits",
    "user", "volumes",
}  # fmt: skip
CONTAINER = loader.parse(
    (ROOT / "deploy/docker/tocsin.yaml").read_text(encoding="utf-8"), env={"CLICKHOUSE_PASSWORD": "secret"}
)

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


@each_service
def test_a_service_uses_known_keys_a_pinned_image_limits_and_a_restart_policy(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= KEYS
    tag = service["image"].partition(":")[2]
    assert re.match(r"v?\d|\$\{TOCSIN_VERSION:-\d", tag), service["image"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"] in ("unless-stopped", "no")


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_that_stays_up_has_a_health_check(name: str) -> None:
    checked = SERVICES[name].get(
        "healthcheck", {"test": "HEALTHCHECK" in DOCKERFILE and "build" in SERVICES[name]}
    )
    assert checked["test"]


@each_service
def test_a_dependency_exists_and_can_reach_its_condition(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        if wanted["condition"] == "service_healthy":
            assert other in LONG_RUNNING
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


@each_service
def test_mounts_exist_and_ports_are_published_on_loopback(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_detection_does_not_wait_for_clickhouse() -> None:
    for name in ("worker", "sink", "topics"):
        assert "clickhouse" not in SERVICES[name]["depends_on"]


def test_commands_of_our_image_exist() -> None:
    import typer.main

    from stream.cli import app

    command = typer.main.get_command(app)
    known = set(command.commands)  # type: ignore[attr-defined]
    ours = [name for name, service in SERVICES.items() if "build" in service]
    assert {SERVICES[name]["command"][0] for name in ours} <= known


def test_the_configuration_in_the_image_meets_the_services() -> None:
    host, _, port = CONTAINER.kafka.bootstrap_servers.partition(":")
    assert f"INTERNAL://{host}:{port}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert host in SERVICES
    assert CONTAINER.clickhouse.host in SERVICES
    assert CONTAINER.clickhouse.password == "secret"
    assert SERVICES["worker"]["environment"].get("METRICS_PORT") is None
    assert f"METRICS_PORT={CONTAINER.metrics.worker_port}" in DOCKERFILE
    assert SERVICES["sink"]["environment"]["METRICS_PORT"] == str(CONTAINER.metrics.sink_port)
    assert CONTAINER.metrics.host == "0.0.0.0"
    assert f"snapshots:{CONTAINER.snapshots.url}" in SERVICES["worker"]["volumes"]


def test_prometheus_scrapes_the_ports_of_the_services() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    found = {
        entry["names"][0]: entry["port"]
        for job in scrape["scrape_configs"]
        for entry in job.get("dns_sd_configs", [])
    }
    ports = CONTAINER.metrics
    names = ("worker", "sink", "notify", "coordinator", "trainer")
    assert found == {name: getattr(ports, f"{name}_port") for name in names}


def test_users_of_clickhouse_get_their_passwords_from_its_environment() -> None:
    users = ET.parse(ROOT / "deploy/clickhouse/users.xml").getroot().find("users")
    assert users is not None
    variables = {user.tag: user.findtext("password", "") or user[0].attrib["from_env"] for user in users}
    assert set(variables.values()) <= set(SERVICES["clickhouse"]["environment"])
    assert CONTAINER.clickhouse.username in variables
    sources = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/tocsin.yaml").read_text(encoding="utf-8")
    )["datasources"]
    assert {source["uid"] for source in sources} == {"tocsin-clickhouse", "tocsin-prometheus"}
    assert sources[0]["jsonData"]["username"] in variables
    assert sources[0]["jsonData"]["defaultDatabase"] == CONTAINER.clickhouse.database


def test_the_image_is_pinned_multi_stage_and_runs_as_nobody() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == [
        "python:3.11.13-slim-bookworm",
        "base",
        "base",
    ]
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.count("--require-hashes") == 3
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    copied = [line for line in re.findall(r"^COPY (.*)", DOCKERFILE, re.MULTILINE) if "--from" not in line]
    sources = {source for line in copied for source in line.split()[:-1]}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_installs_what_the_lock_file_holds_and_all_that_is_needed() -> None:
    everything = _pins("requirements.lock")
    runtime = _pins("deploy/docker/requirements.lock")
    build = _pins("deploy/docker/build.lock")
    assert runtime.items() | build.items() <= everything.items(), "run make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[^A-Za-z0-9_.-]", text)[0] for text in project["dependencies"]}
    assert needed - set(runtime) == {"chdb-core"}


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(==(?:.*\\\n)*.*)", text, re.MULTILINE))
