"""What was done to the fleet and what came of it: the table of the fault suite."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from schemas.event import AnomalyEvent
from schemas.journal import Adopted, Began
from stream.kafka import Record, TopicPartition
from stream.refresh import artifacts
from stream.worker import journal
from stream.worker.pipeline import Pipeline
from tests.faults.fleet import START_MS, STEP_MS
from tests.integration.conftest import Kit, ScoreRow, _unpack

COLUMNS = ("injected", "events", "scores", "lost", "doubled", "median s", "worst s")


Dated = tuple[object, int]
"""An event or a score, and the time of the sample with which it (the anomaly) began, in milliseconds."""


@dataclass
class Line:
    """One fault: seconds to recover of each injection, and what was compared of the telemetry sent from then
    until the next fault. A wrong score is lost (the right one) and doubled (its own)."""

    seconds: list[float] = field(default_factory=list)
    events: int = 0
    scores: int = 0
    lost: int = 0
    doubled: int = 0

    def __str__(self) -> str:
        told = [len(self.seconds), self.events, self.scores, self.lost, self.doubled]
        times_s = (median(self.seconds), max(self.seconds)) if self.seconds else (0.0, 0.0)
        return "".join(f"{each:>9}" for each in told) + "".join(f"{each:>10.1f}" for each in times_s)


class Ledger:
    """Lines by name of the fault."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.aborted = self.lost_replies = 0
        self._begins: list[tuple[int, str]] = []  # row of the telemetry, fault

    def injected(self, name: str, row: int, seconds: float) -> None:
        self.lines.setdefault(name, Line()).seconds.append(seconds)
        self._begins.append((row, name))

    def compared(
        self, kind: str, want: Iterable[tuple[object, int]], got: Iterable[tuple[object, int]]
    ) -> None:
        """Things with the time of their sample: all that should be there, and all that is."""
        wanted, found = Counter(want), Counter(got)
        for part, counts in ((kind, wanted), ("lost", wanted - found), ("doubled", found - wanted)):
            for (_, ts_ms), count in counts.items():
                line = self.lines.setdefault(self._during(ts_ms), Line())
                setattr(line, part, getattr(line, part) + count)

    def _during(self, ts_ms: int) -> str:
        at = bisect_right(self._begins, (ts_ms - START_MS) // STEP_MS, key=lambda begin: begin[0])
        return self._begins[at - 1][1] if at else "before the first"

    def add(self, other: Ledger) -> None:
        for name, line in other.lines.items():
            mine = self.lines.setdefault(name, Line())
            for part in ("seconds", "events", "scores", "lost", "doubled"):
                setattr(mine, part, getattr(mine, part) + getattr(line, part))
        self.aborted += other.aborted
        self.lost_replies += other.lost_replies

    @property
    def events(self) -> int:
        return self._sum().events

    @property
    def wrong(self) -> dict[str, Line]:
        return {name: line for name, line in self.lines.items() if line.lost or line.doubled}

    def _sum(self) -> Line:
        lines = self.lines.values()
        return Line(
            [each for line in lines for each in line.seconds],
            *(sum(getattr(line, part) for line in lines) for part in ("events", "scores", "lost", "doubled")),
        )

    def __str__(self) -> str:
        head = "".join(f"{name:>9}" for name in COLUMNS[:5]) + "".join(f"{name:>10}" for name in COLUMNS[5:])
        rows = [("fault", head), *((name, str(line)) for name, line in self.lines.items())]
        rows.append(("sum", str(self._sum())))
        told = [f"{name:<34}{rest}" for name, rest in rows]
        told.append(
            f"upstream transactions aborted: {self.aborted}; replies of a commit lost: {self.lost_replies}"
        )
        return "\n".join(told)


async def compare(kit: Kit, ledger: Ledger) -> None:
    """Committed events and scores with those of one process."""
    sent = await kit.read(kit.cfg.inputs[0].topic, bool, 2.0)
    events, rows = await one_process(kit, sent)
    got_events = await kit.events(len(events), quiet_s=2.0)
    got_rows = await kit.scores(len(rows), quiet_s=2.0)
    told = ([((e.event_id, e.muted_by), e.detected_ms) for e in each] for each in (events, got_events))
    ledger.compared("events", *told)
    ledger.compared("scores", *([(row, row[1]) for row in each] for each in (rows, got_rows)))


async def one_process(kit: Kit, records: Sequence[Record]) -> tuple[list[AnomalyEvent], list[ScoreRow]]:
    """What one engine makes of the messages, with the journal's commands and models at their offsets."""
    events: list[AnomalyEvent] = []
    rows: list[ScoreRow] = []
    source, models = kit.cfg.inputs[0], artifacts.store_of(kit.cfg)
    for number in range(source.partitions):
        mine = sorted((r for r in records if r.partition == number), key=lambda r: r.offset)
        entries = await journal.read(kit.cfg, TopicPartition(source.topic, number))
        pipeline, begin = Pipeline(kit.cfg, source), 0
        for entry in [each for each in entries if not isinstance(each, Began)] + [None]:
            until = bisect_left(mine, entry.next_offset, key=lambda r: r.offset) if entry else len(mine)
            output = _score(pipeline, mine[begin:until])
            events += output[0]
            rows += output[1]
            begin = until
            if isinstance(entry, Adopted):
                pipeline.apply(entry, models.get(entry.detector, entry.series, entry.artifact))
            elif entry is not None:
                pipeline.apply(entry)
    return events, rows


def _score(pipeline: Pipeline, records: Sequence[Record]) -> tuple[list[AnomalyEvent], list[ScoreRow]]:
    samples, _dead = pipeline.decode(records)
    outputs = [pipeline.score(part) for part in pipeline.slices(samples)]
    rows = [row for output in outputs for value in output.scores for row in _unpack(value)]
    return [event for output in outputs for event in output.events], rows
