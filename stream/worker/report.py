"""Turns what partitions did into metrics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from detectors.engine import Engine
from schemas.deadletter import DeadLetter
from schemas.score import SampleState
from stream import metrics as m
from stream.kafka import TopicPartition
from stream.worker.lifecycle import State
from stream.worker.pipeline import Output

HISTORY_S: Final = 3600.0
"""Samples older than this tell nothing of the delay: history is replayed, or the lag tells of a backlog. A
shorter time leaves out producers that send late, a longer one takes a replay of today for a slow pipeline."""


class BatchReport(NamedTuple):
    """A committed batch."""

    messages: int
    outputs: Sequence[Output]
    dead: Sequence[DeadLetter]
    decode_s: float
    transaction_s: float
    batch_s: float
    oldest_ms: int  # Kafka's timestamp of the first message
    newest_ms: int  # of its samples; -1 where there is none
    engine: Engine


class PartitionReport:
    """Counts for one partition; the handles are looked up once."""

    def __init__(self, metrics: m.Metrics, partition: TopicPartition, most_open: int) -> None:
        """``most_open``: anomalies of this partition that get a series of their own."""
        self._metrics = metrics
        self._partition = partition
        self._messages = metrics.counter(m.MESSAGES, *partition)
        self._states = [metrics.counter(m.SAMPLES, *partition, state.name.lower()) for state in SampleState]
        self._lag = metrics.gauge(m.LAG, *partition)
        self._series = metrics.gauge(m.ACTIVE_SERIES, *partition)
        self._open = metrics.gauge(m.OPEN_ANOMALIES, *partition)
        self._hidden = metrics.gauge(m.HIDDEN_ANOMALIES, *partition)
        self._most_open = most_open
        self._shown: set[tuple[object, ...]] = set()
        self._evicted = metrics.counter(m.EVICTED, *partition)
        self._moments = metrics.counter(m.GROUP_MOMENTS, *partition)
        self._state: State | None = None
        self._engine: Engine | None = None
        self._evictions = self._judged = 0
        self._cost_s: dict[str, float] = {}

    def state(self, state: State) -> None:
        if self._state is not None:
            self._metrics.gauge(m.PARTITION_STATE, *self._partition, self._state).set(0)
        self._metrics.gauge(m.PARTITION_STATE, *self._partition, state).set(1)
        self._state = state

    def recovered(self) -> None:
        self._metrics.counter(m.RESTARTS, *self._partition).inc()

    def replayed(self, messages: int) -> None:
        self._metrics.counter(m.REPLAYED, *self._partition).inc(messages)

    def snapshot_step(self, step: str, seconds: float) -> None:
        """``step``: copy, delay, write or restore."""
        self._metrics.histogram(m.SNAPSHOT_SECONDS, step).observe(seconds)

    def snapshot_failed(self, reason: str) -> None:
        self._metrics.counter(m.SNAPSHOT_FAILURES, *self._partition, reason).inc()

    def snapshot_written(self, size_bytes: int) -> None:
        if self._state is not State.STOPPED:  # a gauge that is taken away must not come back
            self._metrics.gauge(m.SNAPSHOT_BYTES, *self._partition).set(size_bytes)
            self._metrics.gauge(m.SNAPSHOT_TIME, *self._partition).set(time.time())

    def lag(self, end: int | None, next_offset: int) -> None:
        if end is not None:
            self._lag.set(max(0, end - next_offset))

    def batch(self, done: BatchReport) -> None:
        """Count a batch, after its commit: what is not committed did not happen."""
        metrics = self._metrics
        self._messages.inc(done.messages)
        for output in done.outputs:
            self._output(output)
        for letter in done.dead:
            metrics.counter(m.DEAD_LETTERS, *self._partition, letter.reason).inc()
        self._engine_did(done.engine)
        metrics.counter(m.STEP_SECONDS, "decode").inc(done.decode_s)
        metrics.histogram(m.BATCH_SECONDS).observe(done.batch_s)
        metrics.histogram(m.TRANSACTION_SECONDS).observe(done.transaction_s)
        now_s = time.time()
        if done.oldest_ms >= 0 and now_s - done.newest_ms / 1000 < HISTORY_S:
            metrics.histogram(m.DELAY_SECONDS).observe(max(0.0, now_s - done.oldest_ms / 1000))

    def close(self) -> None:
        """Take the gauges away: the partition is another worker's now, or nobody's."""
        gauges = (
            m.LAG,
            m.ACTIVE_SERIES,
            m.OPEN_ANOMALIES,
            m.HIDDEN_ANOMALIES,
            m.PARTITION_STATE,
            m.SNAPSHOT_BYTES,
            m.SNAPSHOT_TIME,
        )
        for spec in gauges:
            self._metrics.forget(spec, *self._partition)
        for labels in self._shown:
            self._metrics.forget(m.OPEN_ANOMALY, *labels)
        self._shown = set()

    def _output(self, output: Output) -> None:
        for handle, count in zip(self._states, output.states.tolist(), strict=True):
            if count:
                handle.inc(count)
        for event in output.events:
            self._metrics.counter(m.EVENTS, event.kind, event.status).inc()
        engine_s, encode_s = output.seconds
        self._metrics.counter(m.STEP_SECONDS, "engine").inc(engine_s)
        self._metrics.counter(m.STEP_SECONDS, "encode").inc(encode_s)

    def _show_open(self, engine: Engine, count: int) -> None:
        """Only what is open has a series, and at most so many: an alert on it fires and resolves with it."""
        shown: dict[tuple[object, ...], float] = {
            (
                each.anomaly_id,
                each.series,
                each.metric,
                each.labels.get("service", ""),
                each.severity,
                each.direction,
                each.started_ms // 1000,
            ): each.peak_score
            for each in (engine.open_anomalies(self._most_open) if count else ())
        }
        for labels, peak_score in shown.items():
            self._metrics.gauge(m.OPEN_ANOMALY, *labels).set(peak_score)
        for labels in self._shown - shown.keys():
            self._metrics.forget(m.OPEN_ANOMALY, *labels)
        self._shown = set(shown)
        self._hidden.set(count - len(shown))

    def _engine_did(self, engine: Engine) -> None:
        """Add what the engine has counted since the last batch; a new engine begins anew."""
        counts = engine.counts()
        if engine is not self._engine:
            self._engine, self._evictions, self._cost_s = engine, counts.evicted, {}
            self._judged = counts.moments
        self._series.set(counts.active_series)
        self._open.set(counts.open_anomalies)
        self._evicted.inc(counts.evicted - self._evictions)
        self._moments.inc(counts.moments - self._judged)
        self._evictions, self._judged = counts.evicted, counts.moments
        self._show_open(engine, counts.open_anomalies)
        for part, seconds in engine.cost_s.items():
            self._metrics.counter(m.ENGINE_SECONDS, part).inc(seconds - self._cost_s.get(part, 0.0))
        self._cost_s = dict(engine.cost_s)
