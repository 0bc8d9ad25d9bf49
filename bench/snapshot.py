"""`python -m bench.snapshot`: what a snapshot of a partition costs its batches, and what it takes to write.

A batch waits for the copy of the state, less the time that the broker takes to commit the same batch
meanwhile; so the time of the copy is the most that a batch can be late. Hash and file come after it, in the
background. Between two snapshots runs a batch, as in a worker, so that no copy finds its source in a cache.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.buffer import Buffer
from detectors.protocol import Samples
from schemas import config
from stream.worker.pipeline import Pipeline
from stream.worker.snapshot_file import Header, Snapshot
from stream.worker.snapshots import SnapshotStore

ROUNDS: Final = 20
"""Samples of each series: every page of its state has been written."""

COPIES: Final = 15


class Result(msgspec.Struct):
    """One size of a partition; times are medians, and the longest."""

    series: int
    state_mb: float
    copy_ms: float
    copy_cpu_ms: float  # of its thread: what it takes on a machine that has nothing else to do
    copy_worst_ms: float
    fresh_ms: float  # the same copy into fresh memory
    write_s: float


def measure(series: int) -> Result:
    cfg = config.Config(
        admission=config.Admission(max_series_per_partition=series, max_series_per_metric=series)
    )
    pipeline = Pipeline(cfg, cfg.inputs[0])
    names = tuple(f'cpu_seconds{{host="host-{i:06}",region="eu"}}' for i in range(series))
    for turn in range(ROUNDS):
        _round(pipeline, names, turn)
    buffer = Buffer()
    buffer.reserve(pipeline.snapshot_bytes())
    reused: list[tuple[float, float]] = []  # seconds, and of them CPU
    fresh: list[tuple[float, float]] = []
    turn = ROUNDS
    for _ in range(COPIES):
        for into, taken in ((buffer, reused), (None, fresh)):
            _round(pipeline, names, turn)
            turn += 1
            began, cpu_began = time.perf_counter(), time.thread_time()
            state = pipeline.snapshot(into)
            taken.append((time.perf_counter() - began, time.thread_time() - cpu_began))
            del state
    copies_ms = 1000 * np.array(reused)
    state = pipeline.snapshot(buffer)
    return Result(
        series,
        sum(array.nbytes for array in state.values()) / 1e6,
        float(np.median(copies_ms[:, 0])),
        float(np.median(copies_ms[:, 1])),
        float(copies_ms[:, 0].max()),
        1000 * float(np.median(fresh, axis=0)[0]),
        _write(state),
    )


def _round(pipeline: Pipeline, names: tuple[str, ...], turn: int) -> None:
    count = len(names)
    values = np.random.default_rng(turn).normal(size=count)
    times_ms = np.full(count, 1_716_000_000_000 + turn * 60_000)
    pipeline.score(Samples(names, np.arange(count), times_ms, values))


def _write(state: Any) -> float:
    header = Header(
        topic="bench", partition=0, next_offset=1, config_hash="", lineage="bench", learned_from=0
    )
    arrays: dict[str, NDArray[Any]] = dict(state)
    with tempfile.TemporaryDirectory() as folder:
        store = SnapshotStore(folder)
        began = time.perf_counter()
        store.write(Snapshot(header, arrays))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, nargs="*", default=[10_000, 50_000, 100_000, 200_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [measure(series) for series in options.series]
    if options.json:
        print(json.dumps(msgspec.to_builtins(results)))
        return
    names = ("series", "MB", "copy ms", "of it CPU", "worst", "in fresh memory ms", "write s")
    print("  ".join(f"{name:>9}" for name in names))
    for r in results:
        times_ms = (r.copy_ms, r.copy_cpu_ms, r.copy_worst_ms, r.fresh_ms)
        told = [f"{r.series:>9}", f"{r.state_mb:>9.0f}", *(f"{each:>9.1f}" for each in times_ms)]
        told[-1] = told[-1].rjust(len(names[-2]))
        print("  ".join([*told, f"{r.write_s:>9.2f}"]))


if __name__ == "__main__":
    main()
