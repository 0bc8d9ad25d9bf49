"""What the API takes and gives, as its OpenAPI page shows it. Times are ISO 8601 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from stream.formats.timestamps import iso

T = TypeVar("T")


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Utc = Annotated[datetime, AfterValidator(_utc)]
"""A time of a request or of a table; one that names no zone is UTC."""

Moment = Annotated[Utc, PlainSerializer(iso, return_type=str)]


class Closed(BaseModel):
    """An unknown field is an error, so that a typo is not taken for a default."""

    model_config = ConfigDict(extra="forbid")


class DataSource(Closed):
    """Where the samples are read; without it, the telemetry table of Tocsin."""

    host: str | None = Field(
        None, min_length=1, max_length=253, description="Must be allowed by the configuration."
    )
    port: int | None = Field(None, ge=1, le=65_535)
    query: str | None = Field(
        None,
        min_length=1,
        max_length=100_000,
        description="A SELECT with one time column and columns of numbers, run read-only.",
        examples=["SELECT ts AS timestamp, value FROM telemetry_dedup WHERE ..."],
    )
    series: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="The series that the rows are of, as GET /series has it: its model in use judges them.",
    )


class Queried(BaseModel):
    """Columns of equal length."""

    ts_ms: list[int] = Field(description="Unix time in milliseconds, rising.")
    columns: dict[str, list[float | None]] = Field(description="null where a row has no number.")


class FindRequest(Closed):
    """Which anomalies do these models find?"""

    models: list[str] = Field(
        min_length=1,
        max_length=12,
        description="Autoencoder, Isolation Forest, Prophet, Multidimensional, or names of GET /models.",
        examples=[["Autoencoder", "Isolation Forest", "Prophet"]],
    )
    column_name: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="The column, or of the telemetry table the metric or series; may be left out where there "
        "is one.",
        examples=["web_response"],
    )
    data_source: DataSource | None = None
    start: Utc | None = Field(None, description="First time; all without it.")
    end: Utc | None = Field(None, description="The time after the last one.")
    parameters: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Parameters by model, as GET /models lists them."
    )
    refit: bool = Field(
        False,
        description="Fit models on these samples, though one is in use for the series; so are those with "
        "parameters other than alert_budget.",
    )


class ProblemDetails(BaseModel):
    """Why there is no answer (RFC 9457); ``detail`` says what to do."""

    type: str
    title: str
    status: int
    detail: str


class Point(BaseModel):
    """A model of several columns has no ``value``; where the score is unusual, ``contribution.COLUMN`` is the
    share of each column in it.
    """

    timestamp: Moment
    value: float | None
    score: float | None = Field(description="1.0 is the alert threshold; null while warming up.")
    expected: float | None
    lower: float | None
    upper: float | None
    anomaly: bool
    level: float | None = Field(description="The score smoothed, for ranking and dashboards.")


class Interval(BaseModel):
    start: Moment
    end: Moment
    severity: float = Field(description="Mean score of the interval; 1.0 is the threshold.")


ArtifactId = Annotated[
    str | None,
    Field(
        description="The model in use for the series (GET /artifacts) that has judged; null where one was "
        "fitted on these samples, or the detector learns as it goes."
    ),
]


class PointsFound(BaseModel):
    kind: Literal["points"] = "points"
    artifact: ArtifactId
    points: list[Point]


class ColumnsFound(BaseModel):
    """The same as lists of equal length by column, with ``ts_ms`` (Unix milliseconds) for the timestamps."""

    kind: Literal["columns"] = "columns"
    artifact: ArtifactId
    columns: dict[str, list[float | bool | None]]


class IntervalsFound(BaseModel):
    kind: Literal["intervals"] = "intervals"
    artifact: ArtifactId
    intervals: list[Interval]


class Failed(BaseModel):
    kind: Literal["error"] = "error"
    error: str = Field(description="Why this model gave nothing, and what to do.")


Answer = PointsFound | ColumnsFound | IntervalsFound | Failed


class ModelProgress(BaseModel):
    status: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: float = Field(ge=0, le=1, description="Share of the work that is done.")


class Models(BaseModel):
    """Names of models; those that take many look at all columns of a question at once."""

    models: list[str]
    takes_many: list[str]


class Job(BaseModel):
    """A question that is being worked on; ask again at its address."""

    job_id: str
    status: Literal["running", "done", "cancelled"]
    models: dict[str, ModelProgress]


class Page(BaseModel, Generic[T]):
    """``next`` is the cursor of the following page, null on the last."""

    items: list[T]
    next: str | None


class SeriesItem(BaseModel):
    id: str = Field(description="xxHash64 of the series' text, as 16 hexadecimal digits.")
    series: str
    metric: str
    labels: dict[str, str]
    first_seen: Moment
    last_seen: Moment


class Columns(BaseModel):
    """Of the fields that were asked for, one entry for each sample; null where there is nothing."""

    timestamp: list[Moment] = []
    ts_ms: list[int] = Field([], description="The times in Unix milliseconds, for programs.")
    value: list[float | None] = []
    score: list[float | None] = []
    level: list[float | None] = []
    expected: list[float | None] = []
    lower: list[float | None] = []
    upper: list[float | None] = []
    state: list[str] = []
    anomaly: list[bool] = []


class Window(BaseModel):
    series: str
    start: Moment
    end: Moment
    total: int = Field(description="Samples in the range; more than are listed when it was thinned out.")
    columns: Columns


class Anomaly(BaseModel):
    """The newest revision of an anomaly; see the JSON Schema of anomaly events."""

    anomaly_id: str
    revision: int
    status: str
    series: str
    metric: str
    labels: dict[str, str]
    kind: str
    severity: str
    direction: str
    score: float
    peak_score: float
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    started: Moment
    detected: Moment
    ended: Moment | None
    samples: int
    detectors: list[dict[str, Any]]
    reason: str
    muted_by: str | None


class Member(BaseModel):
    """An anomaly of an incident."""

    anomaly_id: str
    series: str
    metric: str
    kind: str
    severity: str
    direction: str
    peak_score: float
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    started: Moment
    ended: Moment | None
    reason: str


class Incident(BaseModel):
    """The newest revision of an incident; its first member is the likely root."""

    incident_id: str
    revision: int
    status: str
    group: str
    labels: dict[str, str]
    severity: str
    peak_score: float
    started: Moment
    ended: Moment | None
    title: str
    reason: str
    series: int
    members: list[Member]


class Label(BaseModel):
    """A person's verdict on an anomaly."""

    anomaly_id: str
    at: Moment
    series: str
    verdict: Literal["true", "false", "expected"]
    started: Moment
    ended: Moment | None
    detectors: list[str]
    policy: str
    by: str
    why: str


class LabelRequest(Closed):
    anomaly_id: str = Field(min_length=1, max_length=200)
    verdict: Literal["true", "false", "expected"] = Field(
        description="true: it was one; false: nothing was wrong; expected: it was, and known."
    )
    by: str = Field("", max_length=200)
    why: str = Field("", max_length=1000)


class LabelPreview(BaseModel):
    """``kept_back`` of the ``past`` anomalies of a month would not have been told."""

    lines: list[str]
    past: int
    kept_back: int


class MuteRequest(Closed):
    matcher: str = Field(min_length=1, max_length=1000, examples=['cpu{host=~"web.*"}'])
    start: Utc | None = Field(None, description="Now, without it.")
    end: Utc | None = Field(None, description="Until it is lifted, without it.")
    repeat: str = Field("", max_length=500, description="RFC 5545: FREQ=WEEKLY;BYDAY=SU.")
    timezone: str = Field("UTC", max_length=100, description="Of repetitions.")
    learn: bool = Field(True, description="Whether the models learn meanwhile.")
    mute_id: str | None = Field(
        None, min_length=1, max_length=200, description="Replaces the mute of this id."
    )
    by: str = Field("", max_length=200)
    why: str = Field("", max_length=1000)


MuteState = Literal["holds", "planned", "over", "lifted"]


class Mute(BaseModel):
    mute_id: str
    matcher: str
    state: MuteState
    start: Moment
    end: Moment | None
    repeat: str
    timezone: str
    learn: bool
    origin: str
    by: str
    why: str


class Artifact(BaseModel):
    """A fitted model; ``report`` compares it with the one that served then."""

    artifact_id: str
    detector: str
    series: str
    serving: bool
    trained_from: Moment
    trained_to: Moment
    size: int = Field(description="Bytes.")
    params: dict[str, Any]
    report: dict[str, Any]


class Rollback(Closed):
    detector: str = Field(min_length=1, max_length=200)
    series: str = Field(min_length=1, max_length=1024)
