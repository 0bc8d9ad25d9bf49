"""What siblings lend to new series: false alarms, and faults found in the warm-up and after it.

Twenty series of one metric, levels apart by orders of magnitude, run for three days; on the fourth 200 new
ones come, of 150 samples each, one in eight with a fault. Run `python -m bench.siblings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.event import Kind, Status

MINUTE, START = 60_000, 1_700_006_400_000
OLD, NEW, AGE, DAYS = 20, 200, 150, 3
FAULT = 20.0  # median moves
FAULTS_AT = (12, 40)  # samples of its own that a new series has before its fault

Law = Callable[[np.random.Generator, Any], Any]


def _level(rng: np.random.Generator, decades: float) -> float:
    return float(10 ** rng.uniform(0, decades))


def _daily(rng: np.random.Generator, ts_ms: Any) -> Any:
    cycle = 0.3 * np.sin(2 * np.pi * ts_ms / 86_400_000)
    return _level(rng, 4) * (1 + cycle + 0.05 * rng.normal(size=len(ts_ms)))


def _wandering(rng: np.random.Generator, ts_ms: Any) -> Any:
    steps, noise = rng.normal(size=(2, len(ts_ms)))
    return _level(rng, 3) * (10 + 0.02 * np.cumsum(steps) + 0.1 * noise)


def _cold_start(rng: np.random.Generator, ts_ms: Any) -> Any:
    """Up to four times as high for the first 3 to 30 samples."""
    cold = np.arange(len(ts_ms)) < rng.integers(3, 30)
    return _level(rng, 3) * np.where(cold, rng.uniform(1, 4), 1) * (1 + 0.05 * rng.normal(size=len(ts_ms)))


LAWS: dict[str, Law] = {
    "daily cycle": _daily,
    "wandering": _wandering,
    "log-normal": lambda rng, t: _level(rng, 3) * np.exp(0.5 * rng.normal(size=len(t))),
    "counts": lambda rng, t: rng.poisson(_level(rng, 2), len(t)).astype(float),
    "ratio": lambda rng, t: 1 - rng.binomial(2000, _level(rng, 2) / 10_000, len(t)) / 2000,
    "Student's t, 3": lambda rng, t: rng.normal(0, 100) + rng.standard_t(3, len(t)),
    "unlike each other": lambda rng, t: (
        _level(rng, 3) * (1 + _level(rng, 3) / 1000 * rng.normal(size=len(t)))
    ),
    "cold start": _cold_start,
}


class Fleet(NamedTuple):
    samples: Samples
    faults: dict[str, int]  # time by series
    days: float  # of all new series


def fleet(law: Law, minutes: int, seed: int, fault_at: int | None = None) -> Fleet:
    """Old and new series of a law, sampled every so many minutes, in order of time."""
    rng = np.random.default_rng(seed)
    day = 1440 // minutes
    clock = START + minutes * MINUTE * np.arange((DAYS + 1) * day)
    parts = [(f'm{{host="old-{i}"}}', clock, law(rng, clock)) for i in range(OLD)]
    faults = {}
    for j in range(NEW):
        born = DAYS * day + int(rng.integers(0, day - AGE))
        ts_ms = clock[born : born + AGE]
        values = law(rng, ts_ms)
        if fault_at is not None and j % 8 == 3:
            values[fault_at] += FAULT * max(np.median(np.abs(np.diff(values))), 1e-3 * abs(np.median(values)))
            faults[f'm{{host="new-{j}"}}'] = int(ts_ms[fault_at])
        parts.append((f'm{{host="new-{j}"}}', ts_ms, values))
    names, times, columns = zip(*parts, strict=True)
    ts_ms = np.concatenate(times)
    order = np.argsort(ts_ms, kind="stable")
    index = np.repeat(np.arange(len(names)), [len(each) for each in times])
    samples = Samples(names, index[order], ts_ms[order], np.concatenate(columns)[order])
    return Fleet(samples, faults, NEW * AGE / day)


def opened(samples: Samples, lends: bool) -> list[tuple[str, int]]:
    """Series and start of what is told of new series."""
    policy = config.Policy(match="*", siblings=lends)
    events = Engine(config.Engine(policies=[policy]), config.Admission()).process(samples).events
    return [
        (event.series, event.started_ms)
        for event in events
        if event.status == Status.OPEN and "new" in event.series and event.kind != Kind.SILENCE
    ]


def rows() -> Iterator[list[str]]:
    """One line for each law and interval."""
    for name, law in LAWS.items():
        for minutes in (1, 5):
            row = [name, str(minutes)]
            quiet = fleet(law, minutes, 1)
            row += [f"{len(opened(quiet.samples, lends)) / quiet.days:.2f}" for lends in (False, True)]
            for at in FAULTS_AT:
                broken = fleet(law, minutes, 2, at)
                for lends in (False, True):
                    found = set(opened(broken.samples, lends)) & set(broken.faults.items())
                    row.append(f"{len(found) / len(broken.faults):.0%}")
            yield row


def main() -> None:
    head = ["law", "minutes", "false a day", "with siblings"]
    for at in FAULTS_AT:
        head += [f"found at {at}", "with siblings"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows():
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
