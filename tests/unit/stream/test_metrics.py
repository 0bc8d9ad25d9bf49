"""Metrics are declared once, documented from there and served."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from stream import metrics as m

ROOT = Path(__file__).parents[3]


def test_the_page_of_metrics_is_what_the_code_says() -> None:
    assert (ROOT / m.DOCS).read_text(encoding="utf-8") == m.page(), "run python -m stream.metrics"


@pytest.mark.parametrize("process", m.SETS)
def test_names_follow_the_conventions_of_prometheus(process: str) -> None:
    for spec in m.SETS[process]:
        assert spec.name.startswith("tocsin_")
        assert not spec.name.endswith("_total"), "the library adds it"
        assert spec.help.endswith(".")
        if spec.kind == "histogram":
            assert spec.name.endswith("_seconds")


def test_metrics_are_served_and_a_partition_that_left_is_forgotten() -> None:
    metrics = m.Metrics("worker")
    metrics.gauge(m.LAG, "t", 1).set(5)
    metrics.gauge(m.LAG, "t", 2).set(6)
    metrics.gauge(m.PARTITION_STATE, "t", 1, "running").set(1)
    metrics.forget(m.LAG, "t", 1)
    metrics.forget(m.PARTITION_STATE, "t", 1)
    endpoint = m.Endpoint(metrics, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(endpoint.url, timeout=5) as response:
            page = response.read().decode()
    finally:
        endpoint.close()
    assert 'tocsin_lag_messages{partition="2",topic="t"} 6.0' in page
    assert 'partition="1"' not in page
