"""How good the shipped configuration is: NAB, overlap of segments, false alarms, delay, ranking, and cost.

Run `python -m bench.quality`; `--write docs/quality.md` makes the page. Each series is replayed through a new
engine that is told nothing beforehand; nothing is chosen with labels except where a column says "best".
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from bench import clean
from bench.baselines import RIVER, last_value, river, z_score
from bench.datasets import DATASETS, LabelledSeries, data_folder
from bench.judged import (
    Judged,
    Method,
    clean_rate,
    families,
    halves,
    judge,
    nab_by_budget,
    nab_numbers,
    numbers,
    tocsin,
)
from schemas import config

BUDGETS: Final = (0.02, 0.05, 0.1, 0.2, 0.3)
TOCSIN: Final = "tocsin"
Corpus = dict[str, list[LabelledSeries]]


def measure(corpus: Corpus, unlabelled: Corpus, cfg: config.Engine, river_rows: int) -> dict[str, Any]:
    """All numbers, as they are printed with ``--json``."""
    tocsin(cfg)(clean.unlabelled("", "", "warm-up", np.arange(400.0) % 7))  # compiling is not what it costs
    at_budget: dict[float, list[Judged]] = {}
    ours = {name: _told(TOCSIN, name, tocsin(cfg), series) for name, series in corpus.items()}
    return {
        "alert_budget": cfg.alert_budget,
        "totals": {name: numbers(judged) for name, judged in ours.items()},
        "nab": nab_numbers(ours["nab"]) if "nab" in ours else {},
        "families": {
            name: {family: _family(name, some) for family, some in families(judged).items()}
            for name, judged in ours.items()
        },
        "halves": {
            name: {half: _family(name, some) for half, some in halves(judged).items()}
            for name, judged in ours.items()
        },
        "baselines": list(_baselines(corpus, ours, river_rows)),
        "budgets": [_budget(cfg, budget, corpus, unlabelled, at_budget) for budget in BUDGETS],
        "nab_by_budget": nab_by_budget(at_budget) if "nab" in corpus else {},
    }


def _told(method: str, dataset: str, run: Method, series: Sequence[LabelledSeries]) -> list[Judged]:
    """Judge, with a line on progress: a whole run takes minutes."""
    sys.stderr.write(f"{method}: {dataset}, {len(series)} series\n")
    return judge(run, series)


def _family(dataset: str, judged: Sequence[Judged]) -> dict[str, Any]:
    found = numbers(judged)
    return found | ({"nab": nab_numbers(judged)} if dataset == "nab" else {})


def _baselines(corpus: Corpus, ours: dict[str, list[Judged]], river_rows: int) -> Iterator[dict[str, Any]]:
    """Each method on each data set; river's on some series, beside ours on the same."""
    for dataset, series in corpus.items():
        yield _row(TOCSIN, dataset, ours[dataset])
        for name, rule in (("z-score, 3 sigma", z_score), ("last value, 3 sigma", last_value)):
            yield _row(name, dataset, _told(name, dataset, rule, series))
        few = subset(series, river_rows)
        if len(few) == 0:
            continue
        names = {(each.family, each.name) for each in few}
        same = [each for each in ours[dataset] if (each.series.family, each.series.name) in names]
        if len(few) < len(series):
            yield _row(f"{TOCSIN}, {len(few)} series", dataset, same)
        for name, model in RIVER.items():
            told = name if len(few) == len(series) else f"{name}, {len(few)} series"
            yield _row(told, dataset, _told(told, dataset, river(model), few))


def _row(method: str, dataset: str, judged: Sequence[Judged]) -> dict[str, Any]:
    return {"method": method, "dataset": dataset, **_family(dataset, judged)}


def subset(series: Sequence[LabelledSeries], rows: int) -> list[LabelledSeries]:
    """Series spread evenly over the sorted list with about so many rows together, at least one."""
    total = sum(len(each.values) for each in series)
    if rows <= 0 or not series:
        return []
    count = min(len(series), max(1, round(len(series) * rows / max(total, 1))))
    return [series[(2 * i + 1) * len(series) // (2 * count)] for i in range(count)]


def _budget(
    cfg: config.Engine, budget: float, corpus: Corpus, unlabelled: Corpus, nab: dict[float, list[Judged]]
) -> dict[str, Any]:
    """The same configuration at another alert budget: what it costs and what it finds.

    Keeps what was said of `nab`, for `nab_by_budget`.
    """
    method = tocsin(msgspec.structs.replace(cfg, alert_budget=budget))
    found: dict[str, Any] = {"budget": budget, "clean": {}, "quality": {}}
    for name, series in (corpus | unlabelled).items():
        judged = _told(f"budget {budget}", name, method, series)
        rate, days = clean_rate(judged)
        found["clean"][name] = {"alerts_per_day": rate, "times_budget": rate / budget, "days": days}
        if name == "nab":
            nab[budget] = judged
        if name in corpus:
            found["quality"][name] = _family(name, judged)
        else:
            found["clean"][name]["families"] = {
                k: clean_rate(some)[0] for k, some in families(judged).items()
            }
    return found


def speed() -> dict[str, float]:
    """Cost with a thousand series interleaved, as in a worker; the window of raw samples apart."""
    from bench import engine as bench_engine  # noqa: PLC0415 (numba is loaded there)
    from detectors.engine import Engine  # noqa: PLC0415

    cfg = config.Config()
    run = bench_engine.measure(1000, 50_000, 20)
    engine = Engine(cfg.engine, cfg.admission)
    for batch in bench_engine.batches(100, 10_000, 4):
        engine.process(batch)
    sizes = {name: array.nbytes for name, array in engine.snapshot().items()}
    window = sum(size for name, size in sizes.items() if name.startswith("window"))
    return {
        "ns_per_sample": 1e9 / run["samples_per_s"],
        "state_bytes": (sum(sizes.values()) - window) / 100,
        "window_bytes": window / 100,
    }


def _load(folder: Path) -> tuple[Corpus, Corpus]:
    corpus = {name: list(read(folder)) for name, read in DATASETS.items()}
    return corpus, {"redlab": list(clean.redlab(folder)), "synthetic": list(clean.synthetic())}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data sets; else ../shared/data")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables to a file as well")
    parser.add_argument(
        "--river-rows", type=int, default=200_000, help="rows of each data set for river; 0 leaves it out"
    )
    return parser.parse_args()


def main() -> int:
    from bench.quality_page import page  # noqa: PLC0415 (only for printing)

    options = _options()
    folder = data_folder(options.data)
    missing = [name for name in (*DATASETS, "redlab") if not (folder / name).is_dir()]
    if missing:
        print(
            f"bench.quality: the data set {missing[0]} is not in {folder}; name its folder with --data",
            file=sys.stderr,
        )
        return 2
    corpus, unlabelled = _load(folder)
    found = measure(corpus, unlabelled, config.Engine(), options.river_rows) | {"speed": speed()}
    text = page(found)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    # NaN is null: JSON has no other word for it, and msgspec writes it so.
    print(json.dumps(json.loads(msgspec.json.encode(found))) if options.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
