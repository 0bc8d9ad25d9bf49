"""Commands of people and programs: the records of `tocsin.control` and `tocsin.changes`, as JSON.

Every command has an id, and the second one with the same id changes nothing. `tocsin.control` is keyed by
``mute_id`` or ``anomaly_id`` or series, so that what concerns one thing stays in order.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Verdict = Literal["true", "false", "expected"]


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="command"):
    command_id: Text
    at_ms: int
    by: str = ""
    why: str = ""


class Mute(_Command, frozen=True, tag="mute"):
    """Anomalies of the series that ``matcher`` selects are written with ``muted_by`` and not sent.

    It holds in ``[start_ms, end_ms)`` of event time and, with ``repeat`` (an RFC 5545 recurrence rule, such
    as ``FREQ=WEEKLY;BYDAY=SU``), for as long at each repetition, whose local time is that of ``timezone``.
    ``except_ms`` are starts of repetitions left out. ``end_ms`` null holds until an `Unmute`. With ``learn``
    false the models do not learn meanwhile. ``origin`` says who made it: a person, a calendar, a change.
    A second command with the same ``mute_id`` replaces the first.
    """

    mute_id: Text
    matcher: Text
    start_ms: int
    end_ms: int | None
    repeat: str = ""
    except_ms: list[int] = []
    timezone: str = "UTC"
    learn: bool = True
    origin: str = "person"


class Unmute(_Command, frozen=True, tag="unmute"):
    """The mute ends now, with all its repetitions."""

    mute_id: Text


class Label(_Command, frozen=True, tag="label"):
    """A verdict on an anomaly: ``true``, ``false`` (nothing was wrong), ``expected`` (it was, and known).

    What was in force then, for the precision of each detector: ``detectors`` that spoke and the ``policy``.
    """

    anomaly_id: Text
    series: Text
    verdict: Verdict
    started_ms: int
    ended_ms: int | None = None
    detectors: list[str] = []
    policy: str = ""


class Refresh(_Command, frozen=True, tag="refresh"):
    """Ask for a new fit of a batch detector; ``series`` is a matcher, ``detector`` empty means all."""

    series: Text
    detector: str = ""


Command = Mute | Unmute | Label | Refresh


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `tocsin.changes`: something was done to a service, for example a deployment.

    It mutes the series with these ``labels`` for ``mute_minutes`` from ``at_ms``; null takes the minutes of
    the configuration, 0 mutes nothing. ``kind``, ``title`` and ``url`` are for people.
    """

    change_id: Text
    at_ms: int
    labels: Annotated[dict[str, str], Meta(min_length=1)]
    kind: str = "deploy"
    title: str = ""
    by: str = ""
    url: str = ""
    mute_minutes: Annotated[int, Meta(ge=0, le=10_080)] | None = None
