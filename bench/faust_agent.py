"""The same z-score in a Faust agent, for comparison: what the hot path would cost there."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

PROGRAM: Final = """
import os, sys, time
import faust, msgspec

bootstrap, topic, total, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
app = faust.App("bench-faust", broker=f"kafka://{bootstrap}", store="memory://", web_enabled=False,
                value_serializer="raw", datadir=folder, consumer_auto_offset_reset="earliest",
                topic_disable_leader=True)
points = app.topic(topic, value_serializer="raw")
decode = msgspec.json.Decoder().decode
state, seen, began = {}, 0, None

@app.agent(points)
async def score(stream):
    global seen, began
    async for raw in stream:
        point = decode(raw)
        key = (point["metric"], tuple(point["labels"].items()))
        n, mean, m2 = state.get(key, (0, 0.0, 0.0))
        value = point["value"]
        z = (value - mean) / (m2 / n) ** 0.5 if n > 2 and m2 > 0 else 0.0
        n += 1
        delta = value - mean
        mean += delta / n
        state[key] = (n, mean, m2 + delta * (value - mean))
        seen += 1
        if seen == total // 10:
            began = (time.monotonic(), time.process_time())
        if seen == total:
            done = seen - total // 10
            wall, cpu = time.monotonic() - began[0], time.process_time() - began[1]
            print("MEASURED", done / wall, done / cpu, cpu / wall, file=sys.__stdout__, flush=True)
            os._exit(0)

sys.argv = ["faust", "worker", "--without-web", "-l", "error"]
app.main()
"""

TIMEOUT_S: Final = 300.0


def measure(bootstrap: str, topic: str, total: int) -> tuple[float, float, float]:
    """Samples a second, samples a CPU second, and cores, over a backlog of so many JSON points."""
    folder = f".tocsin/bench-faust-{time.time_ns()}"
    command = [sys.executable, "-c", PROGRAM, bootstrap, topic, str(total), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("MEASURED"):
            rate, per_cpu, cores = map(float, line.split()[1:])
            return rate, per_cpu, cores
    raise RuntimeError(f"the Faust agent did not finish: {done.stderr[-2000:]}")
