"""What models found, as arrays, and as the files that people download."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from console.pages import measures
from console.pages.client import Answer, Failed, Intervals, Points, arrays

NUMBERS: Final = ("value", "score", "level", "expected", "lower", "upper")
"""Columns of points."""

_SHARE: Final = "contribution."
"""Before the name of a metric: its share in the score of a model of many."""


@dataclass(frozen=True)
class Found:
    """Of one model. ``points`` are columns by name (NaN where there is none), for a model that speaks of
    stretches ``spans`` (start_ms, end_ms, severity), or else an ``error``.
    """

    ts_ms: NDArray[np.int64]
    points: Mapping[str, NDArray[np.float64]]
    anomaly: NDArray[np.bool_]
    spans: Sequence[tuple[int, int, float]] | None = None
    error: str = ""

    @staticmethod
    def of(answer: Answer) -> Found:
        match answer:
            case Failed(error=error):
                return replace(NOTHING, error=error)
            case Intervals(intervals=spans):
                return replace(NOTHING, spans=[(_ms(s.start), _ms(s.end), s.severity) for s in spans])
            case Points(columns=told):
                columns = arrays(told)
                shares = [name for name in columns if name.startswith(_SHARE)]
                points = {name: columns[name] for name in (*NUMBERS, *shares)}
                return Found(columns["ts_ms"].astype(np.int64), points, columns["anomaly"].astype(np.bool_))

    def flags(self, ts_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these times are anomalous."""
        if self.spans is not None:
            return measures.inside(ts_ms, [(start, end) for start, end, _ in self.spans])
        flagged = self.ts_ms[self.anomaly]
        return np.isin(ts_ms, flagged, assume_unique=True)

    @property
    def banded(self) -> bool:
        """Whether it says what it expected."""
        return bool(np.isfinite(self.points.get("upper", _NONE)).any())

    def shares(self, episode: measures.Episode) -> dict[str, float]:
        """The mean contribution of each metric in an episode, where there is one."""
        rows = slice(episode.first, episode.last + 1)
        told = {n.removeprefix(_SHARE): v[rows] for n, v in self.points.items() if n.startswith(_SHARE)}
        return {name: float(np.mean(np.nan_to_num(share))) for name, share in told.items()}

    def between(self, start_ms: int, end_ms: int) -> Found:
        """What lies in ``start <= ts < end``."""
        low, high = np.searchsorted(self.ts_ms, (start_ms, end_ms))
        spans = self.spans and [each for each in self.spans if each[1] >= start_ms and each[0] < end_ms]
        points = {name: column[low:high] for name, column in self.points.items()}
        return Found(self.ts_ms[low:high], points, self.anomaly[low:high], spans, self.error)

    def table(self, only_anomalies: bool = False) -> pd.DataFrame:
        """A row for each sample, or for each stretch."""
        if self.spans is not None:
            spans = np.array(self.spans, np.float64).reshape(-1, 3)
            times = {"start": _shown(spans[:, 0]), "end": _shown(spans[:, 1])}
            return pd.DataFrame(times | {"severity": spans[:, 2]})
        kept = self.anomaly if only_anomalies else np.ones(len(self.ts_ms), np.bool_)
        columns = {name: column[kept] for name, column in self.points.items()}
        return pd.DataFrame(
            {"timestamp": _shown(self.ts_ms[kept]), **columns, "anomaly": self.anomaly[kept].astype(np.uint8)}
        )

    def csv(self) -> bytes:
        """The whole table, times ISO 8601."""
        table = self.table()
        for name in ("timestamp", "start", "end"):
            if name in table:
                table[name] = [f"{text}Z" for text in np.datetime_as_string(table[name].to_numpy("M8[ms]"))]
        return str(table.to_csv(index=False)).encode()


_NONE: Final = np.empty(0)
NOTHING: Final = Found(np.empty(0, np.int64), {}, np.empty(0, np.bool_))


def zipped(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def file_name(*parts: str) -> str:
    """A name for a download that every system takes."""
    plain = [re.sub(r"[^\w.-]+", "_", part).strip("_") for part in parts]
    return "-".join(part for part in plain if part)


def _shown(ts_ms: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.datetime64]:
    return ts_ms.astype(np.int64).astype("M8[ms]")


def _ms(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ms").astype(np.int64))
