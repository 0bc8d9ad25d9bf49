"""What a committed batch says of the delay."""

from __future__ import annotations

import time

import pytest

from detectors.engine import Engine
from schemas import config
from stream import metrics as m
from stream.kafka import TopicPartition
from stream.worker.report import HISTORY_S, BatchReport, PartitionReport


@pytest.mark.parametrize(
    ("age_s", "observed"), [(30.0, 1), (HISTORY_S - 60, 1), (HISTORY_S + 60, 0), (600 * 86_400.0, 0)]
)
def test_a_replay_of_history_is_no_delay(age_s: float, observed: int) -> None:
    metrics = m.Metrics("worker")
    now_ms = int(time.time() * 1000)
    done = BatchReport(
        messages=1, outputs=[], dead=[], decode_s=0.0, transaction_s=0.0, batch_s=0.0,
        oldest_ms=now_ms - 20_000, newest_ms=now_ms - int(1000 * age_s),
        engine=Engine(config.Engine(), config.Admission()),
    )  # fmt: skip
    PartitionReport(metrics, TopicPartition("t", 0), 5).batch(done)
    assert metrics.registry.get_sample_value("tocsin_delay_seconds_count") == observed
    assert metrics.registry.get_sample_value("tocsin_delay_seconds_bucket", {"le": "10.0"}) == 0
