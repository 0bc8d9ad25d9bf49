"""A detector whose fit goes wrong in the way that its parameters say; installed for one test by `install`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from detectors.batch import Artifact, History, facts_of
from detectors.isolation_forest import IsolationForestDetector

ENTRY_POINT = "[tocsin.detectors]\nbroken = tocsin_broken:Broken\n"


class Broken(IsolationForestDetector):
    name: ClassVar[str] = "broken"

    @classmethod
    def create(cls, params: Mapping[str, Any], seed: int) -> Self:
        return cls()

    @classmethod
    def fit(cls, params: Mapping[str, Any], history: History, seed: int) -> Artifact:
        how = params["how"] if "how" in params else Path(params["how_in"]).read_text(encoding="utf-8")
        if how == "raise":
            raise RuntimeError("no convergence")
        if how == "memory":
            _hold = [np.ones(8 * 1024 * 1024) for _ in range(200)]  # 64 MB each
        if how == "die":
            os._exit(3)
        if how == "hang" and not Path(params["until"]).exists():
            Path(params["marker"]).touch()
            time.sleep(3600)
        if how == "child":
            with subprocess.Popen(["sleep", "3600"]) as child:
                Path(params["marker"]).with_suffix(".part").write_text(str(child.pid))
                Path(params["marker"]).with_suffix(".part").rename(params["marker"])
        made = IsolationForestDetector.fit({"n_estimators": 10}, history, seed)
        if how == "nan":
            made.arrays["hour"][3] = np.nan
        return Artifact(made.arrays, {**made.facts, **facts_of(cls)})


def install(folder: Path) -> None:
    """Make it a distribution that a process with this folder in PYTHONPATH finds."""
    (folder / "tocsin_broken.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    info = folder / "tocsin_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tocsin-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)
