"""What models cost: CPU seconds of a fit, of a sample and of an adoption, bytes; and what a refresh delays.

python -m bench.refresh                             # prints the table of costs
python -m bench.refresh --write                     # into docs/refresh.md as well
python -m bench.refresh --detector aer --write      # only the rows of one detector
python -m bench.refresh --delay [--write]           # p99 delay of events beside a refresh of 1,000 series

Histories are those of `examples/redlab`, by the minute and as means of five minutes. Times are CPU seconds of
this process and its children on one core, so that other work on the machine disturbs them little.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from bench import refresh_delay
from detectors import registry
from detectors.batch import BatchDetector, History, is_batch, on_grid, pack, unpack
from stream.refresh.frames import from_csv

ROOT: Final = Path(__file__).resolve().parents[1]
TELEMETRY: Final = ROOT / "examples" / "redlab" / "telemetry.csv.gz"
PAGE: Final = ROOT / "docs" / "refresh.md"
COSTS: Final = "<!-- python -m bench.refresh --write -->"
DELAY: Final = "<!-- python -m bench.refresh --delay --write -->"
END: Final = "<!-- end -->"

DAY_MS: Final = 86_400_000
HISTORIES: Final = {
    "a week by 5 minutes": (7 * DAY_MS, 300_000),
    "four weeks by 5 minutes": (28 * DAY_MS, 300_000),
    "a week by minute": (7 * DAY_MS, 60_000),
}
ENOUGH_S: Final = 20.0
"""CPU time after which no further column is fitted."""

SLOTS: Final = 64
SAMPLES: Final = 100  # of each slot


class Cost(NamedTuple):
    """Of one detector on one kind of history; seconds are of CPU."""

    detector: str
    history: str
    fits: int
    fit_s: float  # median
    sample_us: float
    adopt_ms: float  # unpacked and copied in
    slot_bytes: int
    artifact_bytes: int


def histories(length_ms: int, interval_ms: int) -> Iterator[tuple[History, History]]:
    """Of each column, a history and the day after it."""
    frame = from_csv(str(TELEMETRY), TELEMETRY.name, 100_000)
    for values in frame.columns.values():
        grid = on_grid(frame.ts_ms, values[:, None], interval_ms)
        ts_ms = grid.first_ms + interval_ms * np.arange(len(grid.values))
        known = ~np.isnan(grid.values[:, 0])
        ts_ms, known_values = ts_ms[known], grid.values[known]
        cut = int(np.searchsorted(ts_ms, ts_ms[0] + length_ms))
        end = int(np.searchsorted(ts_ms, ts_ms[cut - 1] + DAY_MS))
        yield History(ts_ms[:cut], known_values[:cut]), History(ts_ms[cut:end], known_values[cut:end])


def cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def spent_s(work: Callable[[], Any]) -> tuple[float, Any]:
    began = cpu_s()
    made = work()
    return cpu_s() - began, made


def measure(name: str, label: str) -> Cost:
    """Fit the columns one after another, until there was enough; then score the day after the last."""
    detector, times = batch(name), []
    for history, day_after in histories(*HISTORIES[label]):
        later = day_after
        seconds, artifact = spent_s(partial(detector.fit, {}, history, 1))
        times.append(seconds)
        if sum(times) > ENOUGH_S:
            break
    payload = pack(artifact)
    cost = _scoring(detector, payload, later)
    return Cost(name, label, len(times), float(np.median(times)), *cost, artifact_bytes=len(payload))


def _scoring(detector: type[BatchDetector], payload: bytes, later: History) -> tuple[float, float, int]:
    """Microseconds of a sample, milliseconds of an adoption, bytes of a slot."""
    made = detector.create({}, 1)
    made.reserve(SLOTS)

    def adopt() -> None:
        for slot in range(SLOTS):
            made.adopt(slot, unpack(payload))

    count = min(SAMPLES, len(later.ts_ms) // 2)
    slots = np.tile(np.arange(SLOTS), count)

    def step(first: int, repeats: int) -> None:
        ts_ms = np.repeat(later.ts_ms[first : first + count], SLOTS)
        values = np.repeat(later.values[first : first + count, 0], SLOTS)
        for _ in range(repeats):
            made.step(slots, ts_ms, values, np.ones(len(slots), np.bool_))

    adopt_s, _ = spent_s(adopt)
    step(0, 1)  # compiles, and fills windows
    repeats = 1
    while (seconds := spent_s(partial(step, count, repeats))[0]) < 0.5:
        repeats *= 4
    state = sum(array.nbytes for array in made.snapshot().values())
    return 1e6 * seconds / (repeats * len(slots)), 1e3 * adopt_s / SLOTS, state // SLOTS


def row(c: Cost) -> str:
    cells = (
        c.detector,
        c.history,
        f"{c.fit_s:.2f}",
        f"{60 / c.fit_s:,.3g}",
        f"{c.sample_us:.3g}",
        f"{c.adopt_ms:.2g}",
        f"{c.artifact_bytes / 1e3:,.0f} KB",
        f"{c.slot_bytes / 1e3:,.0f} KB",
    )
    return f"| {' | '.join(cells)} |"


TITLES: Final = (
    "| detector | history | fit, CPU s | fits per minute and core | us per sample | ms per adoption "
    "| artifact | a series in a worker |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def costs(names: list[str], labels: list[str]) -> list[str]:
    """Rows of the table."""
    rows = []
    for name in names:
        first_s, _ = spent_s(partial(_fit_little, name))
        print(f"{name}: the first fit of a process takes {first_s:.1f} s, to load and compile", flush=True)
        for label in labels:
            rows.append(row(measure(name, label)))
            print(rows[-1], flush=True)
    return rows


def kept(rows: list[str]) -> list[str]:
    """The rows on the page that are not measured anew."""
    text = PAGE.read_text(encoding="utf-8").split(COSTS)[1].split(END)[0]
    known = {_key(each) for each in [*rows, *TITLES.splitlines()]}
    return [line for line in text.splitlines() if line.startswith("| ") and _key(line) not in known]


def _key(line: str) -> tuple[str, str]:
    """Detector and history of a row."""
    _, detector, history, *_ = (cell.strip() for cell in line.split("|"))
    return detector, history


def write(begin: str, text: str) -> None:
    """Put it into the page in place of what is there."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    PAGE.write_text(f"{before}{begin}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put what is measured into docs/refresh.md")
    parser.add_argument("--detector", action="append", help="only this one; may be repeated")
    parser.add_argument("--history", action="append", choices=list(HISTORIES), help="only this one; the same")
    parser.add_argument("--delay", action="store_true", help="the delay of events beside a refresh")
    parser.add_argument("--series", type=int, default=1000, help="of a refresh")
    parser.add_argument("--rounds", type=int, default=4, help="of windows that alternate")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds of a quiet window")
    parser.add_argument("--rate", type=float, default=100_000, help="samples a second meanwhile")
    chosen = parser.parse_args()
    if chosen.delay:
        detector = (chosen.detector or ["prophet"])[0]
        plan = refresh_delay.Plan(detector, chosen.series, chosen.rate, chosen.rounds, chosen.quiet)
        begin, text = DELAY, refresh_delay.measure(plan)
    else:
        names = chosen.detector or list(filter(_is_univariate, registry.names()))
        rows = costs(names, chosen.history or list(HISTORIES))
        rows = sorted([*rows, *kept(rows)], key=_order)
        text = "\n".join([f"One core of {platform.machine()}, defaults of each detector.\n", TITLES, *rows])
        begin = COSTS
    print(f"\n{text}")
    if chosen.write:
        write(begin, text)


def _order(line: str) -> tuple[str, int]:
    detector, history = _key(line)
    return detector, list(HISTORIES).index(history)


def _is_univariate(name: str) -> bool:
    detector = registry.load(name)
    return is_batch(detector) and detector.channels == "one"


def _fit_little(name: str) -> None:
    """Libraries are loaded and kernels compiled."""
    ts_ms = 300_000 * np.arange(600)
    values = np.sin(np.arange(600) / 40) + np.random.default_rng(1).normal(size=600)
    batch(name).fit({"epochs": 1} if name == "aer" else {}, History(ts_ms, values[:, None]), 1)


def batch(name: str) -> type[BatchDetector]:
    """A detector that is fitted; raises ``ValueError`` for another one."""
    detector = registry.load(name)
    if not is_batch(detector):
        raise ValueError(f"{name} is not fitted")
    return detector


if __name__ == "__main__":
    main()
