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


class ProblemDetails(BaseModel):
    """Why there is no answer (RFC 9457); ``detail`` says what to do."""

    type: str
    title: str
    status: int
    detail: str


class Point(BaseModel):
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


class PointsFound(BaseModel):
    kind: Literal["points"] = "points"
    points: list[Point]


class IntervalsFound(BaseModel):
    kind: Literal["intervals"] = "intervals"
    intervals: list[Interval]


class Failed(BaseModel):
    kind: Literal["error"] = "error"
    error: str = Field(description="Why this model gave nothing, and what to do.")


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


class Sample(BaseModel):
    timestamp: Moment
    value: float | None
    score: float | None
    level: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    state: str
    anomaly: bool


class Window(BaseModel):
    series: str
    start: Moment
    end: Moment
    samples: list[Sample]
    total: int = Field(description="Samples in the range; more than are listed when it was thinned out.")


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
