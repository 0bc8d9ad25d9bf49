"""Dead letters: messages that could not be read, kept with the reason."""

from __future__ import annotations

import enum

import msgspec


class Reason(enum.StrEnum):
    """Why a message, or a part of it, was set aside; also the ``reason`` label of the metric."""

    EMPTY = "empty"  # no value (a tombstone)
    TOO_LARGE = "too_large"
    NOT_TEXT = "not_text"  # invalid UTF-8
    NOT_PARSED = "not_parsed"  # invalid JSON, MessagePack or TSV
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"  # null, text or an object where a number belongs
    NOT_FINITE = "not_finite"  # infinity, or a number beyond float64
    BAD_TIMESTAMP = "bad_timestamp"
    TOO_FAR_AHEAD = "too_far_ahead"  # further in the future than admission.max_future_ms
    TOO_LATE = "too_late"  # a timeslice row of a minute that has been told already
    BAD_SERIES = "bad_series"  # no name, too long, or labels that do not parse
    BAD_SHAPE = "bad_shape"  # arrays of unequal length, an index out of range
    BAD_VERSION = "bad_version"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One record of `tocsin.deadletters`, MessagePack; keyed by ``topic/partition/offset``.

    ``position`` is the sample's place in a message of many, null when the whole message is meant. ``raw`` is
    the message as it came, or the part at ``position`` (of a columnar batch, that sample as JSON); beyond
    8 MiB it is cut, and ``error`` says so. It is written in the transaction that commits the offset past the
    message, so each one is there exactly once.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  # Kafka's timestamp of the message
    reason: Reason
    error: str
    raw: bytes
    key: bytes | None = None
    position: int | None = None
