"""One method on labelled series, and the numbers of a group of them: what `bench.quality` prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.datasets import LabelledSeries
from detectors import evaluation as ev
from detectors.evaluation.episodes import (
    Episode,
    compare_episodes,
    episode_delays,
    onset_scores,
    onsets_only,
)
from detectors.evaluation.segments import DAY_MS
from schemas import config
from stream.files.backtest import replay
from stream.files.labelled import Labelled

PROFILES: Final = (ev.STANDARD, ev.LOW_FP, ev.LOW_FN)
CLEAN_MARGIN: Final = 100  # rows around a label that are not clean, or the label's own length if that is more


class Judgement(NamedTuple):
    """What a method says of a series: its alerts, a level for every row, and which rows it could judge."""

    episodes: list[Episode]
    level: NDArray[np.float64]
    ready: NDArray[np.bool_]
    rows: NDArray[np.float64] | None = None  # a score for every row, where the method has no episodes itself


Method = Callable[[LabelledSeries], Judgement]


class Judged(NamedTuple):
    """A series with a judgement, and what that cost."""

    series: LabelledSeries
    said: Judgement
    seconds: float


def tocsin(cfg: config.Engine) -> Method:
    """The engine, new for each series and told nothing beforehand."""
    whole = config.Config(engine=cfg)

    def method(series: LabelledSeries) -> Judgement:
        (said,) = replay(whole, [Labelled(series.name, "", series.ts_ms, series.values, None)])
        ready = np.isfinite(said.score)
        return Judgement(said.episodes, np.nan_to_num(said.level.astype(np.float64), nan=0.0), ready)

    return method


def judge(method: Method, series: Sequence[LabelledSeries]) -> list[Judged]:
    found = []
    for each in series:
        began = time.perf_counter()
        said = method(each)
        found.append(Judged(each, said, time.perf_counter() - began))
    return found


def halves(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Every other series, in order of family and name: one half to tune on and one to report."""
    ordered = sorted(judged, key=lambda each: (each.series.family, each.series.name))
    split = {"tune half": ordered[::2], "report half": ordered[1::2]}
    return {name: half for name, half in split.items() if half}


def families(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {}
    for each in judged:
        found.setdefault(each.series.family, []).append(each)
    return dict(sorted(found.items()))


def numbers(judged: Sequence[Judged]) -> dict[str, Any]:
    """Overlap of segments, false alarms, delay and ranking of a group; NaN where there is nothing to say."""
    counts, onsets, delays, areas = [], [], [], []
    for series, said, _ in judged:
        counts.append(compare_episodes(series.ts_ms, said.episodes, series.labels))
        onsets.append(compare_episodes(series.ts_ms, onsets_only(said.episodes), series.labels))
        delays += episode_delays(series.ts_ms, series.values, said.episodes, series.labels)
        areas.append(ev.vus_pr(said.level, series.labels))
    total = ev.sum_counts(counts)
    segments = total.found + total.missed
    late = [each.samples for each in delays]
    known = [area for area in areas if not np.isnan(area)]
    return {
        "series": len(judged),
        "rows": total.rows,
        "segments": segments,
        "found": total.found,
        "false_episodes": total.false_episodes,
        "precision": total.precision,
        "recall": total.recall,
        "f1": total.f1 if segments else np.nan,
        "f1_onset": ev.sum_counts(onsets).f1 if segments else np.nan,
        "false_per_day": total.false_per_day,
        "flagged_share": total.flagged_share,
        "delay_samples": float(np.median(late)) if late else np.nan,
        "delay_p90_samples": float(np.quantile(late, 0.9)) if late else np.nan,
        "vus_pr": float(np.mean(known)) if known else np.nan,
        "ns_per_sample": 1e9 * sum(each.seconds for each in judged) / max(total.rows, 1),
    }


def nab_numbers(judged: Sequence[Judged]) -> dict[str, Any]:
    """The NAB score at the shipped threshold, at the best, and with each family left out of the choice."""
    found: dict[str, Any] = {}
    for profile in PROFILES:
        shipped = [_tally(each, profile, swept=False) for each in judged]
        swept = {
            name: [_tally(e, profile, swept=True) for e in some] for name, some in families(judged).items()
        }
        best = ev.best([tally for some in swept.values() for tally in some])
        found[profile.name] = {
            "shipped": ev.at_threshold(shipped, 1.0).score,
            "best": best.score if any(tally.windows for tally in shipped) else np.nan,
            "best_threshold": best.threshold,
            "family_left_out": ev.leave_one_family_out(swept).score if len(swept) > 1 else np.nan,
        }
    return found


def nab_by_budget(found: Mapping[float, Sequence[Judged]]) -> dict[str, Any]:
    """The best alert budget, and the score when each family's budget is chosen on the others.

    It sweeps what a person would turn: unlike a sweep of the scores of alerts that were sent, it reaches
    below the shipped threshold.
    """
    said: dict[str, Any] = {}
    for profile in PROFILES:
        tallies = [
            {name: [_tally(e, profile, swept=False) for e in some] for name, some in families(judged).items()}
            for judged in found.values()
        ]
        scores = [ev.at_threshold([t for ts in each.values() for t in ts], 1.0).score for each in tallies]
        top = int(np.argmax(scores))
        said[profile.name] = {
            "best": scores[top],
            "best_budget": list(found)[top],
            "family_left_out": ev.choice_left_out(tallies, 1.0).score if len(tallies[0]) > 1 else np.nan,
        }
    return said


def _tally(each: Judged, profile: ev.NabProfile, *, swept: bool) -> ev.NabTally:
    """An alert is the row that told of it. A method without episodes is swept over all its rows."""
    rows = onset_scores(each.said.episodes, len(each.series.values))
    if swept and each.said.rows is not None:
        rows = each.said.rows
    return ev.tally(rows, each.series.windows, profile)


def clean_rate(judged: Sequence[Judged]) -> tuple[float, float]:
    """Alerts per series and day where nothing is labelled nearby, and how many such days there were.

    Only time in which the method could judge counts, in samples times the median interval.
    """
    alerts, days = 0, 0.0
    for series, said, _ in judged:
        clean = said.ready & ~_near_labels(series.labels)
        alerts += sum(bool(clean[each.detected]) for each in said.episodes)
        days += float(clean.sum() * np.median(np.diff(series.ts_ms))) / DAY_MS
    return (alerts / days if days else np.nan), days


def _near_labels(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    near = np.zeros(len(labels), np.bool_)
    for start, end in ev.runs(labels).tolist():
        margin = max(CLEAN_MARGIN, end - start)
        near[max(start - margin, 0) : end + margin] = True
    return near
