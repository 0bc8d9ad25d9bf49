"""Telemetry of series from ClickHouse as arrays: what trainers, `/find` and backtests read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from stream.store.clickhouse import Client


class Column(NamedTuple):
    """Samples of one series in order of time, each time once; NaN is a gap."""

    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]


def series_id(text: str) -> int:
    """The id of a canonical text, as ClickHouse's ``xxHash64(text)`` gives it."""
    return xxhash.xxh64_intdigest(text.encode())


def read(client: Client, series: Sequence[str], start_ms: int, end_ms: int) -> dict[str, Column]:
    """Samples with ``start_ms <= ts < end_ms`` of some series (canonical texts), empty where there are none.

    16 bytes a sample, all in memory at once: a year by minute is 8 MB a series.
    """
    ids = {series_id(text): text for text in series}
    # FINAL and not the view, which turns NaN into NULL.
    found = client.arrow(
        """
        SELECT series_id, toUnixTimestamp64Milli(ts) AS ts_ms, value
        FROM telemetry FINAL
        WHERE series_id IN {ids:Array(UInt64)}
          AND ts >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
          AND ts < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
        ORDER BY series_id, ts
        SETTINGS do_not_merge_across_partitions_select_final = 1
        """,
        {"ids": list(ids), "start": start_ms, "end": end_ms},
    )
    of, ts_ms, values = (found.column(name).to_numpy() for name in ("series_id", "ts_ms", "value"))
    wanted = np.array(list(ids), np.uint64)
    starts, stops = np.searchsorted(of, wanted, "left"), np.searchsorted(of, wanted, "right")
    return {
        text: Column(ts_ms[start:stop], values[start:stop])
        for text, start, stop in zip(ids.values(), starts.tolist(), stops.tolist(), strict=True)
    }
