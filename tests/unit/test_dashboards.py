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
        "tocsin-incident",
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


PANELS = {"stat", "table", "timeseries", "status-history", "barchart"}
UNITS = {None, "s", "short", "percentunit", "dateTimeFromNow"}


@each_dashboard
def test_panels_are_as_the_schema_of_grafana_has_them(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] == 39
    assert re.fullmatch(r"now-\d+[hd]", dashboard["time"]["from"])
    assert dashboard["time"]["to"] == "now"
    assert dashboard["refresh"] in ("30s", "5m")
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in PANELS
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults.get("unit") in UNITS
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for steps in _thresholds(panel):
            values = [step["value"] for step in steps]
            assert values[0] is None, "the first step has no lower end"
            assert values[1:] == sorted(values[1:])
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["id"] == "byName"
            assert all(prop.keys() == {"id", "value"} for prop in override["properties"])


def _thresholds(panel: dict[str, Any]) -> list[list[dict[str, Any]]]:
    fields = panel["fieldConfig"]
    found = [fields["defaults"].get("thresholds")]
    found += [p["value"] for o in fields["overrides"] for p in o["properties"] if p["id"] == "thresholds"]
    return [each["steps"] for each in found if each]


@each_dashboard
def test_links_use_columns_of_their_query_and_variables_of_their_goal(dashboard: dict[str, Any]) -> None:
    known = {d["uid"]: {name for name, _, _ in variables(d)} for d in ALL}
    for panel in dashboard["panels"]:
        sql = panel["targets"][0].get("rawSql", "")
        for override in panel["fieldConfig"]["overrides"]:
            name = override["matcher"]["options"]
            hidden = any(prop["id"] == "custom.hidden" for prop in override["properties"])
            links = [link for p in override["properties"] if p["id"] == "links" for link in p["value"]]
            if hidden or links:
                assert re.search(rf"\b{name}\b", sql), f"{panel['title']} has no column {name}"
            for link in links:
                goal, chosen = re.findall(r"^/d/([\w-]+)\?var-(\w+)=", link["url"])[0]
                assert chosen in known[goal]
                for field in re.findall(r"__data\.fields\.(\w+)", link["url"]):
                    assert re.search(rf"\b{field}\b", sql), f"{panel['title']} has no column {field}"


def test_values_of_variables_cannot_leave_their_quotes() -> None:
    text = expand_sql("SELECT ${series:sqlstring}", Range(0, 1), {"series": ["it's"]})
    assert text == "SELECT 'it''s'"
    with pytest.raises(ValueError, match="format"):
        expand_sql("SELECT ${series:raw}", Range(0, 1), {"series": ["x"]})
    with pytest.raises(ValueError, match="macro"):
        expand_sql("SELECT $__unknown(ts)", Range(0, 1), {})
