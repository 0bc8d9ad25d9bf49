"""Bytes a series costs in a partition: the arrays of the engine, and what the process grows by."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.protocol import Samples
from schemas import config
from stream.worker.pipeline import Pipeline

SERIES: Final = 50_000
ROUNDS: Final = 170  # beyond warm-up, the length of the window and the 150 samples that lay out bins


def bytes_per_series() -> dict[str, float]:
    """Measured in a fresh process, with the default configuration."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender,))
    process.start()
    found: dict[str, float] = receiver.recv()
    process.join()
    return found


def _measure(sender: Any) -> None:
    cfg = config.Config()
    _fill(Pipeline(cfg, cfg.inputs[0]), 10)  # compiles
    before = _rss_bytes()
    pipeline = Pipeline(cfg, cfg.inputs[0])
    _fill(pipeline, SERIES)
    grown = _rss_bytes() - before
    arrays = sum(array.nbytes for array in pipeline.engine.snapshot().values())
    sender.send({"bytes_per_series_rss": grown / SERIES, "bytes_per_series_arrays": arrays / SERIES})


def _fill(pipeline: Pipeline, count: int) -> None:
    series = tuple(f'cpu_seconds{{host="host-{i:06}",region="eu"}}' for i in range(count))
    rng = np.random.default_rng(1)
    for turn in range(ROUNDS):
        ts_ms = np.full(count, 1_716_000_000_000 + turn * 60_000)
        pipeline.score(Samples(series, np.arange(count), ts_ms, rng.normal(size=count)))


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
