"""When models are fitted anew, and by what."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from schemas.config.base import Ms, Name, Section, Text


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
    drift: Annotated[
        Literal["adwin", "page_hinkley"],
        Meta(
            description="What finds a drift, of river: ADWIN, or Page-Hinkley, which finds a change of the "
            "mean somewhat sooner, is blind to spikes and takes a hundredth of the time."
        ),
    ] = "adwin"
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
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Refits asked for and not answered: what else is due waits in the timetable, so that "
            "a question of `/find` is never far behind. Raise it where trainers run out of work.",
        ),
    ] = 256
    backoff_ms: Annotated[
        int,
        Meta(ge=0, description="Event time until a failed fit is tried again; doubles with each failure."),
    ] = 3_600_000


class Trainer(Section, frozen=True):
    """The process that fits."""

    group_id: Name = "tocsin-trainer"
    processes: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Fits at the same time; where there are several, refits leave one to questions.",
        ),
    ] = 2
    stack: Annotated[
        int,
        Meta(ge=1, le=4096, description="Most series that one process fits together, where a detector can."),
    ] = 16
    memory_limit_bytes: Annotated[
        int,
        Meta(ge=64 * 1024 * 1024, description="A fit that grows beyond it with its children is ended."),
    ] = 4 * 1024**3
    shadow_ms: Annotated[
        Ms, Meta(description="The newest history on which a new model is compared with the serving one.")
    ] = 7 * 86_400_000
