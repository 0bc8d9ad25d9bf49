"""Numbers from the outside, as a person would get them: `/metrics` of the processes and SQL over HTTP."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from schemas import config

TIMEOUT_S: Final = 10.0
"""Of one look: a process that compiles or a busy machine may take seconds, more means that it hangs."""

LOOK_TIMEOUT_S: Final = 3.0
"""Of a look that a person waits for: a worker that needs longer is shown as not answering."""

_LINE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

_rows = msgspec.json.Decoder(list[dict[str, Any]])


class Told:
    """What a process told under `/metrics`."""

    def __init__(self, text: str) -> None:
        self._samples = defaultdict[str, list[tuple[Mapping[str, str], float]]](list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def of(self, name: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of each sample of this name."""
        return self._samples.get(name, [])

    def total(self, name: str, **labels: str) -> float:
        """The sum over the samples with these labels."""
        return sum(value for found, value in self.of(name) if labels.items() <= found.items())


def told(url: str) -> Told:
    """Ask a process; raises ``OSError`` when it does not answer, or not with metrics."""
    try:
        with urllib.request.urlopen(url, timeout=LOOK_TIMEOUT_S) as reply:  # noqa: S310  # configuration
            return Told(reply.read().decode())
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{url} does not tell metrics: {error}") from error


def total(url: str, name: str, labels: str = "") -> float:
    """The sum of a metric over all label sets that contain this text; 0 while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:  # noqa: S310  # an address of ours
            text = reply.read().decode()
    except (OSError, http.client.HTTPException):
        return 0.0
    return sum(float(v) for n, found, v in _LINE.findall(text) if n == name and labels in (found or ""))


def query(store: config.ClickHouse, sql: str) -> list[dict[str, Any]]:
    """The rows of a statement; raises ``OSError`` when ClickHouse does not answer or refuses it."""
    request = urllib.request.Request(  # noqa: S310  # the address is configuration
        f"{'https' if store.secure else 'http'}://{store.host}:{store.port}/?database={store.database}",
        data=f"{sql} FORMAT JSON".encode(),
        headers={"X-ClickHouse-User": store.username, "X-ClickHouse-Key": store.password},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
            return _rows.decode(msgspec.json.decode(reply.read(), type=_Answer).data)
    except urllib.error.HTTPError as error:
        raise OSError(error.read(500).decode(errors="replace")) from error


def count(store: config.ClickHouse, what: str, table: str) -> int:
    """One number, such as ``uniqExact(anomaly_id)`` of ``anomalies``; raises as `query` does."""
    return int(query(store, f"SELECT {what} AS n FROM {table}")[0]["n"])  # noqa: S608  # both are ours


class _Answer(msgspec.Struct):
    data: msgspec.Raw
