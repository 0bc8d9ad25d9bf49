"""APM metric timeslices: rows of many agents and minutes, aggregated to four series of each application.

The rows come as TSV without a header (the columns of `COLUMNS`) or as JSON objects, one or many in a
message. Per application and minute, of rows with an empty scope:

- ``web_response`` = sum(total_call_time) / sum(call_count) of ``HttpDispatcher``, seconds per request
- ``throughput`` = sum(call_count) of ``HttpDispatcher``, requests per minute
- ``apdex`` = (s + t/2) / (s + t + f) of ``Apdex``, where s, t, f are the sums of call_count,
  total_call_time, total_exclusive_time
- ``error`` = sum(call_count) of ``Errors/allWeb`` / sum(call_count) of ``HttpDispatcher``

A minute is told when the partition has shown a row that is ``wait_ms`` later than the end of that minute;
rows that come after that are dead letters (`Reason.TOO_LATE`), for they would change what was told. Key the
messages by ``app_name``, so that the agents of an application meet in one partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.deadletter import DeadLetter, Reason
from stream.formats.names import canonical
from stream.formats.protocol import Collector, Decoded
from stream.formats.timeslice_rows import APDEX, ERRORS, HTTP, Row, RowReader
from stream.kafka import Record
from stream.worker.admission import Admission, RejectedError, dead_letter

MINUTE_MS: Final = 60_000
DEFAULT_WAIT_MS: Final = 60_000

# Places in the sums of an application's minute.
REQUESTS, SECONDS, DISPATCHED, ERRORED, SATISFIED, TOLERATED, FRUSTRATED = range(7)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the format."""

    wait_ms: int = DEFAULT_WAIT_MS  # how long a minute waits for agents that are late


class Timeslice:
    """Keeps the open minutes of the partition: about 200 bytes for each application and minute."""

    def __init__(self, wait_ms: int, admission: Admission) -> None:
        self._wait_ms = wait_ms
        self._admission = admission
        self._rows = RowReader()
        self._open: dict[int, dict[str, list[float]]] = {}
        self._closed_ms = -1  # start of the newest minute that has been told
        self._newest_ms = -1  # start of the newest minute seen

    @classmethod
    def create(cls, options: Mapping[str, Any], admission: Admission) -> Self:
        try:
            found = msgspec.convert(dict(options), Options)
        except msgspec.ValidationError as error:
            raise ValueError(f"options of the format timeslice: {error}") from None
        if found.wait_ms < 0:
            raise ValueError("options of the format timeslice: wait_ms is negative")
        return cls(found.wait_ms, admission)

    def decode(self, records: Sequence[Record]) -> Decoded:
        out, dead = Collector(), list[DeadLetter]()
        for record in records:
            self._message(record, dead)
            # After each message and not at the end: batches may be cut anywhere.
            self._close_minutes(out)
        return Decoded(out.samples(), dead)

    def _message(self, record: Record, dead: list[DeadLetter]) -> None:
        try:
            parts = self._rows.split(record.value or b"")
        except RejectedError as error:
            dead.append(dead_letter(record, error.reason, str(error)))
            return
        latest_ms = self._admission.latest_ms(record)
        for position, part in enumerate(parts):
            try:
                self._add(self._rows.read(part, latest_ms))
            except RejectedError as error:  # one bad row must not harm the others
                place = (position, part) if len(parts) > 1 else (None, None)
                dead.append(dead_letter(record, error.reason, str(error), *place))

    def _add(self, row: Row) -> None:
        minute_ms = row.ts_ms - row.ts_ms % MINUTE_MS
        if minute_ms <= self._closed_ms:
            raise RejectedError(Reason.TOO_LATE, f"the minute {minute_ms} has been told already")
        self._newest_ms = max(self._newest_ms, minute_ms)
        if not row.counts:
            return
        sums = self._open.setdefault(minute_ms, {}).setdefault(row.app_name, [0.0] * 7)
        if row.name == HTTP:
            sums[REQUESTS] += row.call_count
            sums[SECONDS] += row.total_call_time
            sums[DISPATCHED] = 1.0
        elif row.name == ERRORS:
            sums[ERRORED] += row.call_count
        elif row.name == APDEX:
            sums[SATISFIED] += row.call_count
            sums[TOLERATED] += row.total_call_time
            sums[FRUSTRATED] += row.total_exclusive_time

    def _close_minutes(self, out: Collector) -> None:
        last_ms = self._newest_ms - MINUTE_MS - self._wait_ms
        if last_ms <= self._closed_ms:
            return
        for minute_ms in sorted(m for m in self._open if m <= last_ms):
            for app_name, sums in sorted(self._open.pop(minute_ms).items()):
                _tell(app_name, minute_ms, sums, out)
        self._closed_ms = last_ms - last_ms % MINUTE_MS

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        rows = [(m, app, sums) for m, apps in self._open.items() for app, sums in apps.items()]
        texts = msgspec.json.encode([app for _, app, _ in rows])
        return {
            "times": np.array([self._closed_ms, self._newest_ms], np.int64),
            "minutes": np.array([m for m, _, _ in rows], np.int64),
            "apps": np.frombuffer(texts, np.uint8).copy(),
            "sums": np.array([sums for _, _, sums in rows], np.float64).reshape(-1, 7),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._closed_ms, self._newest_ms = map(int, state["times"])
        apps = msgspec.json.decode(state["apps"].tobytes(), type=list[str])
        self._open = {}
        for minute, app, sums in zip(state["minutes"].tolist(), apps, state["sums"].tolist(), strict=True):
            self._open.setdefault(minute, {})[app] = sums


def _tell(app_name: str, minute_ms: int, sums: list[float], out: Collector) -> None:
    """Add the values of one application's minute; a value that has no meaning is left out."""
    labels = {"service": app_name}
    requests = sums[REQUESTS]
    if requests > 0:
        out.add(canonical("web_response", labels), minute_ms, sums[SECONDS] / requests)
    if sums[DISPATCHED]:
        out.add(canonical("throughput", labels), minute_ms, requests)
    marks = sums[SATISFIED] + sums[TOLERATED] + sums[FRUSTRATED]
    if marks > 0:
        out.add(canonical("apdex", labels), minute_ms, (sums[SATISFIED] + sums[TOLERATED] / 2) / marks)
    if requests > 0:
        out.add(canonical("error", labels), minute_ms, sums[ERRORED] / requests)
