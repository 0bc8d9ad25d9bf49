"""The API over HTTP, as clients use it."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest

from console.windows import Field
from tests.console.conftest import METRICS, SAMPLES, SPIKE_AT, START_MS, STEP_MS, wave

SPIKE = datetime.fromtimestamp((START_MS + SPIKE_AT * STEP_MS) / 1000, UTC)
SPIKE_TEXT = SPIKE.isoformat(timespec="milliseconds").replace("+00:00", "Z")
EXAMPLE = Path(__file__).parents[2] / "examples" / "redlab" / "telemetry.csv.gz"
REQUEST: dict[str, Any] = {"models": ["default", "Isolation Forest"], "column_name": "web_response"}


def problem(reply: httpx.Response, status: int) -> str:
    """What a problem says, after checking that it is one."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == status
    assert body["title"]
    return str(body["detail"])


async def test_models_find_the_spike_in_the_telemetry(api: httpx.AsyncClient) -> None:
    reply = await api.post("/find", json=REQUEST)
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert set(found) == set(REQUEST["models"])
    for model in REQUEST["models"]:
        points = found[model]["points"]
        assert len(points) == SAMPLES
        spike = next(each for each in points if each["timestamp"] == SPIKE_TEXT)
        assert spike["anomaly"], model
        assert spike["score"] >= 1.0
        assert spike["value"] == pytest.approx(wave("web_response")[SPIKE_AT])
    assert sum(each["anomaly"] for each in found["default"]["points"]) < SAMPLES / 100


async def test_the_same_question_by_get_is_answered_from_the_cache(api: httpx.AsyncClient) -> None:
    first = (await api.post("/find", json=REQUEST)).json()
    by_query = await api.get("/find", params=REQUEST)
    by_body = await api.request("GET", "/find", content=json.dumps(REQUEST))
    assert by_query.json() == by_body.json() == first


async def test_tables_come_as_csv_and_as_a_zip(api: httpx.AsyncClient) -> None:
    texts = (await api.post("/find", json=REQUEST, params={"format": "csv"})).json()
    rows = list(csv.DictReader(io.StringIO(texts["default"])))
    assert len(rows) == SAMPLES
    assert [row["timestamp"] for row in rows if row["anomaly"] == "1"][:1] == [SPIKE_TEXT]
    packed = await api.post(
        "/find", json=REQUEST, params={"format": "csv"}, headers={"Accept": "application/zip"}
    )
    with zipfile.ZipFile(io.BytesIO(packed.content)) as file:
        assert file.namelist() == ["default.csv", "isolation_forest.csv"]
        assert file.read("default.csv").decode() == texts["default"]


async def test_a_model_of_many_columns_says_the_share_of_each(api: httpx.AsyncClient) -> None:
    query = (
        "SELECT ts AS timestamp, anyIf(value, metric = 'web_response') AS response, "
        "anyIf(value, metric = 'throughput') AS load FROM telemetry_dedup AS t "
        "INNER JOIN series_latest AS s ON s.series_id = t.series_id GROUP BY ts ORDER BY ts"
    )
    asked = {"models": ["Multidimensional"], "data_source": {"query": query}}
    reply = await api.post("/find", json=asked, params={"format": "json"})
    assert reply.status_code == 200, reply.text
    points = reply.json()["Multidimensional"]["points"]
    (spike,) = (each for each in points if each["timestamp"] == SPIKE_TEXT)
    assert spike["anomaly"]
    shares = [spike["contribution.response"], spike["contribution.load"]]
    assert min(shares) > 0.3  # both have the spike
    assert sum(shares) == pytest.approx(1.0)


async def test_a_query_is_the_source(api: httpx.AsyncClient) -> None:
    asked = {
        "models": ["default"],
        "data_source": {"query": "SELECT ts AS timestamp, value AS v FROM telemetry_dedup WHERE series_id IN "
                        "(SELECT series_id FROM series_latest WHERE metric = 'throughput');"},
        "start": SPIKE.replace(hour=0).isoformat(),
    }  # fmt: skip
    points = (await api.post("/find", json=asked)).json()["default"]["points"]
    assert points[0]["timestamp"] >= SPIKE.replace(hour=0, minute=0).isoformat()[:16]
    assert len(points) < SAMPLES


async def test_a_file_is_the_source(api: httpx.AsyncClient) -> None:
    text = "time,load,host\n" + "".join(
        f"{START_MS + n * STEP_MS},{value},a\n" for n, value in enumerate(wave("web_response"))
    )
    reply = await api.post(
        "/find/file", files={"file": ("load.csv", text)}, data={"request": json.dumps({"models": ["large"]})}
    )
    points = reply.json()["large"]["points"]
    assert any(each["anomaly"] and each["timestamp"] == SPIKE_TEXT for each in points)
    bad = await api.post(
        "/find/file",
        files={"file": ("load.csv", "time,load\nyesterday,1\n")},
        data={"request": json.dumps({"models": ["large"]})},
    )
    assert "load.csv, line 2: 'yesterday' is not ISO 8601" in problem(bad, 400)
    named = {"file": ("load.csv", text.replace("time", "moment", 1))}
    form = {"request": json.dumps({"models": ["large"]})}
    reply = await api.post("/find/file", data=form, files=named)
    assert "'moment', 'load', 'host' with timestamp_column" in problem(reply, 400)
    reply = await api.post("/find/file", data=form | {"timestamp_column": "moment"}, files=named)
    assert reply.json()["large"]["points"] == points


async def test_prophet_finds_the_outage_in_the_month_of_the_example(api: httpx.AsyncClient) -> None:
    asked = {
        "models": ["Prophet"],
        "column_name": "web_response",
        "parameters": {"Prophet": {"max_samples": 3000}},
    }
    reply = await api.post(
        "/find/file",
        files={"file": (EXAMPLE.name, EXAMPLE.read_bytes())},
        data={"request": json.dumps(asked)},
    )
    points = reply.json()["Prophet"]["points"]
    anomalous = [each["timestamp"] for each in points if each["anomaly"]]
    assert "2024-05-13T22:12:00.000Z" in anomalous  # forty times the usual response time
    assert 0 < len(anomalous) < len(points) / 500
    banded = [each for each in points if each["lower"] is not None]
    assert len(banded) > 0.99 * len(points)
    assert all(each["lower"] < each["expected"] < each["upper"] for each in banded)


async def test_a_model_that_fails_does_not_fail_the_others(api: httpx.AsyncClient) -> None:
    asked = REQUEST | {"models": ["default", "large"], "parameters": {"large": {"nonsense": 1}}}
    found = (await api.post("/find", json=asked)).json()
    assert found["default"]["kind"] == "points"
    assert found["large"]["kind"] == "error"
    assert "nonsense" in found["large"]["error"]


async def test_every_online_detector_answers_by_its_name(api: httpx.AsyncClient) -> None:
    offered = (await api.get("/models")).json()
    online = [each for each in offered["models"] if each not in {"aer", "prophet", *offered["takes_many"]}]
    assert {"default", "robust", "rare", "large", "river"} <= set(online)
    reply = await api.post("/find", json={"models": online, "column_name": "web_response"})
    while reply.status_code == 202:
        reply = await api.get(reply.headers["location"], params={"wait_ms": 60_000})
    for name, found in reply.json().items():
        assert found["kind"] == "points", (name, found)
        scores = [each["score"] for each in found["points"]]
        assert len(scores) == SAMPLES, name
        assert any(score for score in scores), name


async def test_long_work_is_a_job_with_progress_events_and_can_be_cancelled(
    api: httpx.AsyncClient, cfg: Any
) -> None:
    msgspec.structs.force_setattr(cfg.console, "find_wait_ms", 0)  # of this test's own configuration
    started = await api.post("/find", json=REQUEST)
    assert started.status_code == 202
    job = started.json()
    assert started.headers["location"] == f"/find/{job['job_id']}"
    async with api.stream("GET", f"/find/{job['job_id']}/events") as stream:
        kinds = [line.split(": ")[1] async for line in stream.aiter_lines() if line.startswith("event:")]
    assert kinds[-1] == "end"
    done = await api.get(f"/find/{job['job_id']}")
    assert done.status_code == 200
    other = (await api.post("/find", json=REQUEST | {"models": ["rare", "large"]})).json()
    gone = (await api.delete(f"/find/{other['job_id']}")).json()
    assert gone["status"] == "cancelled"
    assert "no such job" in problem(await api.get("/find/nobody"), 404)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE telemetry", "Syntax error"),
        ("SELECT 1; DROP TABLE telemetry", "Syntax error"),
        ("SELECT * FROM url('http://127.0.0.1/', CSV, 'a Int32')", "readonly"),
        ("SELECT now() AS t, file('/etc/passwd') AS x", "file is not allowed"),
        ("SELECT now() AS t, number FROM numbers(300000)", "more than 200000 rows"),
        ("SELECT 1 AS a", "has no time"),
        ("SELECT now() AS t, 'a' AS b", "no column of numbers"),
    ],
)
async def test_a_query_can_only_look(api: httpx.AsyncClient, sql: str, said: str) -> None:
    reply = await api.post("/find", json={"models": ["default"], "data_source": {"query": sql}})
    assert said in problem(reply, reply.status_code)
    assert reply.status_code in {400, 403}


async def test_the_rows_of_a_query_come_as_columns_within_the_same_limits(api: httpx.AsyncClient) -> None:
    rows = "telemetry_dedup WHERE series_id IN (SELECT series_id FROM series WHERE metric = 'web_response')"
    found = (
        await api.post("/query", json={"query": f"SELECT ts, value FROM {rows} ORDER BY ts DESC"})
    ).json()
    assert found["ts_ms"] == [START_MS + n * STEP_MS for n in range(SAMPLES)]
    assert found["columns"]["value"] == pytest.approx(wave("web_response").tolist())
    refused = await api.post("/query", json={"query": "SELECT now() AS t, file('/etc/passwd') AS x"})
    assert "file is not allowed" in problem(refused, 403)
    assert "query is missing" in problem(await api.post("/query", json={}), 422)


async def test_only_servers_of_the_configuration_are_read(api: httpx.AsyncClient) -> None:
    source = {"host": "169.254.169.254", "port": 80, "query": "SELECT 1"}
    reply = await api.post("/find", json={"models": ["default"], "data_source": source})
    assert "not among the servers" in problem(reply, 403)


async def test_mistakes_are_told_with_what_to_do(api: httpx.AsyncClient) -> None:
    reply = await api.post("/find", json={"models": ["Oracle"], "column_name": "web_response"})
    assert "unknown model 'Oracle'" in problem(reply, 400)
    assert "column_name is missing" in problem(await api.post("/find", json={"models": ["default"]}), 400)
    reply = await api.post("/find", json={"models": ["default"], "column_name": "nothing"})
    assert "no series 'nothing'" in problem(reply, 404)
    reply = await api.post("/find", json={"modells": ["default"]})
    assert "/body/modells" in problem(reply, 422)
    assert reply.json()["errors"]
    assert problem(await api.get("/nowhere"), 404)


async def test_series_are_listed_a_page_at_a_time_by_matcher(api: httpx.AsyncClient) -> None:
    first = (await api.get("/series", params={"limit": 1})).json()
    second = (await api.get("/series", params={"limit": 1, "cursor": first["next"]})).json()
    metrics = [page["items"][0]["metric"] for page in (first, second)]
    assert metrics == sorted(METRICS)
    assert second["next"] is None
    for match, expected in {
        'web_*{service="shop"}': ["web_response"],
        '{service=~"sh.p"}': sorted(METRICS),
        '{service!="shop"}': [],
    }.items():
        found = (await api.get("/series", params={"match": match})).json()
        assert [each["metric"] for each in found["items"]] == expected, match
    assert "match" in problem(await api.get("/series", params={"match": "x{"}), 422)
    assert "cursor" in problem(await api.get("/series", params={"cursor": "x"}), 422)


async def test_a_window_is_columns_thinned_out_that_keep_the_anomaly(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/series", params={"match": "web_response"})).json()["items"][0]
    where = f"/series/{listed['id']}/window"
    begin = datetime.fromtimestamp(START_MS / 1000, UTC).isoformat()
    window = (await api.get(where, params={"start": begin, "max_samples": 100})).json()
    assert window["total"] == SAMPLES
    columns = window["columns"]
    assert set(columns) == set(get_args(Field)) - {"ts_ms"}
    (length,) = {len(each) for each in columns.values()}
    assert length <= 110
    at = columns["timestamp"].index(SPIKE_TEXT)
    assert columns["value"][at] == max(columns["value"]) == pytest.approx(max(wave("web_response")))
    assert columns["anomaly"][at] is True
    assert columns["score"][at] is None
    assert "no series" in problem(await api.get("/series/0000000000000000/window"), 404)


async def test_a_window_has_the_fields_that_were_asked_for(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/series", params={"match": "web_response"})).json()["items"][0]
    where = f"/series/{listed['id']}/window"
    asked = {"fields": ["ts_ms", "value"], "end": SPIKE.isoformat(), "max_samples": 5_000}
    columns = (await api.get(where, params=asked)).json()["columns"]
    first = SPIKE_AT - 1440  # without a start, a day
    assert columns == {
        "ts_ms": [START_MS + n * STEP_MS for n in range(first, SPIKE_AT)],
        "value": pytest.approx(wave("web_response")[first:SPIKE_AT].tolist()),
    }
    assert "/query/fields/0" in problem(await api.get(where, params={"fields": "secret"}), 422)
    backwards = {"start": SPIKE.isoformat(), "end": SPIKE.isoformat()}
    assert "start must be before end" in problem(await api.get(where, params=backwards), 422)


async def test_anomalies_can_be_listed_when_there_are_none(api: httpx.AsyncClient) -> None:
    assert (await api.get("/anomalies", params={"status": "open"})).json() == {"items": [], "next": None}


async def test_its_own_description_names_only_what_it_has(api: httpx.AsyncClient) -> None:
    page = (await api.get("/openapi.json")).json()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(page)))
    assert named <= set(page["components"]["schemas"])
    assert "ProblemDetails" in named
