"""The journal: all that changes scores and is not in the input, with the offset at which it took effect.

Each entry is written in the transaction that first commits at or beyond ``next_offset``, to the partition of
`tocsin.journal` with the number of the input's, keyed by the input's topic. A replay applies it before the
message at ``next_offset``.
"""

from __future__ import annotations

import msgspec

from schemas.control import Mute, Verdict


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry"):
    topic: str
    partition: int
    next_offset: int


class Began(_Entry, frozen=True, tag="began"):
    """The engine's state began anew: a first start, another configuration, or history that is gone.

    The state at any later offset is a function of the configuration and the messages from ``learned_from``
    on. ``lineage`` names this beginning; only its snapshots can be used after it. ``reason`` is for people.
    """

    config_hash: str
    lineage: str
    learned_from: int
    reason: str


class Adopted(_Entry, frozen=True, tag="adopted"):
    """A fitted model came into use for a series."""

    series: str
    detector: str
    artifact: str


class Muted(_Entry, frozen=True, tag="muted"):
    """A mute came into force, or replaced the one with its id; null lifts it."""

    mute_id: str
    mute: Mute | None


class Labelled(_Entry, frozen=True, tag="labelled"):
    """A person's verdict on an anomaly, for what may be told again."""

    anomaly_id: str
    series: str
    verdict: Verdict


Entry = Began | Adopted | Muted | Labelled
