"""Read the labelled series the benchmarks use; see the data folder's README for their origin.

The folder comes from the caller, else from TOCSIN_DATA, else `../shared/data` beside the
repository. Every series is what a worker would see: gaps (NaN) left out, the first of two
samples with one timestamp kept. NAB is the exception, for its protocol counts rows as they are.
"""

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation import runs


@dataclass(frozen=True)
class LabelledSeries:
    """One series of a benchmark; all arrays have one entry per row, in event time."""

    dataset: str
    family: str
    name: str
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    labels: NDArray[np.bool_]

    @property
    def windows(self) -> NDArray[np.int64]:
        """Labelled segments as half-open row ranges, shape (k, 2)."""
        return runs(self.labels)


def data_folder(folder: str | Path | None = None) -> Path:
    """Return the folder that holds the data sets."""
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(folder or os.environ.get("TOCSIN_DATA") or default)


def nab(folder: str | Path | None = None) -> Iterator[LabelledSeries]:
    """Yield the Numenta series: `family/file`, labels from combined_windows.json (both ends in)."""
    root = data_folder(folder) / "nab"
    windows = json.loads((root / "combined_windows.json").read_text())
    for path in sorted((root / "data").glob("*/*.csv")):
        ts_ms, values, _ = _read(path.read_text().splitlines())
        labels = np.zeros(len(ts_ms), dtype=np.bool_)
        name = f"{path.parent.name}/{path.name}"
        for first, last in windows[name]:
            labels |= (ts_ms >= _milliseconds(first)) & (ts_ms <= _milliseconds(last))
        yield LabelledSeries("nab", path.parent.name, path.stem, ts_ms, values, labels)


def nab_published(
    detector: str, series: LabelledSeries, folder: str | Path | None = None
) -> NDArray[np.float64]:
    """Return the published row scores of `detector` (contextOSE, windowedGaussian) for a series."""
    path = data_folder(folder) / "nab" / "published-results" / detector / f"{detector}_{series.name}.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        return np.array([float(row["anomaly_score"]) for row in csv.DictReader(file)])


def cloud_monitoring(folder: str | Path | None = None) -> Iterator[LabelledSeries]:
    """Yield the Microsoft cloud monitoring series; a family is a folder."""
    root = data_folder(folder) / "cloud-monitoring"
    for path in sorted(root.glob("*/*.csv")):
        rows = _clean(*_read(path.read_text().splitlines()))
        yield LabelledSeries("cloud-monitoring", path.parent.name, path.stem, *rows)


def web_services(folder: str | Path | None = None) -> Iterator[LabelledSeries]:
    """Yield the web service series; they come without families, so there is one."""
    root = data_folder(folder) / "web-services"
    for path in sorted(root.glob("*.csv.gz")):
        rows = _clean(*_read(gzip.decompress(path.read_bytes()).decode().splitlines()))
        yield LabelledSeries("web-services", "web-services", path.name.split(".")[0], *rows)


DATASETS: Final[dict[str, Callable[[str | Path | None], Iterator[LabelledSeries]]]] = {
    "nab": nab,
    "web-services": web_services,
    "cloud-monitoring": cloud_monitoring,
}


def _read(lines: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Read columns time, value and perhaps label; an empty value or label is NaN or unlabelled."""
    rows = csv.reader(lines)
    next(rows)
    columns = list(zip(*rows, strict=False))
    ts_ms = np.array([_milliseconds(text) for text in columns[0]], dtype=np.int64)
    values = np.array([float(text or "nan") for text in columns[1]])
    if len(columns) == 2:
        return ts_ms, values, np.zeros(len(values), dtype=np.bool_)
    labels = np.array([float(text or 0) > 0 for text in columns[2]], dtype=np.bool_)
    return ts_ms, values, labels


def _milliseconds(text: str) -> int:
    """Read Unix seconds or an ISO time in UTC."""
    if text.isdigit():
        return int(text) * 1000
    return int(np.datetime64(text.removesuffix("Z"), "ms").astype(np.int64))


def _clean(
    ts_ms: NDArray[np.int64], values: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Leave out gaps and later samples of a timestamp, as admission does."""
    finite = np.flatnonzero(np.isfinite(values))
    _, first = np.unique(ts_ms[finite], return_index=True)
    keep = finite[first]
    return ts_ms[keep], values[keep], labels[keep]
