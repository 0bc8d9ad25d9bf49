"""What each part of the default configuration is worth: the data sets with one thing changed at a time.

Run `python -m bench.ablations`; `--write docs/ablations.md` makes the page. A variant runs in a process of
its own, because numba compiles constants in.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from bench import clean
from bench.datasets import DATASETS, LabelledSeries, data_folder
from bench.judged import Judged, Judgement, Method, clean_rate, halves, judge, nab_numbers, numbers, tocsin
from detectors import evaluation as ev
from detectors.evaluation.episodes import Episode, onset_scores
from detectors.evaluation.nab import PROBATION_RATIO, PROBATION_ROWS
from detectors.evaluation.segments import DAY_MS
from schemas import config
from stream.files.backtest import replay
from stream.files.labelled import Labelled

_DEFAULT: Final = "as shipped"
_SLOW_BUDGET: Final = 0.05
_SLOW_SAMPLES: Final = 12
YOUNG_DAYS: Final = 14


class Variant(NamedTuple):
    """One change: constants by module and name in `detectors`, weights of detectors, or a slower scale."""

    name: str
    constants: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}
    slow: bool = False


VARIANTS: Final = (
    Variant(_DEFAULT),
    Variant("no profile of the week", {"week._LEAST_LEARNED": 1_000_000}),
    Variant("large alone", weights={"large": 1.0}),
    Variant("rare alone", weights={"rare": 1.0}),
    Variant("large, rare and robust", weights={"large": 1.0, "rare": 1.0, "robust": 1.0}),
    Variant(f"means of {_SLOW_SAMPLES} samples as well", slow=True),
    Variant("no alert remembered", {"episode._MEMORY_MS": 1.0}),
    Variant("nothing recurs", {"recurrence._SUBTRACT": 0.0}),
    Variant("rare clusters: prior one in 3,000 samples", {"tails._CLUSTER_EVERY": 3000.0}),
    Variant(
        "rare clusters: that, and peaks clipped at 2.5 means",
        {"tails._CLUSTER_EVERY": 3000.0, "tails._CLUSTER_CLIP": 2.5},
    ),
    Variant("hour of the day weighs 1 in large", {"large._WEIGHT": (1.0, 1.0, 1.0)}),
    Variant("rare: 48 bins", {"rare._BINS": 48, "rare._HALF": 24}),
    Variant("rare: 40 bins", {"rare._BINS": 40, "rare._HALF": 20}),
    Variant(
        "rare: 32 bins of twice the width",
        {"rare._BINS": 32, "rare._HALF": 16, "rare._WIDTH": 0.5, "rare._LEFT": 6},
    ),
)

_INTRO: Final = """# Ablations: what each part is worth, and what limits the rest

Made by `python -m bench.ablations --write docs/ablations.md`; do not edit. One thing is changed at a time,
all else is as shipped; columns are those of [quality](quality.md). *Noise* is the number of alerts per series
and day on synthetic series in which nothing is wrong, at a budget of 0.1: in their first two weeks, and in
the whole month. *Means as well* adds the alerts that a second engine with half of the budget opens on means
of twelve samples, where the first has none. With fewer bins than 64 the state of a series would be smaller by
10 bytes a bin.

With 49 windows one more or fewer is about 2 points of the standard profile: differences of that size
between rows are a window or two on series that these constants were compared on, and no more than that.
"""

_LIMITS: Final = """## What the Numenta score is lost to

A perfect score is 100. Missed windows cost what a silent detector loses; alerts outside of windows 0.11 each
at most; the rest is what an alert in a window earns less because it is late.
"""

_MISSED: Final = """## Windows that are missed

The largest score within the window; 1.0 would have been an alert, unless what came before it was as strong.
Where it is far below, the window holds what the series has shown before, by value, by step, by spread and by
hour: bursts like the bursts before them, or quiet between them.
"""


def measure(corpus: Mapping[str, Sequence[LabelledSeries]], method: Method) -> dict[str, float]:
    """The numbers of one row of the table."""
    judged = {name: judge(method, series) for name, series in corpus.items()}
    standard, low_fp = (nab_numbers(judged["nab"])[name] for name in ("standard", "low FP"))
    found: dict[str, float] = {"standard": standard["shipped"], "low_fp": low_fp["shipped"]}
    found["left_out"] = standard["family_left_out"]
    for half, some in halves(judged["nab"]).items():
        found[half] = nab_numbers(some)["standard"]["shipped"]
    for name in DATASETS:
        total = numbers(judged[name])
        found |= {f"{name} f1": total["f1"], f"{name} false": total["false_per_day"]}
    young = clean_rate([_first_days(each) for each in judged["synthetic"]])[0]
    return found | {"young noise": young, "noise": clean_rate(judged["synthetic"])[0]}


def _first_days(each: Judged) -> Judged:
    """The same judgement, as if what came after the first days had not been judged."""
    young = each.series.ts_ms < each.series.ts_ms[0] + YOUNG_DAYS * DAY_MS
    return each._replace(said=each.said._replace(ready=each.said.ready & young))


def method_of(variant: Variant) -> Method:
    cfg = config.Engine()
    if variant.weights:
        chosen = [config.DetectorConfig(name=name, weight=w) for name, w in variant.weights.items()]
        cfg = msgspec.structs.replace(cfg, detectors=chosen)
    return slower(cfg) if variant.slow else tocsin(cfg)


def slower(cfg: config.Engine) -> Method:
    """The engine, and a second one on means; a mean is known with its last sample."""
    fast, slow = tocsin(cfg), tocsin(msgspec.structs.replace(cfg, alert_budget=_SLOW_BUDGET))

    def method(series: LabelledSeries) -> Judgement:
        said = fast(series)
        rows = np.arange(len(series.values) // _SLOW_SAMPLES * _SLOW_SAMPLES).reshape(-1, _SLOW_SAMPLES)
        means = series.values[rows].mean(axis=1)
        nothing = np.zeros(len(means), np.bool_)
        coarse = LabelledSeries("", "", series.name, series.ts_ms[rows[:, -1]], means, nothing)
        added = [_fine(each) for each in slow(coarse).episodes]
        new = [
            each
            for each in added
            if not any(o.start < each.end + _SLOW_SAMPLES and each.start < o.end for o in said.episodes)
        ]
        return said._replace(episodes=sorted(said.episodes + new))

    return method


def _fine(each: Episode) -> Episode:
    """The same episode in rows of the samples."""
    n = _SLOW_SAMPLES
    return each._replace(start=each.start * n, end=each.end * n, detected=each.detected * n + n - 1)


def apply(constants: Mapping[str, Any]) -> None:
    """Change constants before anything is compiled; raises ``AttributeError`` for one that is not there."""
    for path, value in constants.items():
        module, name = path.split(".")
        found = importlib.import_module(f"detectors.{module}")
        getattr(found, name)
        setattr(found, name, value)


def losses(judged: Sequence[Judged]) -> dict[str, float]:
    """Points of the standard profile that are lost to misses, to false alerts and to lateness."""
    missed = false = gained = windows = 0.0
    for series, said, _ in judged:
        rows = onset_scores(said.episodes, len(series.values))
        outside = ev.tally(rows, series.windows, ev.NabProfile("", 0.0, ev.STANDARD.fp, 0.0)).raw_at(1.0)
        whole = ev.tally(rows, series.windows, ev.STANDARD).raw_at(1.0)
        missed += len(_missed(series, rows))
        false, gained, windows = false - outside, gained + whole, windows + len(series.windows)
    point = 50.0 / windows
    lost = {"missed windows": 2.0 * missed * point, "false alerts": false * point}
    return lost | {"lateness": 100.0 - gained * point - sum(lost.values())}


def _missed(series: LabelledSeries, rows: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Windows without an alert after NAB's probation."""
    probation = min(int(PROBATION_RATIO * len(rows)), PROBATION_ROWS)
    spans = [(int(start), int(end)) for start, end in series.windows]
    return [(start, end) for start, end in spans if not (rows[max(start, probation) : end] >= 1.0).any()]


def misses(judged: Sequence[Judged]) -> list[tuple[str, int, int, float]]:
    """Series, first and last row and largest score of each missed window."""
    whole, found = config.Config(), []
    for series, said, _ in judged:
        missed = _missed(series, onset_scores(said.episodes, len(series.values)))
        if not missed:
            continue
        (replayed,) = replay(whole, [Labelled(series.name, "", series.ts_ms, series.values, None)])
        found += [(series.name, a, b, float(np.nanmax(replayed.score[a:b]))) for a, b in missed]
    return found


def _load(folder: Path) -> dict[str, list[LabelledSeries]]:
    corpus = {name: list(read(folder)) for name, read in DATASETS.items()}
    return corpus | {"synthetic": list(clean.synthetic())}


def _apart(name: str, folder: Path, changed: bool) -> dict[str, Any]:
    """A variant in a process of its own; with changed constants, a cache of compiled code of its own."""
    sys.stderr.write(f"{name}\n")
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "bench.ablations", "--data", str(folder), "--one", name]
        environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if changed else {})
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def one(name: str, folder: Path) -> dict[str, Any]:
    (variant,) = [each for each in VARIANTS if each.name == name]
    apply(variant.constants)
    corpus = _load(folder)
    found: dict[str, Any] = {"name": name, **measure(corpus, method_of(variant))}
    if name == _DEFAULT:
        nab = judge(method_of(variant), corpus["nab"])
        found |= {"losses": losses(nab), "misses": misses(nab)}
    return found


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables as Markdown; the first row is the default."""
    head = (
        "| changed | NAB standard | low FP | family left out | tune half | report half | false / day "
        "| web F1 | false / day | cloud F1 | false / day | noise, young | noise |\n|---|" + "---:|" * 12
    )
    columns = (
        ("standard", ".1f"), ("low_fp", ".1f"), ("left_out", ".1f"), ("tune half", ".1f"),
        ("report half", ".1f"), ("nab false", ".3f"), ("web-services f1", ".3f"),
        ("web-services false", ".3f"), ("cloud-monitoring f1", ".3f"), ("cloud-monitoring false", ".3f"),
        ("young noise", ".3f"), ("noise", ".3f"),
    )  # fmt: skip
    table = [f"| {row['name']} | " + " | ".join(f"{row[k]:{f}}" for k, f in columns) + " |" for row in rows]
    lost = [f"| {name} | {points:.1f} |" for name, points in rows[0]["losses"].items()]
    missed = [f"| {name} | {a} to {b} | {score:.2f} |" for name, a, b, score in rows[0]["misses"]]
    parts = [
        _INTRO, "\n".join([head, *table, ""]),
        _LIMITS, "\n".join(["| lost to | points |\n|---|---:|", *lost, ""]),
        _MISSED, "\n".join(["| series | rows | largest score |\n|---|---:|---:|", *missed, ""]),
    ]  # fmt: skip
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ablations", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data sets; else ../shared/data")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to a file as well")
    parser.add_argument("--jobs", type=int, default=1, help="variants at a time")
    parser.add_argument("--one", choices=[each.name for each in VARIANTS], help="one variant, as JSON")
    options = parser.parse_args()
    folder = data_folder(options.data)
    if options.one:
        print(msgspec.json.encode(one(options.one, folder)).decode())
        return
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda each: _apart(each.name, folder, bool(each.constants)), VARIANTS))
    text = page(rows)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
