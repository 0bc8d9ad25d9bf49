"""What is let in: limits that hold for every format, and the letters about what is not.

Decisions depend on the message and Kafka's timestamp of it, never on a clock: a replay decides the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from schemas import config
from schemas.deadletter import DeadLetter, Reason
from stream.kafka import Record

MAX_TS_MS: Final = 253_402_300_799_999  # the end of the year 9999
MAX_RAW_BYTES: Final = 8 * 1024 * 1024
"""Of a message in a dead letter: a longer one would not fit into the topic's largest message."""


class RejectedError(Exception):
    """A message, or a part of it, that cannot be read; becomes a dead letter."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(error)
        self.reason = reason


class Admission:
    """The limits of section ``admission`` that formats apply."""

    def __init__(self, limits: config.Admission) -> None:
        self._max_future_ms = limits.max_future_ms
        self._max_message_bytes = limits.max_message_bytes

    def screen(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[DeadLetter]]:
        """Set aside what no format can read: messages without a value, and too large ones."""
        limit = self._max_message_bytes
        good = [r for r in records if r.value and len(r.value) <= limit]
        if len(good) == len(records):
            return records, []
        return good, [self._screened(r) for r in records if not r.value or len(r.value) > limit]

    def latest_ms(self, record: Record) -> int:
        """The newest time that a sample in this message may have."""
        if record.timestamp < 0:  # a message without a timestamp
            return MAX_TS_MS
        return min(record.timestamp + self._max_future_ms, MAX_TS_MS)

    def _screened(self, record: Record) -> DeadLetter:
        if not record.value:
            return dead_letter(record, Reason.EMPTY, "the message has no value")
        error = f"{len(record.value)} bytes; admission.max_message_bytes is {self._max_message_bytes}"
        return dead_letter(record, Reason.TOO_LARGE, error)


def dead_letter(
    record: Record, reason: Reason, error: str, position: int | None = None, part: bytes | None = None
) -> DeadLetter:
    """The letter about a message, or about the ``part`` at ``position`` of a message of many."""
    raw = (record.value or b"") if part is None else part
    if len(raw) > MAX_RAW_BYTES:
        raw = raw[:MAX_RAW_BYTES]
        error = f"{error} (only the first {MAX_RAW_BYTES} bytes are kept here)"
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        reason=reason,
        error=error,
        raw=raw,
        key=record.key,
        position=position,
    )


def check_ts(ts_ms: int, latest_ms: int) -> None:
    """Raise `RejectedError` for a time outside of what a sample may have."""
    if not 0 <= ts_ms <= MAX_TS_MS:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{ts_ms} ms is not between 1970 and 9999")
    if ts_ms > latest_ms:
        ahead = math.ceil((ts_ms - latest_ms) / 1000)
        raise RejectedError(
            Reason.TOO_FAR_AHEAD, f"{ahead} s beyond admission.max_future_ms after Kafka's timestamp"
        )


class Breaker:
    """Trips when, over a whole window, more than a share of what came in went to the dead letters.

    It keeps a topic from being drained into `tocsin.deadletters` after a change of schema. Time is an
    argument (seconds, monotonic). Once tripped it stays so.
    """

    def __init__(self, ratio: float, window_s: float, at_least: int = 100) -> None:
        self._ratio = ratio
        self._window_s = window_s
        self._at_least = at_least
        self._counts: deque[tuple[float, int, int]] = deque()
        self._since: float | None = None
        self.tripped = False

    def record(self, now_s: float, total: int, dead: int) -> bool:
        """Count a batch; True when the breaker is, or now becomes, tripped."""
        if self._since is None:
            self._since = now_s
        self._counts.append((now_s, total, dead))
        while self._counts[0][0] < now_s - self._window_s:
            self._counts.popleft()
        seen = sum(t for _, t, _ in self._counts)
        bad = sum(d for _, _, d in self._counts)
        whole = now_s - self._since >= self._window_s
        if whole and seen >= self._at_least and bad > self._ratio * seen:
            self.tripped = True
        return self.tripped
