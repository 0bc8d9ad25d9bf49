"""Dashboards as files: provisioned, with data sources, variables and links that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.dashboards import Range, dashboards, expand_promql, expand_sql, queries, variables
from stream import metrics as m

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy/grafana"
ALL = dashboards()

each_dashboard = pytest.mark.parametrize("dashboard", ALL, ids=lambda d: d["uid"])


def test_the_folder_is_provisioned() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/tocsin.yaml").read_text(encoding="utf-8"))
    path = provider["providers"][0]["options"]["path"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert f"./deploy/grafana/dashboards:{path}:ro" in compose["services"]["grafana"]["volumes"]
    assert {d["uid"] for d in ALL} == {
        "tocsin-overview",
        "tocsin-series",
        "tocsin-pipeline",
        "tocsin-quality",
    }


@each_dashboard
def test_data_sources_are_those_that_are_provisioned(dashboard: dict[str, Any]) -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/tocsin.yaml").read_text(encoding="utf-8"))
    known = {(source["type"], source["uid"]) for source in sources["datasources"]}
    used = re.findall(r'"datasource": \{\s*"type": "([^"]+)",\s*"uid": "([^"]+)"', json.dumps(dashboard))
    assert used
    assert set(used) <= known


@each_dashboard
def test_queries_expand_links_lead_somewhere_and_panels_have_places(dashboard: dict[str, Any]) -> None:
    chosen = {name: ["x"] for name, _, _ in variables(dashboard)}
    asked = list(queries(dashboard))
    for query in asked:
        if query.language == "sql":
            assert "$" not in expand_sql(query.text, Range(0, 1), chosen)
        else:
            known = {spec.exposed_name() for specs in m.SETS.values() for spec in specs}
            names = re.findall(r"\btocsin_\w+", expand_promql(query.text, 60))
            assert {name.removesuffix("_bucket") for name in names} <= known
    assert len({query.where for query in asked}) == len(asked)
    linked = re.findall(r"/d/([\w-]+)\?", json.dumps(dashboard))
    assert set(linked) <= {d["uid"] for d in ALL}
    places = {
        (x, y)
        for grid in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    }
    assert len(places) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in dashboard["panels"])


def test_values_of_variables_cannot_leave_their_quotes() -> None:
    text = expand_sql("SELECT ${series:sqlstring}", Range(0, 1), {"series": ["it's"]})
    assert text == "SELECT 'it''s'"
    with pytest.raises(ValueError, match="format"):
        expand_sql("SELECT ${series:raw}", Range(0, 1), {"series": ["x"]})
    with pytest.raises(ValueError, match="macro"):
        expand_sql("SELECT $__unknown(ts)", Range(0, 1), {})
