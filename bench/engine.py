"""What the engine costs without I/O: nanoseconds per sample by part, bytes per series, start-up time.

Run `python -m bench.engine`; options by `--help`.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np


def batches(series: int, batch: int, count: int) -> list[Any]:
    """Batches of noisy daily cycles, one sample a series and minute, as columnar batches."""
    from detectors.protocol import Samples  # noqa: PLC0415 (the import is part of what is timed)

    names = tuple(f'cpu_usage{{host="host-{i}",region="eu"}}' for i in range(series))
    rng = np.random.default_rng(1)
    made = []
    for b in range(count):
        position = np.arange(b * batch, (b + 1) * batch)
        index, minute = position % series, position // series
        phase = 2 * np.pi * minute / 1440 + index
        values = 50 + 10 * np.sin(phase) + rng.normal(size=batch)
        made.append(Samples(names, index, 1_700_000_000_000 + minute * 60_000, values))
    return made


def start_up() -> dict[str, float]:
    """Seconds for the imports and for the first batch."""
    began = time.perf_counter()
    from detectors.engine import Engine  # noqa: PLC0415 (timed)
    from schemas import config  # noqa: PLC0415 (timed)

    imported = time.perf_counter()
    Engine(config.Engine(), config.Admission()).process(batches(10, 100, 1)[0])
    return {"import_s": imported - began, "first_batch_s": time.perf_counter() - imported}


def measure(series: int, batch: int, count: int, timed: bool = False) -> dict[str, Any]:
    """Speed of one engine after its series are known; with ``timed`` the cost of each part as well."""
    from detectors.engine import Engine  # noqa: PLC0415 (timed by start_up)
    from schemas import config  # noqa: PLC0415

    engine = Engine(config.Engine(), config.Admission(), time.perf_counter if timed else None)
    work = batches(series, batch, count)
    warm = max(1, series * 2 // batch)
    for each in work[:warm]:
        engine.process(each)
    engine.cost_s.clear()
    taken, told = [], 0
    for each in work[warm:]:
        began = time.perf_counter()
        told += len(engine.process(each).events)
        taken.append(time.perf_counter() - began)
    samples = batch * len(taken)
    state = sum(array.nbytes for array in engine.snapshot().values())
    return {
        "series": series,
        "samples_per_s": samples / sum(taken),
        "best_samples_per_s": batch / min(taken),
        "bytes_per_series": state / series,
        "events": told,
        "ns": {name: cost / samples * 1e9 for name, cost in engine.cost_s.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=50_000)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {"start_up": start_up()}
    results["runs"] = [measure(s, options.batch, options.count) for s in (1_000, 10_000)]
    results["parts"] = [measure(s, options.batch, options.count, timed=True)["ns"] for s in (1_000, 10_000)]
    if options.json:
        print(json.dumps(results))
        return
    print(
        "start-up: imports {import_s:.2f} s, first batch {first_batch_s:.2f} s".format(**results["start_up"])
    )
    print(f"{'series':>8} {'samples/s':>12} {'best':>12} {'bytes/series':>13}")
    for run in results["runs"]:
        print(
            f"{run['series']:>8} {run['samples_per_s']:>12,.0f} {run['best_samples_per_s']:>12,.0f}"
            f" {run['bytes_per_series']:>13,.0f}"
        )
    print(f"\n{'part':<20}{'ns/sample, 1,000 series':>26}{'10,000 series':>16}")
    few, many = results["parts"]
    for name in few:
        print(f"{name:<20}{few[name]:>26.1f}{many[name]:>16.1f}")


if __name__ == "__main__":
    main()
