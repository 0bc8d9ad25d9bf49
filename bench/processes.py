"""A worker as a process of its own, watched from outside: its metrics, CPU time and memory."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from schemas import config

PROGRAM: Final = (
    "import sys, msgspec; from schemas.config import Config; from stream import logs; "
    "from stream.worker import worker; "
    "cfg = msgspec.json.decode(sys.stdin.buffer.read(), type=Config); "
    "logs.configure(cfg.log, 'worker'); worker.main(cfg)"
)
"""`tocsin worker` with its configuration on standard input."""

STALL_S: Final = 60.0
"""Without progress for this long the measurement has failed; a first start compiles for some seconds."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SAMPLES: Final = re.compile(r"^tocsin_samples_total\{.*\} (\S+)$", re.MULTILINE)


class Progress(NamedTuple):
    """What a worker had done at a time."""

    at_s: float
    cpu_s: float
    samples: int


class WorkerProcess:
    """Started on entry, ended by SIGTERM on exit (and by SIGKILL when it does not listen)."""

    def __init__(self, cfg: config.Config) -> None:
        self._cfg = cfg
        self._url = f"http://{cfg.metrics.host}:{cfg.metrics.worker_port}/metrics"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE)
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(self._cfg))
            self._process.stdin.close()
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def wait_for_samples(self, count: int) -> Progress:
        """Wait until so many samples are committed; raises when there is no progress."""
        newest, moved = -1, time.monotonic()
        while True:
            now = await asyncio.to_thread(self.progress)
            if now is not None and now.samples >= count:
                return now
            if now is not None and now.samples > newest:
                newest, moved = now.samples, time.monotonic()
            if self._process.poll() is not None or time.monotonic() - moved > STALL_S:
                raise RuntimeError(f"the worker stands at {newest} of {count} samples")
            await asyncio.sleep(0.1)

    def progress(self) -> Progress | None:
        try:
            with urllib.request.urlopen(self._url, timeout=5) as response:
                page = response.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None
        samples = sum(float(number) for number in _SAMPLES.findall(page))
        return Progress(time.monotonic(), self.cpu_s(), int(samples))

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_bytes(self) -> int:
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
