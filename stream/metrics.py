"""Every Prometheus metric of Tocsin, declared once; `python -m stream.metrics` writes docs/metrics.md.

A process makes one of the metric sets with a registry of its own (no global state) and serves it with
`serve`. Label sets are bounded: by the assigned partitions, the reasons, the kinds and the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream.health import Health, serve, well

DOCS: Final = Path("docs/metrics.md")

PARTITION: Final = ("topic", "partition")
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Spec(NamedTuple):
    """A metric before it has a registry."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = SECONDS

    def exposed_name(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name


MESSAGES: Final = Spec("counter", "tocsin_messages", "Messages consumed and committed.", PARTITION)
SAMPLES: Final = Spec(
    "counter",
    "tocsin_samples",
    "Samples by what became of them (scored, warming_up, gap, late, duplicate), committed.",
    (*PARTITION, "state"),
)
DEAD_LETTERS: Final = Spec(
    "counter", "tocsin_dead_letters", "Messages, or parts of messages, set aside.", (*PARTITION, "reason")
)
EVENTS: Final = Spec(
    "counter", "tocsin_anomaly_events", "Anomaly events committed, by kind and status.", ("kind", "status")
)
LAG: Final = Spec("gauge", "tocsin_lag_messages", "Messages that wait in the partition.", PARTITION)
BATCH_SECONDS: Final = Spec(
    "histogram", "tocsin_batch_seconds", "From the first message of a batch fetched to its commit."
)
TRANSACTION_SECONDS: Final = Spec(
    "histogram", "tocsin_transaction_seconds", "From begin to commit of a transaction."
)
DELAY_SECONDS: Final = Spec(
    "histogram",
    "tocsin_delay_seconds",
    "From Kafka's timestamp of the oldest message of a batch to the commit of its events; of samples younger "
    "than an hour, so that a replay of history says nothing.",
)
STEP_SECONDS: Final = Spec(
    "counter", "tocsin_step_seconds", "Time spent by step: decode, engine, encode.", ("step",)
)
ENGINE_SECONDS: Final = Spec(
    "counter",
    "tocsin_engine_seconds",
    "Time spent in each part of the engine; `detector.NAME` is what a detector costs.",
    ("part",),
)
ACTIVE_SERIES: Final = Spec("gauge", "tocsin_active_series", "Series that have state.", PARTITION)
EVICTED: Final = Spec(
    "counter", "tocsin_evicted_series", "Series forgotten because there were too many.", PARTITION
)
GROUP_MOMENTS: Final = Spec(
    "counter", "tocsin_group_moments", "Moments of groups that were judged.", PARTITION
)
OPEN_ANOMALIES: Final = Spec("gauge", "tocsin_open_anomalies", "Anomalies that are open.", PARTITION)
OPEN_ANOMALY: Final = Spec(
    "gauge",
    "tocsin_open_anomaly_peak_score",
    "Peak score of each anomaly that is open, the strongest of each partition; gone when it closes. "
    "`started` is in Unix seconds.",
    ("anomaly_id", "series", "metric", "service", "severity", "direction", "started"),
)
HIDDEN_ANOMALIES: Final = Spec(
    "gauge",
    "tocsin_open_anomalies_hidden",
    "Open anomalies beyond `metrics.max_open_anomalies`, which have no series of their own.",
    PARTITION,
)
PARTITION_STATE: Final = Spec(
    "gauge",
    "tocsin_partition_state",
    "1 for the state that the partition is in (assigned, fencing, restoring, replaying, running, recovering, "
    "paused, stopped), 0 for the others.",
    (*PARTITION, "state"),
)
RESTARTS: Final = Spec(
    "counter", "tocsin_partition_recoveries", "Times a partition went back to its last commit.", PARTITION
)
REPLAYED: Final = Spec(
    "counter", "tocsin_replayed_messages", "Messages learned again, silently, after a restore.", PARTITION
)
SNAPSHOT_SECONDS: Final = Spec(
    "histogram",
    "tocsin_snapshot_seconds",
    "Time by step: copy (beside the commit), delay (by which the copy outlasted it), write, restore.",
    ("step",),
)
SNAPSHOT_BYTES: Final = Spec("gauge", "tocsin_snapshot_bytes", "Size of the newest snapshot.", PARTITION)
SNAPSHOT_TIME: Final = Spec(
    "gauge",
    "tocsin_snapshot_timestamp_seconds",
    "When the newest snapshot of this life was written, Unix time; its age is time() minus this.",
    PARTITION,
)
SNAPSHOT_FAILURES: Final = Spec(
    "counter",
    "tocsin_snapshot_failures",
    "Snapshots not used or not written, by reason (unreadable, foreign, other_format, other_config, "
    "truncated, corrupt, not_written).",
    (*PARTITION, "reason"),
)
ARTIFACTS_ADOPTED: Final = Spec(
    "counter", "tocsin_artifacts_adopted", "Fitted models that series began to use.", ("detector",)
)
ARTIFACTS_REFUSED: Final = Spec(
    "counter",
    "tocsin_artifacts_refused",
    "Fitted models not taken, by reason (damaged, version, unusable); the old one stays.",
    ("reason",),
)
REBALANCES: Final = Spec("counter", "tocsin_rebalances", "Times partitions were taken, by how.", ("how",))

SINK_ROWS: Final = Spec("counter", "tocsin_sink_rows", "Rows that ClickHouse acknowledged.", ("table",))
SINK_INSERT_SECONDS: Final = Spec(
    "histogram", "tocsin_sink_insert_seconds", "Time of an insert that succeeded.", ("table",)
)
SINK_FAILURES: Final = Spec(
    "counter",
    "tocsin_sink_insert_failures",
    "Inserts that failed and are tried again, by cause: unreachable, or ClickHouse's name of the error "
    "(readonly, not_enough_space, too_many_parts, ...).",
    ("cause",),
)
SINK_UP: Final = Spec("gauge", "tocsin_sink_clickhouse_up", "1 while ClickHouse takes inserts.")
SINK_LAG: Final = Spec("gauge", "tocsin_sink_lag_messages", "Messages that wait in the partition.", PARTITION)
SINK_UNREADABLE: Final = Spec(
    "counter",
    "tocsin_sink_unreadable_messages",
    "Messages of ours that could not be read, skipped.",
    ("topic",),
)

NOTIFY_SENT: Final = Spec("counter", "tocsin_notify_sent", "Events that a target has taken.", ("target",))
NOTIFY_RETRIES: Final = Spec(
    "counter", "tocsin_notify_retries", "Tries that failed and are repeated.", ("target",)
)
NOTIFY_DEAD_ENDS: Final = Spec(
    "counter",
    "tocsin_notify_dead_ends",
    "Events given up, by reason (refused, deadline, template).",
    ("target", "reason"),
)
NOTIFY_DUPLICATES: Final = Spec(
    "counter", "tocsin_notify_duplicates", "Events that came again and were not sent again.", ("target",)
)
NOTIFY_UNREADABLE: Final = Spec(
    "counter", "tocsin_notify_unreadable_messages", "Messages that are no events, skipped."
)
REQUESTS: Final = Spec(
    "counter",
    "tocsin_refresh_requests",
    "Refits asked for, by trigger (history, age, drift, label, person).",
    ("detector", "trigger"),
)
REFRESH_WAITING: Final = Spec("gauge", "tocsin_refresh_waiting", "Refits asked for and not answered.")
REFRESH_LATE: Final = Spec(
    "gauge",
    "tocsin_refresh_late",
    "Refits that are due and not asked for: refresh.max_waiting others are not answered yet.",
)
REFRESH_FAILED: Final = Spec(
    "counter", "tocsin_refresh_failed", "Refits that gave no model, by reason.", ("detector", "reason")
)
REFRESH_CLOCK: Final = Spec(
    "gauge",
    "tocsin_refresh_clock_seconds",
    "Newest sample time that the timetable has seen, Unix time.",
)
INCIDENT_EVENTS: Final = Spec(
    "counter", "tocsin_incident_events", "Revisions of incidents committed, by status.", ("status",)
)
OPEN_INCIDENTS: Final = Spec("gauge", "tocsin_open_incidents", "Incidents that are open.")
OPEN_INCIDENT: Final = Spec(
    "gauge",
    "tocsin_open_incident_peak_score",
    "Peak score of each incident that is open, the strongest; gone when it closes. `shared` are the labels "
    "that its members share.",
    ("incident_id", "shared", "service", "severity"),
)
INCIDENT_TURN: Final = Spec(
    "gauge",
    "tocsin_incident_process_active",
    "1 in the coordinator that tells incidents, 0 in one that stands by.",
)
INCIDENT_RECOVERIES: Final = Spec(
    "counter", "tocsin_incident_recoveries", "Times the incident process went back to its last commit."
)
INCIDENT_ANOMALIES: Final = Spec(
    "counter",
    "tocsin_incident_anomaly_events",
    "Anomaly events that the incident process has taken, committed.",
)
LABELLED: Final = Spec(
    "gauge",
    "tocsin_labelled_anomalies",
    "Anomalies by the newest verdict of a person (true, false, expected), detector that spoke and policy.",
    ("detector", "policy", "verdict"),
)
COMMANDS: Final = Spec(
    "counter",
    "tocsin_commands",
    "Commands of people and changes that were followed, by command.",
    ("command",),
)
COMMANDS_REFUSED: Final = Spec(
    "counter", "tocsin_commands_refused", "Messages of a topic that nobody can follow, skipped.", ("topic",)
)
FITS: Final = Spec("counter", "tocsin_fits", "Models fitted and published.", ("detector",))
FIT_FAILURES: Final = Spec(
    "counter",
    "tocsin_fit_failures",
    "Fits that gave no model, by reason (raised, deadline, memory, died, too_little_history, constant, "
    "not_finite, too_large, unavailable, impossible, cancelled); the old model stays.",
    ("detector", "reason"),
)
FIT_SECONDS: Final = Spec(
    "histogram",
    "tocsin_fit_seconds",
    "From a request to its published model.",
    ("detector",),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
TRAINER_BUSY: Final = Spec("gauge", "tocsin_trainer_busy", "Fits that run now.")

SETS: Final[dict[str, list[Spec]]] = {
    "worker": [
        MESSAGES,
        SAMPLES,
        DEAD_LETTERS,
        EVENTS,
        LAG,
        BATCH_SECONDS,
        TRANSACTION_SECONDS,
        DELAY_SECONDS,
        STEP_SECONDS,
        ENGINE_SECONDS,
        ACTIVE_SERIES,
        EVICTED,
        GROUP_MOMENTS,
        OPEN_ANOMALIES,
        OPEN_ANOMALY,
        HIDDEN_ANOMALIES,
        PARTITION_STATE,
        RESTARTS,
        REPLAYED,
        SNAPSHOT_SECONDS,
        SNAPSHOT_BYTES,
        SNAPSHOT_TIME,
        SNAPSHOT_FAILURES,
        REBALANCES,
        ARTIFACTS_ADOPTED,
        ARTIFACTS_REFUSED,
    ],
    "coordinator": [
        REQUESTS,
        REFRESH_WAITING,
        REFRESH_LATE,
        REFRESH_FAILED,
        REFRESH_CLOCK,
        INCIDENT_EVENTS,
        OPEN_INCIDENTS,
        OPEN_INCIDENT,
        INCIDENT_TURN,
        INCIDENT_RECOVERIES,
        INCIDENT_ANOMALIES,
        LABELLED,
        COMMANDS,
        COMMANDS_REFUSED,
    ],
    "trainer": [FITS, FIT_FAILURES, FIT_SECONDS, TRAINER_BUSY],
    "sink": [SINK_ROWS, SINK_INSERT_SECONDS, SINK_FAILURES, SINK_UP, SINK_LAG, SINK_UNREADABLE],
    "notify": [NOTIFY_SENT, NOTIFY_RETRIES, NOTIFY_DEAD_ENDS, NOTIFY_DUPLICATES, NOTIFY_UNREADABLE],
}


class Metrics:
    """The metrics of one process, by their `Spec`: ``metrics.counter(MESSAGES, topic, 0).inc()``."""

    def __init__(self, process: str) -> None:
        """Declare the metrics of ``process``, a key of `SETS`."""
        self.registry = CollectorRegistry()
        makers: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._made: dict[Spec, Any] = {}
        for spec in SETS[process]:
            options = {"buckets": spec.buckets} if spec.kind == "histogram" else {}
            self._made[spec] = makers[spec.kind](
                spec.name, spec.help, spec.labels, registry=self.registry, **options
            )

    def counter(self, spec: Spec, *labels: object) -> Counter:
        """A counter; keep the result where it is needed often, the look-up takes a microsecond."""
        found: Counter = self._find(spec, labels)
        return found

    def gauge(self, spec: Spec, *labels: object) -> Gauge:
        found: Gauge = self._find(spec, labels)
        return found

    def histogram(self, spec: Spec, *labels: object) -> Histogram:
        found: Histogram = self._find(spec, labels)
        return found

    def forget(self, spec: Spec, *labels: object) -> None:
        """Drop a gauge that is another process's now, or two would report it; without labels all of them."""
        metric = self._made[spec]
        if labels:
            metric.remove_by_labels(dict(zip(spec.labels, map(str, labels), strict=False)))
        else:
            metric.clear()

    def _find(self, spec: Spec, labels: tuple[object, ...]) -> Any:
        metric = self._made[spec]
        return metric.labels(*map(str, labels)) if spec.labels else metric


class Endpoint:
    """A running HTTP endpoint with ``/metrics``, ``/healthz`` and ``/readyz``."""

    def __init__(
        self, metrics: Metrics, host: str, port: int, live: Health = well, ready: Health = well
    ) -> None:
        self._server, self._thread = serve(metrics.registry, host, port, live, ready)
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def page() -> str:
    """The text of docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Written by `python -m stream.metrics` from `stream/metrics.py`; do not edit.",
        "Each process serves its own on `/metrics` (`metrics.worker_port`, `sink_port`, `notify_port`).",
    ]
    for process, specs in SETS.items():
        lines += [
            "",
            f"## `tocsin {process}`",
            "",
            "| metric | type | labels | meaning |",
            "|---|---|---|---|",
        ]
        for spec in specs:
            labels = ", ".join(f"`{label}`" for label in spec.labels)
            lines.append(f"| `{spec.exposed_name()}` | {spec.kind} | {labels} | {spec.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCS.write_text(page(), encoding="utf-8")
