"""The configuration file as typed, closed structs: every key, its default and what it is for.

The docs page `docs/configuration.md` is generated from this module. An attribute's comment in the form of
`Annotated[..., Meta(description=...)]` is its documentation.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Ms = Annotated[int, Meta(ge=0, le=366 * 86_400_000)]
Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
Text = Annotated[str, Meta(min_length=1)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the file; an unknown key in it is an error."""


class Kafka(Section, frozen=True):
    """How to reach Kafka."""

    bootstrap_servers: Annotated[Text, Meta(description="Comma-separated host:port.")] = "127.0.0.1:9092"
    client_id: Annotated[Name, Meta(description="Name shown in the broker's logs and quotas.")] = "tocsin"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str = ""
    sasl_password: Annotated[str, Meta(description="Use ${ENV} or sasl_password_file.")] = ""
    ssl_cafile: Annotated[str, Meta(description="CA certificates (PEM); the system's when empty.")] = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""


class Topic(Section, frozen=True):
    """A topic that `tocsin topics create` makes when it is missing."""

    name: Name
    partitions: Positive = 8
    retention_ms: Annotated[int, Meta(ge=-1, description="-1 keeps for ever.")] = 7 * 86_400_000
    compacted: bool = False


class Input(Section, frozen=True):
    """A topic with telemetry and the format of its messages."""

    topic: Name = "telemetry"
    format: Annotated[Text, Meta(description="Name of an entry point in the group tocsin.formats.")] = "auto"
    options: Annotated[dict[str, Any], Meta(description="Options of the format.")] = {}
    partitions: Annotated[Positive, Meta(description="Used when tocsin creates the topic.")] = 64


class Topics(Section, frozen=True):
    """Names of the topics that Tocsin writes."""

    anomalies: Topic = Topic(name="tocsin.anomalies", partitions=8, retention_ms=30 * 86_400_000)
    scores: Topic = Topic(name="tocsin.scores", partitions=8, retention_ms=86_400_000)
    deadletters: Topic = Topic(name="tocsin.deadletters", partitions=1, retention_ms=14 * 86_400_000)
    journal: Annotated[
        Topic,
        Meta(description="Its retention must outlast that of the inputs; it grows with their partitions."),
    ] = Topic(name="tocsin.journal", partitions=64, retention_ms=-1)
    artifacts: Annotated[
        Topic, Meta(description="Fitted models; the newest of each series and detector is kept.")
    ] = Topic(name="tocsin.artifacts", partitions=8, retention_ms=-1, compacted=True)
    requests: Annotated[Topic, Meta(description="Work for trainers.")] = Topic(
        name="tocsin.requests", partitions=16
    )
    replies: Annotated[Topic, Meta(description="What models have found for the console.")] = Topic(
        name="tocsin.replies", partitions=4, retention_ms=3_600_000
    )
    results: Annotated[Topic, Meta(description="What became of the requests.")] = Topic(
        name="tocsin.results", partitions=4
    )
    incidents: Annotated[
        Topic, Meta(description="The newest revision of each incident of the last days.")
    ] = Topic(name="tocsin.incidents", partitions=1, retention_ms=-1, compacted=True)
    control: Annotated[Topic, Meta(description="Commands: mutes, labels, refreshes.")] = Topic(
        name="tocsin.control", partitions=1, retention_ms=-1, compacted=True
    )
    changes: Annotated[Topic, Meta(description="What others write: deployments and other changes.")] = Topic(
        name="tocsin.changes", partitions=1, retention_ms=30 * 86_400_000
    )
    replication_factor: Annotated[int, Meta(ge=1, le=16, description="Of topics that tocsin creates.")] = 1


class Worker(Section, frozen=True):
    """The process that scores."""

    group_id: Annotated[Name, Meta(description="Consumer group; also the prefix of transactional ids.")] = (
        "tocsin-worker"
    )
    batch_interval_ms: Annotated[
        Ms,
        Meta(
            description="A partition commits about this often; smaller is sooner, larger is cheaper. With "
            "more than a dozen partitions a worker takes 4 ms for each."
        ),
    ] = 50
    max_batch_messages: Annotated[Positive, Meta(description="Most messages in one transaction.")] = 5000
    max_batch_samples: Annotated[
        Positive,
        Meta(description="A batch is scored in slices of about 250 ms, at most of this size."),
    ] = 200_000
    fetch_max_bytes: Annotated[Positive, Meta(description="Most bytes of one fetch of one partition.")] = (
        4 * 1024 * 1024
    )
    delivery: Annotated[
        Literal["exactly_once", "at_least_once"],
        Meta(
            description="at_least_once sends without transactions: sooner, and after a crash some messages "
            "come twice, with the same event ids."
        ),
    ] = "exactly_once"
    transaction_timeout_ms: Annotated[
        Ms, Meta(description="The broker aborts a transaction older than this: above any pause of a worker.")
    ] = 60_000
    session_timeout_ms: Annotated[
        Ms,
        Meta(
            description="A worker silent for this long loses its partitions. Shorter recovers sooner from a "
            "crash; brokers refuse less than 6000 (`group.min.session.timeout.ms`)."
        ),
    ] = 6_000
    rebalance_timeout_ms: Annotated[
        Ms, Meta(description="Time to finish the open batch when partitions move.")
    ] = 30_000
    start_from: Annotated[
        Literal["earliest", "latest"], Meta(description="Where a group without committed offsets begins.")
    ] = "earliest"
    relearn_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="With another configuration, or when its history is gone, a partition learns from "
            "this many messages before its committed offset. (A crash repeats all that the snapshot lacks.)",
        ),
    ] = 20_000
    emit_scores: Annotated[
        Literal["all", "alerts", "none"],
        Meta(description="Which samples go to the scores topic, and so to ClickHouse."),
    ] = "all"


class Admission(Section, frozen=True):
    """What is let into the engine (see docs/architecture.md)."""

    max_future_ms: Annotated[
        Ms, Meta(description="A sample further ahead of Kafka's timestamp than this is a dead letter.")
    ] = 600_000
    allowed_lateness_ms: Annotated[
        Ms, Meta(description="Hold samples this long in event time to put them in order; 0 holds nothing.")
    ] = 0
    max_series_per_partition: Annotated[
        Positive, Meta(description="Beyond it the least recently seen series is forgotten.")
    ] = 100_000
    max_series_per_metric: Annotated[Positive, Meta(description="The same, for one metric name.")] = 100_000
    max_message_bytes: Positive = 8 * 1024 * 1024
    breaker_ratio: Annotated[
        float,
        Meta(
            gt=0, le=1, description="A partition pauses when more of its messages than this are dead letters."
        ),
    ] = 0.05
    breaker_window_ms: Annotated[Ms, Meta(description="The time over which that share is taken.")] = 60_000


class DetectorConfig(Section, frozen=True):
    """One detector of the ensemble."""

    name: Annotated[Text, Meta(description="Name of an entry point in the group tocsin.detectors.")]
    params: Annotated[dict[str, Any], Meta(description="Parameters of the detector.")] = {}
    weight: Annotated[float, Meta(ge=0, le=1, description="0 lets it score without alerting.")] = 1.0
    match: Annotated[
        Text,
        Meta(
            description="The series that it judges, as in a policy; they share the alert budget with those "
            "of their detectors alone. Entries of one name must not overlap."
        ),
    ] = "*"


class Policy(Section, frozen=True):
    """What holds for some series: the first policy that matches a series is its only one.

    What a policy leaves out is as in `engine`, or has no effect.
    """

    match: Annotated[
        Text,
        Meta(
            description='The series, as in Prometheus: `cpu{host=~"web.*"}`; `*` in the metric stands for '
            "anything, so `*` alone is every series."
        ),
    ]
    direction: Annotated[
        Literal["above", "below", "both"], Meta(description="On which side of the expected value to alert.")
    ] = "both"
    min_deviation: Annotated[
        float, Meta(ge=0, description="Nothing nearer than this to the expected value alerts.")
    ] = 0.0
    min_relative_deviation: Annotated[
        float, Meta(ge=0, description="The same, as a share of the expected value: 0.1 is 10 %.")
    ] = 0.0
    normal_min: Annotated[
        float | None,
        Meta(description="Values from normal_min to normal_max never alert; open where left out."),
    ] = None
    normal_max: float | None = None
    allowed_min: Annotated[
        float | None, Meta(description="A value below it always alerts, warm-up or not, as critical.")
    ] = None
    allowed_max: Annotated[float | None, Meta(description="A value above it always alerts.")] = None
    alert_budget: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(description="As engine.alert_budget, for these series."),
    ] = None
    warm_up_samples: Annotated[
        Annotated[int, Meta(ge=8, le=100_000)] | None,
        Meta(description="As engine.warm_up_samples, for these series."),
    ] = None
    min_duration_samples: Annotated[
        int, Meta(ge=1, le=10_000, description="An anomaly is told once it has this many samples.")
    ] = 1
    timezone: Annotated[
        str, Meta(description="IANA name such as `Europe/Berlin`: the profile of the day is by this clock.")
    ] = "UTC"
    weekend: Annotated[
        list[Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]],
        Meta(description="Days off. Days off and holidays have a profile of their own."),
    ] = []
    country: Annotated[
        str,
        Meta(
            pattern=r"^([A-Z]{2}(-[A-Z0-9]{1,4})?)?$",
            description="Its public holidays are days off: `DE`, `DE-BY`, `US-CA`.",
        ),
    ] = ""
    holidays: Annotated[
        list[Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]],
        Meta(description="More days off, as `2026-12-24`."),
    ] = []
    silence: Annotated[
        bool, Meta(description="Tell when samples stop coming while other series of the partition go on.")
    ] = True
    flat: Annotated[bool, Meta(description="Tell when a lively series stands still.")] = True


class Engine(Section, frozen=True):
    """Detection: one configuration for every series."""

    detectors: list[DetectorConfig] = field(
        default_factory=lambda: [DetectorConfig(name="large"), DetectorConfig(name="rare")]
    )
    window: Annotated[
        int,
        Meta(ge=16, le=4096, description="Newest samples kept of each series, for windows and explanations."),
    ] = 96
    alert_budget: Annotated[
        float,
        Meta(gt=0, le=1000, description="False alarms per series per day that you are willing to read."),
    ] = 0.1
    warm_up_samples: Annotated[
        int, Meta(ge=8, le=100_000, description="No alert before a series has this many samples.")
    ] = 24
    level_half_life_samples: Annotated[
        float, Meta(gt=0, le=10_000, description="Half-life of the smoothing that turns score into level.")
    ] = 70.0
    close_after_samples: Annotated[
        int, Meta(ge=1, le=10_000, description="An anomaly closes after this many quiet samples.")
    ] = 4
    max_duration_samples: Annotated[
        int,
        Meta(ge=2, le=1_000_000, description="An anomaly this long is the new normal: it closes as a shift."),
    ] = 256
    update_every_samples: Annotated[
        int, Meta(ge=1, description="An open anomaly is told again at most this often.")
    ] = 64
    policies: Annotated[
        list[Policy], Meta(description="What holds for some series only; the first that matches counts.")
    ] = []
    seed: int = 1


class ClickHouse(Section, frozen=True):
    """Where scores and anomalies are stored."""

    enabled: bool = True
    dsn: Annotated[
        str, Meta(description="chdb:///path opens the embedded engine (one process only); wins over host.")
    ] = ""
    host: Text = "127.0.0.1"
    port: Port = 8123
    secure: bool = False
    username: str = "default"
    password: Annotated[str, Meta(description="Use ${ENV} or password_file.")] = ""
    database: Annotated[Text, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "tocsin"
    telemetry_ttl_days: Annotated[
        Positive, Meta(description="Days that samples are kept after they came, however old they are.")
    ] = 90
    anomalies_ttl_days: Annotated[Positive, Meta(description="The same for anomalies and incidents.")] = 730


class Sink(Section, frozen=True):
    """The process that writes to ClickHouse."""

    group_id: Name = "tocsin-sink"
    batch_interval_ms: Annotated[Ms, Meta(description="An insert at least this often while rows come.")] = (
        1000
    )
    max_batch_rows: Annotated[
        int, Meta(ge=1, le=900_000, description="Below a million: larger is not atomic.")
    ] = 200_000
    retry_max_ms: Annotated[Ms, Meta(description="Longest pause between tries while ClickHouse is away.")] = (
        15_000
    )
    session_timeout_ms: Annotated[
        Ms, Meta(description="A sink silent for this long loses its partitions.")
    ] = 30_000
    max_series: Annotated[
        Positive,
        Meta(description="Series remembered as written; beyond it all are forgotten, and written again."),
    ] = 1_000_000


class NotifyTarget(Section, frozen=True):
    """A receiver of notifications."""

    name: Annotated[Name, Meta(description="Its label in metrics and its name in the log.")]
    url: Annotated[str, Meta(pattern=r"^https?://", description="Of Alertmanager: .../api/v2/alerts.")]
    what: Annotated[
        Literal["anomalies", "incidents"],
        Meta(description="Each anomaly by itself, or those that belong together as one incident."),
    ] = "anomalies"
    kind: Annotated[
        Literal["webhook", "alertmanager"], Meta(description="Which of the shipped templates is posted.")
    ] = "webhook"
    template: Annotated[
        str, Meta(description="A file with a Jinja2 template that gives JSON, instead of the shipped one.")
    ] = ""
    headers: Annotated[dict[str, str], Meta(description="Sent along; secrets as ${ENV}.")] = {}
    min_severity: Literal["info", "warning", "critical"] = "info"
    updates: Annotated[bool, Meta(description="Send also what is told between open and close.")] = True


class Notify(Section, frozen=True):
    """The process that relays anomalies to webhooks and Alertmanager."""

    group_id: Name = "tocsin-notify"
    targets: Annotated[list[NotifyTarget], Meta(description="Each gets every event.")] = []
    start_from: Annotated[
        Literal["earliest", "latest"], Meta(description="Where a group without committed offsets begins.")
    ] = "latest"
    timeout_ms: Annotated[Ms, Meta(description="Of one request.")] = 10_000
    deadline_ms: Annotated[
        Ms,
        Meta(description="A message is tried for this long, then given up: a log line and a metric."),
    ] = 300_000
    retry_max_ms: Annotated[Ms, Meta(description="Longest pause between tries.")] = 15_000


class IncidentGroup(Section, frozen=True):
    """Series that belong together in a way of their own, such as the key metrics of a service."""

    name: Name
    group_by: Annotated[list[Text], Meta(min_length=1, description="Labels whose values must agree.")]
    metrics: Annotated[list[Text], Meta(min_length=1, description="Patterns as of file names.")] = field(
        default_factory=lambda: ["*"]
    )
    labels: Annotated[dict[str, str], Meta(description="Label to pattern; all must fit.")] = {}


class IncidentLink(Section, frozen=True):
    """Topology: series whose label has one of these values belong together."""

    values: Annotated[list[Text], Meta(min_length=2)]
    label: Text = "service"


class Incidents(Section, frozen=True):
    """Which anomalies become one incident: those that share labels and overlap in time."""

    group_by: Annotated[
        list[Text],
        Meta(description="Series with the same values of these labels; without one of them it stands alone."),
    ] = field(default_factory=lambda: ["service"])
    groups: Annotated[
        list[IncidentGroup], Meta(description="The first that selects a series wins over group_by.")
    ] = []
    links: Annotated[list[IncidentLink], Meta(description="Beyond that, what belongs together.")] = []
    join_within_ms: Annotated[
        Ms, Meta(description="An anomaly that begins this long after the end of an incident still joins it.")
    ] = 300_000
    quiet_ms: Annotated[
        Ms,
        Meta(
            description="An open anomaly counts as going on for this long after it was heard of; beyond, "
            "others do not join it. It is told again at least every engine.update_every_samples."
        ),
    ] = 21_600_000
    max_members: Annotated[
        int, Meta(ge=1, le=1000, description="Beyond it further anomalies begin another incident.")
    ] = 100
    group_id: Annotated[Name, Meta(description="Under it the offsets of the incident process are kept.")] = (
        "tocsin-incidents"
    )


class Changes(Section, frozen=True):
    """What a record of the topic of changes does."""

    mute_minutes: Annotated[
        int, Meta(ge=0, le=10_080, description="A change mutes its series this long; 0 mutes nothing.")
    ] = 15
    learn: Annotated[bool, Meta(description="Whether the models learn meanwhile.")] = True


class Metrics(Section, frozen=True):
    """The Prometheus endpoint of each process."""

    host: Text = "127.0.0.1"
    worker_port: Annotated[Port, Meta(description="0 takes any free port.")] = 9108
    sink_port: Port = 9109
    notify_port: Port = 9110
    max_open_anomalies: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Most open anomalies of a partition that have a series of their own, the strongest.",
        ),
    ] = 50
    max_open_incidents: Annotated[
        int, Meta(ge=0, le=10_000, description="The same for open incidents, of the coordinator.")
    ] = 50
    coordinator_port: Port = 9111
    trainer_port: Port = 9112


class Snapshots(Section, frozen=True):
    """Where the state of partitions is kept."""

    url: Annotated[Text, Meta(description="An fsspec URL: a folder or an object store.")] = (
        ".tocsin/snapshots"
    )
    every_ms: Annotated[
        Ms,
        Meta(description="Each partition writes one this often: what a crash has to repeat. 0 writes none."),
    ] = 60_000


class RefreshRule(Section, frozen=True):
    """Which series get which model, and when it is fitted anew. All times but the deadline are event time."""

    detector: Annotated[
        Text, Meta(description="A detector that is fitted, of engine.detectors; its params are there.")
    ]
    match: Annotated[
        Text, Meta(description='The series, as in a policy: `cpu{host=~"web.*"}`; `*` is every series.')
    ] = "*"
    refresh_every_ms: Annotated[int, Meta(ge=1000, description="Age at which a model is fitted anew.")] = (
        7 * 86_400_000
    )
    min_history_ms: Annotated[
        int, Meta(ge=1000, description="A series gets its first model when it has been seen for this long.")
    ] = 3 * 86_400_000
    history_ms: Annotated[
        int, Meta(ge=1000, description="The model is fitted on this much of the newest history.")
    ] = 28 * 86_400_000
    on_drift: Annotated[bool, Meta(description="Fit anew when the residual drifts.")] = True
    auto_adopt: Annotated[
        bool, Meta(description="Put a new model into use at once; else `tocsin artifacts adopt` does.")
    ] = True
    deadline_ms: Annotated[
        int, Meta(ge=100, le=86_400_000, description="A fit that takes longer is ended.")
    ] = 600_000


class Refresh(Section, frozen=True):
    """The timetable of the coordinator."""

    rules: list[RefreshRule] = []
    group_id: Name = "tocsin-coordinator"
    check_every_ms: Annotated[
        int, Meta(ge=50, le=3_600_000, description="The timetable is looked at this often.")
    ] = 1000
    backoff_ms: Annotated[
        int,
        Meta(ge=0, description="Event time until a failed fit is tried again; doubles with each failure."),
    ] = 3_600_000


class Trainer(Section, frozen=True):
    """The process that fits."""

    group_id: Name = "tocsin-trainer"
    processes: Annotated[int, Meta(ge=1, le=256, description="Fits at the same time.")] = 2
    memory_limit_bytes: Annotated[
        int, Meta(ge=64 * 1024 * 1024, description="A fit whose process grows beyond it is ended.")
    ] = 4 * 1024**3
    shadow_ms: Annotated[
        Ms, Meta(description="The newest history on which a new model is compared with the serving one.")
    ] = 7 * 86_400_000


class DataSource(Section, frozen=True):
    """A ClickHouse server that `/find` may read, besides the configured one."""

    host: Text
    port: Port = 8123
    secure: bool = False
    username: str = "default"
    password: Annotated[str, Meta(description="Use ${ENV}.")] = ""
    database: Annotated[Text, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "default"
    allow_private: Annotated[
        bool,
        Meta(description="Whether the host may have an address of a private network or of this machine."),
    ] = False


class Console(Section, frozen=True):
    """The HTTP API and the pages."""

    host: Annotated[Text, Meta(description="Beyond loopback a token is required.")] = "127.0.0.1"
    port: Port = 8000
    pages_port: Port = 8501
    api_url: Annotated[
        str, Meta(description="Where the pages reach the API, as http://console:8000; empty: host and port.")
    ] = ""
    token: Annotated[
        str, Meta(description="Bearer token of every request but health. Use ${ENV}; empty asks for none.")
    ] = ""
    allowed_origins: Annotated[
        list[str], Meta(description="Web origins whose pages may call the API (CORS); none by default.")
    ] = []
    data_sources: Annotated[
        list[DataSource], Meta(description="Servers that a request may name, besides clickhouse.host.")
    ] = []
    requests_per_minute: Annotated[
        Positive, Meta(description="Of one client; beyond it the answer is 429 with a time to wait.")
    ] = 600
    max_upload_bytes: Annotated[Positive, Meta(description="Of one request's body.")] = 32 * 1024 * 1024
    max_rows: Annotated[Positive, Meta(description="Rows that one query or file may have.")] = 200_000
    query_timeout_ms: Annotated[Ms, Meta(description="Time for a query of a request.")] = 30_000
    find_wait_ms: Annotated[
        Ms, Meta(description="`/find` answers at once when it takes no longer, else 202 with a job.")
    ] = 5_000
    find_deadline_ms: Annotated[Ms, Meta(description="A model that takes longer is given up.")] = 600_000
    cache_bytes: Annotated[Positive, Meta(description="Memory for results that may be asked again.")] = (
        256 * 1024 * 1024
    )


class Log(Section, frozen=True):
    """Log lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(Section, frozen=True):
    """The whole file."""

    kafka: Kafka = Kafka()
    inputs: Annotated[list[Input], Meta(min_length=1)] = field(default_factory=lambda: [Input()])
    topics: Topics = Topics()
    worker: Worker = Worker()
    admission: Admission = Admission()
    engine: Engine = field(default_factory=Engine)
    clickhouse: ClickHouse = ClickHouse()
    sink: Sink = Sink()
    incidents: Incidents = field(default_factory=Incidents)
    changes: Changes = Changes()
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    snapshots: Snapshots = Snapshots()
    refresh: Refresh = Refresh()
    trainer: Trainer = Trainer()
    console: Console = Console()
    log: Log = Log()
