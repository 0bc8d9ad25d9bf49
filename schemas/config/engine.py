"""Detection: detectors, budgets, and what holds for some series only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from schemas.config.base import Ms, Section, Text


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


class Group(Section, frozen=True):
    """Series that one detector judges together, such as all metrics of a service.

    It speaks once it has a model: see `refresh.rules`. Its members must be in one partition, at least more
    than half of them: see docs/refresh.md.
    """

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_][A-Za-z0-9_.:]*$",
            description='The metric of the group\'s anomalies, as in `service{service="shop"}`.',
        ),
    ]
    group_by: Annotated[list[Text], Meta(min_length=1, description="Labels whose values members share.")]
    match: Annotated[Text, Meta(description="The series that may be members, as in a policy.")] = "*"
    detector: Annotated[Text, Meta(description="A detector of many channels.")] = "multidimensional"
    params: Annotated[dict[str, Any], Meta(description="Parameters of the detector.")] = {}
    interval_ms: Annotated[
        int, Meta(ge=1000, le=86_400_000, description="A moment of the group: the mean of each member in it.")
    ] = 60_000
    wait_ms: Annotated[
        Ms,
        Meta(description="A moment waits this long for missing members; at most eight times interval_ms."),
    ] = 60_000


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
    siblings: Annotated[
        bool,
        Meta(
            description="Judge a new series by the scale of others of its metric until it has its own. A "
            "policy with warm_up_samples does not."
        ),
    ] = True


class Engine(Section, frozen=True):
    """Detection: one configuration for every series."""

    detectors: list[DetectorConfig] = field(
        default_factory=lambda: [DetectorConfig(name="large"), DetectorConfig(name="rare")]
    )
    groups: Annotated[
        list[Group], Meta(description="Series that are judged together, beside each alone.")
    ] = []
    window: Annotated[
        int,
        Meta(
            ge=16,
            le=4096,
            description="Newest times kept of each series: among them a late sample is known as a duplicate.",
        ),
    ] = 96
    alert_budget: Annotated[
        float,
        Meta(gt=0, le=1000, description="False alarms per series per day that you are willing to read."),
    ] = 0.1
    warm_up_samples: Annotated[
        int,
        Meta(
            ge=8,
            le=100_000,
            description="No alert before a series has this many samples, or siblings that lend theirs.",
        ),
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
