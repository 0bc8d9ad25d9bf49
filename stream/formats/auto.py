"""The format of each message by its first byte, for topics with more than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Self

from numpy.typing import NDArray

from stream.formats.columnar import Columnar
from stream.formats.json_point import JsonPoint
from stream.formats.protocol import Decoded, Format, concat
from stream.formats.timeslice import Timeslice
from stream.kafka import Record
from stream.worker.admission import Admission


class Auto:
    """``{`` or ``[`` is JSON points, a MessagePack map is columnar, all else timeslice rows as TSV.

    Options are those of the timeslice format.
    """

    def __init__(self, timeslice: Timeslice, admission: Admission) -> None:
        self._timeslice = timeslice
        self._json = JsonPoint.create({}, admission)
        self._columnar = Columnar.create({}, admission)

    @classmethod
    def create(cls, options: Mapping[str, Any], admission: Admission) -> Self:
        return cls(Timeslice.create(options, admission), admission)

    def decode(self, records: Sequence[Record]) -> Decoded:
        # Runs of one format at a time: the order of samples is that of the messages.
        runs = [found.decode(list(run)) for found, run in groupby(records, key=self._choose)]
        return Decoded(concat([run.samples for run in runs]), [letter for run in runs for letter in run.dead])

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        return self._timeslice.snapshot()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._timeslice.restore(state)

    def _choose(self, record: Record) -> Format:
        value = record.value or b""
        first = value[0] if value else 0
        if first in b" \t\r\n":
            first = (value[:64].lstrip() or b"\0")[0]
        if first in b"{[":
            return self._json
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            return self._columnar
        return self._timeslice
