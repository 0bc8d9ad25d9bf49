"""AER on the labelled Numenta series, and what a fit costs alone and in a stack.

python -m bench.aer quality              # published mode, mean of three seeds, beside the published F1
python -m bench.aer speed --series 256   # seconds for each series, one by one and stacked
python -m bench.aer stream               # samples a second of the worker's mode
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from bench.datasets import LabelledSeries, nab
from detectors.aer import AerDetector
from detectors.aer_offline import LookedBack, look_back
from detectors.batch import FitError, History

PUBLISHED: Final = {
    "artificialWithAnomaly": 0.750,
    "realAWSCloudwatch": 0.702,
    "realAdExchange": 0.733,
    "realTraffic": 0.611,
    "realTweets": 0.606,
}
"""F1 of Orion 0.7.1."""

AS_PUBLISHED: Final[dict[str, dict[str, Any]]] = {
    "realAWSCloudwatch": {"interval_ms": 600_000, "combination": "sum"},
    "realTweets": {"interval_ms": 600_000, "combination": "mult"},
    "realAdExchange": {"interval_ms": 3_600_000, "combination": "sum"},
    "realTraffic": {"interval_ms": 600_000, "combination": "reg"},
    "artificialWithAnomaly": {"interval_ms": 600_000, "combination": "reg"},
}
"""The parameters of these figures."""

_PAD_MS: Final = 1000


class Tally(NamedTuple):
    """Segments of a family, by overlap in time."""

    found: int
    missed: int
    false: int
    flagged: int  # rows
    rows: int

    @property
    def f1(self) -> float:
        return 2 * self.found / max(2 * self.found + self.missed + self.false, 1)


def tally(series: LabelledSeries, said: LookedBack | FitError) -> Tally:
    """Labelled windows that an interval overlaps, both a second longer, and intervals that overlap none."""
    labelled = [(int(series.ts_ms[a]), int(series.ts_ms[b - 1]) + _PAD_MS) for a, b in series.windows]
    if isinstance(said, FitError):
        return Tally(0, len(labelled), 0, 0, len(series.ts_ms))
    spans = [(int(said.ts_ms[i.first]), int(said.ts_ms[i.last]) + _PAD_MS) for i in said.intervals]
    found = sum(any(a <= d and c <= b for c, d in spans) for a, b in labelled)
    false = sum(not any(a <= d and c <= b for a, b in labelled) for c, d in spans)
    flagged = int(said.flags(series.ts_ms).sum())
    return Tally(found, len(labelled) - found, false, flagged, len(series.ts_ms))


def _total(tallies: Sequence[Tally]) -> Tally:
    return Tally(*(sum(column) for column in zip(*tallies, strict=True)))


def _history(series: LabelledSeries) -> History:
    return History(series.ts_ms, series.values[:, None])


def quality(family: str, seeds: int, params: dict[str, Any]) -> None:
    """A row for each seed."""
    series = [each for each in nab() if each.family == family]
    given = AS_PUBLISHED.get(family, {}) | params
    print(f"{family}, {len(series)} series, {given}; published F1 {PUBLISHED.get(family, float('nan')):.3f}")
    print("| seed | F1 | found | missed | false | flagged share | seconds |\n|---|---|---|---|---|---|---|")
    scores = []
    for seed in range(1, seeds + 1):
        began = time.perf_counter()
        said = look_back(given, [_history(each) for each in series], seed)
        t = _total([tally(a, b) for a, b in zip(series, said, strict=True)])
        scores.append((t.f1, t.flagged / t.rows))
        seconds = time.perf_counter() - began
        row = f"| {seed} | {t.f1:.3f} | {t.found} | {t.missed} | {t.false} | {t.flagged / t.rows:.3f} "
        print(f"{row}| {seconds:.0f} |", flush=True)
    f1, share = np.mean(scores, axis=0)
    print(f"| mean | {f1:.3f} | | | | {share:.3f} | |")


def _some(count: int, samples: int) -> list[History]:
    rows = np.arange(samples)
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        wave = np.sin(2 * np.pi * rows / rng.uniform(24, 288)) + rng.normal(scale=0.1, size=samples)
        found.append(History(300_000 * rows, wave[:, None]))
    return found


def _fit(task: tuple[dict[str, Any], list[History]]) -> float:
    """Fit in this process; the CPU time it took."""
    began = time.process_time()
    AerDetector.fit_many(task[0], task[1], 1)
    return time.process_time() - began


def speed(count: int, samples: int, params: dict[str, Any], alone: int, processes: int) -> None:
    """``alone`` of the series one by one, then all in stacks, each on as many processes.

    The CPU time is the one to compare where other programs run beside this.
    """
    histories = _some(count, samples)
    device = params.get("device", "cpu")
    print(f"{count} series of {samples} samples, {params}, {processes} processes, {device}")
    print("| how | series | seconds | seconds a series | CPU seconds a series |\n|---|---|---|---|---|")
    stack = int(params.get("stack", 16))
    one = [(params | {"stack": 1}, [each]) for each in histories[:alone]]
    many = [(params, histories[at : at + stack]) for at in range(0, count, stack)]
    for name, tasks, n in (("alone", one, len(one)), (f"stacks of {stack}", many, count)):
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.map(_fit, [(params | {"epochs": 1}, histories[:1])] * processes)  # imports and kernels
            began = time.perf_counter()
            used = sum(pool.map(_fit, tasks, chunksize=1)) / n
            seconds = time.perf_counter() - began
        print(f"| {name} | {n} | {seconds:.1f} | {seconds / n:.2f} | {used:.2f} |", flush=True)


def stream(samples: int) -> None:
    """The worker's mode on one core: many series with a model each, a sample of each in turn."""
    slots, (history,) = 64, _some(1, 400)
    artifact = AerDetector.fit({"epochs": 1, "max_windows": 100}, history, 1)
    detector = AerDetector.create({}, 1)
    detector.reserve(slots)
    for slot in range(slots):
        detector.adopt(slot, artifact)
    rows = np.arange(slots * 120)
    values = np.sin(rows / 500)
    detector.step(rows % slots, rows, values, np.ones(len(rows), np.bool_))
    picked = np.arange(samples) % len(rows)
    began, cpu = time.perf_counter(), time.process_time()
    detector.step(picked % slots, picked, values[picked], np.ones(samples, np.bool_))
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"{samples / used:.0f} samples a second of CPU ({samples / seconds:.0f} by the clock)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["quality", "speed", "stream"])
    parser.add_argument("--family", default="realAWSCloudwatch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--stack", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--series", type=int, default=256)
    parser.add_argument("--alone", type=int, default=8, help="how many series are fitted one by one")
    parser.add_argument("--samples", type=int, default=2016)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    given = {"epochs": asked.epochs, "stack": asked.stack, "device": asked.device}
    params = {name: value for name, value in given.items() if value is not None}
    if asked.what == "quality":
        quality(asked.family, asked.seeds, params)
    elif asked.what == "speed":
        speed(asked.series, asked.samples, params, asked.alone, asked.processes)
    else:
        stream(asked.samples)


if __name__ == "__main__":
    main()
