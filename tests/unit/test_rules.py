"""Alert rules: valid, tested by promtool, each with an entry in the runbook and with metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream import metrics as m

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULE_FILES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))


def _rules() -> list[dict[str, Any]]:
    files = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in RULE_FILES)
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in _rules() if "alert" in rule]
RUNBOOK = (DEPLOY / "runbook.md").read_text(encoding="utf-8")


def _run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_and_amtool_accept_the_configuration() -> None:
    said = _run("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert f"SUCCESS: {len(RULE_FILES)} rule files found" in said
    assert "5 inhibit rules" in _run("amtool", "check-config", DEPLOY / "alertmanager/alertmanager.yml")


def test_promtool_finds_that_rules_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in _run("promtool", "test", "rules", DEPLOY / "prometheus/rules_test.yml")


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_has_an_entry_in_the_runbook_and_a_test(rule: dict[str, Any]) -> None:
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert path == "deploy/runbook.md"
    assert anchor in [title.lower() for title in re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)]
    assert rule["alert"] in (DEPLOY / "prometheus/rules_test.yml").read_text(encoding="utf-8")


def test_every_entry_of_the_runbook_belongs_to_an_alert() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in ALERTS}


def test_rules_use_metrics_that_a_process_has() -> None:
    known = {spec.exposed_name() for specs in m.SETS.values() for spec in specs}
    known |= {f"{name}_bucket" for name in known}
    used = {name for rule in _rules() for name in re.findall(r"(?<![\w:])tocsin_\w+", str(rule["expr"]))}
    assert used
    assert used <= known
