"""`python -m bench.delivery`: what exactly-once delivery costs against at-least-once, on a real broker.

The same backlog and the same load as in `bench.throughput`, once with transactions and once without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Final, get_args

import msgspec

from bench import load
from bench.throughput import Delivery, Result, backlog, delay
from stream.local.broker import LocalKafka

BACKLOG: Final[dict[load.Format, int]] = {"json": 1_500_000, "columnar": 15_000_000}

RATE: Final[dict[load.Format, float]] = {"json": 10_000, "columnar": 100_000}
"""Samples a second for the delay: far below what a worker bears, so that nothing waits in a queue."""


async def measure(bootstrap: str, scale: float, seconds: float) -> dict[str, Result]:
    results = {}
    for form, samples in BACKLOG.items():
        for delivery in get_args(Delivery):
            result = await backlog(bootstrap, form, int(samples * scale), delivery)
            await delay(bootstrap, form, seconds, result, rate=RATE[form], delivery=delivery)
            results[f"{form}, {delivery}"] = result
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the backlog")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steady load for the delay")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder)) as broker:
        results = asyncio.run(measure(broker.bootstrap, args.scale, args.seconds))
    if args.json:
        print(json.dumps(msgspec.to_builtins(results)))
        return
    print(f"{'':<26}{'samples/s':>12}{'per CPU s':>12}{'p50 ms':>8}{'p99 ms':>8}")
    for name, r in results.items():
        print(
            f"{name:<26}{r.samples_per_s:>12,.0f}{r.samples_per_cpu_s:>12,.0f}"
            f"{r.delay_p50_ms or 0:>8.0f}{r.delay_p99_ms or 0:>8.0f}"
        )


if __name__ == "__main__":
    main()
