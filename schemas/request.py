"""Work for trainers: the records of `tocsin.requests`, and the answers on `tocsin.results` (MessagePack).

A request is done once for each ``request_id``: a trainer that is killed leaves it to the next one, and what
it had published already is published again under the same id, which changes nothing.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from schemas.find import FindTask, Found


class Trigger(enum.StrEnum):
    """Why a refit is asked for."""

    HISTORY = "history"  # a series has enough of it for its first fit
    AGE = "age"
    DRIFT = "drift"
    LABEL = "label"
    PERSON = "person"


class Failure(enum.StrEnum):
    """Why there is no new artifact; the ``reason`` label of the metric. The one that serves stays."""

    RAISED = "raised"
    DEADLINE = "deadline"
    MEMORY = "memory"
    DIED = "died"  # the process of the fit ended by itself
    TOO_LITTLE = "too_little_history"
    CONSTANT = "constant"
    NOT_FINITE = "not_finite"
    TOO_LARGE = "too_large"  # for a message
    UNAVAILABLE = "unavailable"  # the history or the artifact store cannot be read
    IMPOSSIBLE = "impossible"  # what was asked for cannot be done; the text says what to change
    CANCELLED = "cancelled"


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="request"):
    """``reply_to`` is the topic of the answer, ``tocsin.results`` where it is empty."""

    request_id: str
    reply_to: str = ""


class Refit(_Request, frozen=True, tag="refit"):
    """Fit a detector on the history of a series, ``[from_ms, until_ms)`` in Unix milliseconds.

    ``serving`` is the id of the artifact in use, for the shadow report; ``adopt`` puts the new one into use.
    """

    detector: str
    series: str
    from_ms: int
    until_ms: int
    trigger: Trigger
    adopt: bool
    serving: str = ""
    deadline_ms: Annotated[int, msgspec.Meta(ge=1)] = 600_000


class Find(_Request, frozen=True, tag="find"):
    """What does a model find in these samples? Answered by `FoundOut` or `NotFound`."""

    task: FindTask
    deadline_ms: Annotated[int, msgspec.Meta(ge=1)] = 600_000


class Cancel(_Request, frozen=True, tag="cancel"):
    """Give up the request with this id, if it has not been answered."""


Request = Refit | Find | Cancel


class _Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer"):
    request_id: str


class Fitted(_Answer, frozen=True, tag="fitted"):
    """The refit is done and its artifact is on `tocsin.artifacts`."""

    detector: str
    series: str
    artifact_id: str
    adopt: bool
    trained_to_ms: int
    seconds: float


class Failed(_Answer, frozen=True, tag="failed"):
    """There is no artifact."""

    detector: str
    series: str
    reason: Failure
    text: str


class FoundOut(_Answer, frozen=True, tag="found"):
    """What a model has found."""

    found: Found


class NotFound(_Answer, frozen=True, tag="not_found"):
    """The model gave nothing; ``text`` is a sentence for who asked."""

    reason: Failure
    text: str


class Progress(_Answer, frozen=True, tag="progress"):
    """A trainer has begun; ``trainer`` names it."""

    trainer: str


Answer = Fitted | Failed | FoundOut | NotFound | Progress
