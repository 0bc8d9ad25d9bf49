"""Which open anomalies a partition shows as metrics."""

from __future__ import annotations

import re

import numpy as np
from prometheus_client import generate_latest

from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from stream import metrics as m
from stream.kafka import TopicPartition
from stream.worker.report import BatchReport, PartitionReport

SERIES = [f'cpu{{host="{n}",service="shop"}}' for n in range(5)]
START_MS = 1_760_000_000_000


def samples(first: int, values: np.ndarray) -> Samples:
    """Rows of a value for each series, a minute apart."""
    rows, count = values.shape
    times = START_MS + 60_000 * np.repeat(np.arange(first, first + rows), count)
    return Samples(SERIES, np.tile(np.arange(count), rows), times, values.ravel())


def shown(metrics: m.Metrics) -> list[str]:
    page = generate_latest(metrics.registry).decode()
    return re.findall(r'^tocsin_open_anomaly_peak_score\{.*host=\\"(\d)', page, re.MULTILINE)


def hidden(metrics: m.Metrics) -> list[str]:
    page = generate_latest(metrics.registry).decode()
    return re.findall(r"^tocsin_open_anomalies_hidden\{.*\} (\S+)", page, re.MULTILINE)


def test_the_strongest_open_anomalies_are_shown_up_to_the_cap_until_they_close() -> None:
    noise = np.random.default_rng(5).normal(50, 1, (600, 5))
    engine = Engine(config.Engine(), config.Admission())
    metrics = m.Metrics("worker")
    report = PartitionReport(metrics, TopicPartition("t", 0), most_open=2)

    def tell() -> None:
        report.batch(BatchReport(1, [], [], 0.0, 0.0, 0.0, -1, -1, engine))

    engine.process(samples(0, noise[:500]))
    tell()
    assert shown(metrics) == []
    engine.process(samples(500, np.array([[500.0, 5000.0, 800.0, 50_000.0, 600.0]])))
    tell()
    peaks = {each.series: each.peak_score for each in engine.open_anomalies(99)}
    strongest = sorted(peaks, key=lambda series: -peaks[series])[:2]
    assert len(peaks) == 5
    assert sorted(shown(metrics)) == sorted(str(SERIES.index(series)) for series in strongest)
    assert hidden(metrics) == ["3.0"]
    engine.process(samples(501, noise[500:]))
    tell()
    assert engine.counts().open_anomalies == 0
    assert shown(metrics) == []
    assert hidden(metrics) == ["0.0"]


def test_a_partition_that_left_shows_nothing() -> None:
    engine = Engine(config.Engine(), config.Admission())
    metrics = m.Metrics("worker")
    report = PartitionReport(metrics, TopicPartition("t", 0), most_open=2)
    engine.process(samples(0, np.random.default_rng(5).normal(50, 1, (500, 5))))
    engine.process(samples(500, np.full((1, 5), 5000.0)))
    report.batch(BatchReport(1, [], [], 0.0, 0.0, 0.0, -1, -1, engine))
    assert shown(metrics)
    report.close()
    assert shown(metrics) == []
    assert hidden(metrics) == []
