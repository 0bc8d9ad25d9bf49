"""What a model is fitted on: the history of a series in ClickHouse, less what it must not learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from detectors.batch import MAX_CHANNELS, History, on_grid
from schemas.artifact import Manifest
from schemas.control import Mute
from schemas.group import Grouping
from schemas.matcher import Matcher
from schemas.series import Series
from stream.control import muting
from stream.store import history
from stream.store.clickhouse import Client

SETTLED_S: Final = 2.0
"""Without a new sample for this long, what is there is all. Shorter than a sink's batch interval and a model
lacks its newest history; longer delays the fits of series that have gone silent."""

FIRST_S: Final = 15.0
"""As long for the first sample of a series: a sink that starts makes its tables and warms up for seconds,
longer on a busy machine, and an answer of no history costs the model an hour."""

LOOK_EVERY_S: Final = 0.2

SEEN_MS: Final = 3_600_000
"""ClickHouse knows to about an hour when a series was last seen."""

Spans = Sequence[tuple[int, int]]
"""Stretches of time, first and last millisecond, both inside."""


def read(client: Client, series: str, from_ms: int, until_ms: int) -> History:
    """Samples with ``from_ms <= ts < until_ms``, one channel."""
    found = history.read(client, [series], from_ms, until_ms)[series]
    return History(found.ts_ms.astype(np.int64), found.values.astype(np.float64).reshape(-1, 1))


def members(client: Client, grouping: Grouping, group: str, from_ms: int, until_ms: int) -> list[str]:
    """The series of a group with samples in this time, sorted: at most `MAX_CHANNELS`, those seen last."""
    if not _exists(client, "series"):
        return []
    labels = Series.parse(group).labels
    shared: dict[str, Any] = {"names": list(labels), "values": list(labels.values())}
    found = client.rows(
        """
        SELECT series FROM series_latest
        WHERE last_seen >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
          AND first_seen < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
          AND arrayMap(name -> labels[name], {names:Array(String)}) = {values:Array(String)}
        ORDER BY last_seen DESC, series
        """,
        {"from": from_ms - SEEN_MS, "until": until_ms, **shared},
    )
    mine = [text for (text,) in found if grouping.of(Series.of(text)) == group]
    return sorted(mine[:MAX_CHANNELS])


def joined(client: Client, channels: Sequence[str], from_ms: int, until_ms: int, interval_ms: int) -> History:
    """The means of several series in intervals, NaN where one has none; 8 bytes a channel and interval."""
    found = history.read(client, channels, from_ms, until_ms)
    places = [each.ts_ms // interval_ms for each in found.values() if len(each.ts_ms)]
    if not places:
        return History(np.zeros(0, np.int64), np.zeros((0, len(channels))), tuple(channels))
    first = min(int(place[0]) for place in places)
    values = np.full((max(int(place[-1]) for place in places) - first + 1, len(channels)), np.nan)
    for column, text in enumerate(channels):
        ts_ms, samples = found[text].ts_ms.astype(np.int64), found[text].values.astype(np.float64)
        if len(ts_ms):
            grid = on_grid(ts_ms, samples.reshape(-1, 1), interval_ms)
            start = grid.first_ms // interval_ms - first
            values[start : start + len(grid.values), column] = grid.values[:, 0]
    there = ~np.isnan(values).all(axis=1)
    ts_ms = interval_ms * (first + np.flatnonzero(there))
    return History(ts_ms, values[there], tuple(channels))


def arrived(client: Client, channels: Callable[[], list[str]], until_ms: int, since: float) -> list[str]:
    """Wait for the sink: until the sample before ``until_ms`` is stored, or no more of them come.

    ``since`` is when the waiting began, by the monotonic clock: those that are fitted together wait once.
    Returns the channels; which they are may show only then, so they are asked for at each look.
    """
    newest = _newest_ms(client, channels(), until_ms)
    while newest < until_ms - 1 and time.monotonic() - since < (SETTLED_S if newest else FIRST_S):
        time.sleep(LOOK_EVERY_S)
        stored = _newest_ms(client, channels(), until_ms)
        if stored > newest:
            newest, since = stored, time.monotonic()
    return channels()


def _newest_ms(client: Client, channels: Sequence[str], until_ms: int) -> int:
    """The newest sample of any of them before ``until_ms``; 0 without one."""
    if not _exists(client, "telemetry"):
        return 0
    ((newest,),) = client.rows(
        "SELECT toUnixTimestamp64Milli(max(ts)) FROM telemetry WHERE series_id IN {ids:Array(UInt64)} "
        "AND ts < fromUnixTimestamp64Milli({until:Int64}, 'UTC')",
        {"ids": [history.series_id(each) for each in channels], "until": until_ms},
    )
    return int(newest)


def without(found: History, spans: Spans) -> History:
    """The history with gaps where the spans are."""
    if not spans:
        return found
    values = found.values.copy()
    for first, last in spans:
        values[(found.ts_ms >= first) & (found.ts_ms <= last)] = np.nan
    return History(found.ts_ms, values, found.channels)


def labelled(client: Client, series: Sequence[str], from_ms: int, until_ms: int) -> Spans:
    """Anomalies of these series that a person called true."""
    if not _exists(client, "labels_latest"):
        return []
    found = client.rows(
        """
        SELECT toUnixTimestamp64Milli(started), toUnixTimestamp64Milli(coalesce(ended, started))
        FROM labels_latest
        WHERE series IN {series:Array(String)} AND verdict = 'true'
          AND started < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
          AND coalesce(ended, started) >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
        """,
        {"series": list(series), "from": from_ms, "until": until_ms},
    )
    return [(int(first), int(last)) for first, last in found]


def unlearned(client: Client, series: Sequence[str], from_ms: int, until_ms: int) -> Spans:
    """Mutes of these series with ``learn`` off, with their repetitions, until they were lifted."""
    if not _exists(client, "mutes_latest"):
        return []
    found = client.rows(
        """
        SELECT matcher, toUnixTimestamp64Milli(started) AS start_ms, toUnixTimestamp64Milli(ended) AS end_ms,
               repeat, if(timezone = '', 'UTC', timezone),
               arrayMap(at -> toUnixTimestamp64Milli(at), excepted) AS except_ms,
               toUnixTimestamp64Milli(lifted_at) AS until_ms
        FROM mutes_latest
        WHERE learn = 0 AND started < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
        """,
        {"until": until_ms},
    )
    mine, spans = [Series.of(each) for each in series], []
    names = ("matcher", "start_ms", "end_ms", "repeat", "timezone", "except_ms")
    for *values, lifted_ms in found:
        mute = Mute(command_id="-", at_ms=0, mute_id="-", **dict(zip(names, values, strict=True)))
        matcher = Matcher.parse(mute.matcher)
        if any(matcher.matches(each) for each in mine):
            end = until_ms if lifted_ms is None else min(until_ms, lifted_ms)
            held = [(first, min(last, end) - 1) for first, last in muting.spans(mute)]
            spans += [(first, last) for first, last in held if first < end and last >= from_ms]
    return spans


def store(client: Client, manifest: Manifest) -> None:
    """Keep a manifest for people; a second time changes nothing. Before the sink made the table, nowhere."""
    if not _exists(client, "artifacts"):
        return
    row = msgspec.to_builtins(manifest)
    row |= {name: msgspec.json.encode(row[name]).decode() for name in ("params", "report")}
    client.command(
        """
        INSERT INTO artifacts (detector, series, trained_to, artifact_id, version, trained_from, sha256, size,
                               params, report)
        SELECT {detector:String}, {series:String}, fromUnixTimestamp64Milli({trained_to_ms:Int64}, 'UTC'),
               {artifact_id:String}, {version:UInt32},
               fromUnixTimestamp64Milli({trained_from_ms:Int64}, 'UTC'), {sha256:String}, {size:UInt64},
               {params:String}, {report:String}
        """,
        row,
    )


def _exists(client: Client, table: str) -> bool:
    """The sink makes the tables when it first starts."""
    return bool(int(client.command(f"EXISTS TABLE {table}")))
