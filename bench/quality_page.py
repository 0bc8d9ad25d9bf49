"""The numbers of `bench.quality` as Markdown, each with its flagged share and false episodes beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

_COLUMNS: Final = (
    ("F1", "f1", ".2f"),
    ("F1 of onsets", "f1_onset", ".2f"),
    ("precision", "precision", ".2f"),
    ("recall", "recall", ".2f"),
    ("false / series-day", "false_per_day", ".3f"),
    ("flagged", "flagged_share", ".2%"),
    ("delay, median", "delay_samples", ".1f"),
    ("delay, 90 %", "delay_p90_samples", ".0f"),
    ("VUS-PR", "vus_pr", ".3f"),
)

_INTRO: Final = """# Quality of detection

Made by `python -m bench.quality --write docs/quality.md`; the data sets are not part of the repository
(`--data FOLDER`). Do not edit.

Each series is replayed through a new engine with the default configuration (alert budget {budget:g} false
alarms per series and day), which is told nothing beforehand. No threshold is chosen with labels, except where
a column says *best*. **The constants of the default detectors were compared on these same series**, on both
halves, so expect less of series that are not here. How the columns are measured:

- **F1**, precision, recall: labelled segments that an alert overlaps, alerts that overlap none. An alert
  lasts from its start to its end as told. **F1 of onsets** counts only the row that told of the alert, so
  nothing is gained by staying open.
- **False / series-day** and **flagged** (share of rows inside an alert) belong to every F1: one alert over
  everything would have an F1 near 1.
- **Delay**: over found segments, in samples, from where the anomaly becomes visible (its values have moved
  half of the way) to the alert; median, and what nine in ten stay below.
- **VUS-PR** of the level, mean over the series with labels.
- **NAB**: the published scoring. An alert is one row, the one that told of it, with the score it had then.
  *Shipped* is at score 1.0. *Best* is at the one threshold that is best for all series, as NAB's protocol
  has it, among the alerts that were sent (a threshold below 1.0 would need alerts that the budget did not
  allow). *Family left out* takes for each family the threshold that is best on the others; it can only drop
  alerts that were sent, and so rather shows what a higher threshold costs. The second table chooses the alert
  budget instead, among those in the table of budgets, which is what a person would turn.
"""

_HALVES: Final = """## Halves

Every other series, in order of family and name. A constant tuned on the tune half alone shows on the report
half whether it carries over; those of today's default were compared on both, so the halves show the spread
between series rather than how well it generalises.
"""

_BESIDE: Final = """## Beside others

In the same process. *z-score*: distance from the mean of all samples before, in their standard deviations;
*last value*: difference from the sample before, in root mean squares of all differences before. Both alert in
runs from 3 on, and NAB's best threshold is sought among all rows. *river*: the model with its own defaults,
behind the engine's features, guards, calibration and episodes. Where a number of series stands, river had
these alone, for time, and Tocsin is shown on the same. The cost is that of one series at a time through the
whole replay.

"""

_OTHER_BUDGETS: Final = """## Alert budgets

The same configuration at other budgets.

"""

_CLEAN: Final = """## False alarms against the budget

Alerts per series and day on clean stretches, and in brackets how many times the budget that is. Clean is what
lies further from any label than 100 rows, and than the label is long. Nobody vouches that what is not
labelled is normal, least of all in `redlab`, which has no labels; `synthetic` is clean by construction
(30 days by minute of each kind, 4 seeds).
"""


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    parts = [
        _INTRO.format(budget=found["alert_budget"]),
        "## In total\n",
        _table("data set", found["totals"]),
        _nab(found["nab"]),
        _nab_by_budget(found["nab_by_budget"]),
        _HALVES,
        _nested(found["halves"], "half"),
        "## Families\n",
        _nested(found["families"], "family"),
        _baselines(found["baselines"]),
        _budgets(found["budgets"]),
        _clean(found["budgets"]),
        _speed(found["speed"]) if "speed" in found else "",
    ]
    return "\n".join(part for part in parts if part)


def _number(value: Any, form: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return format(value, form)


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _cells(numbers: dict[str, Any]) -> list[str]:
    return [_number(numbers[key], form) for _, key, form in _COLUMNS]


def _table(head: str, groups: dict[str, dict[str, Any]]) -> str:
    heads = [head, "series", "segments", *(name for name, _, _ in _COLUMNS)]
    return _rows(
        heads, [[name, str(n["series"]), str(n["segments"]), *_cells(n)] for name, n in groups.items()]
    )


def _nab(nab: dict[str, Any]) -> str:
    if not nab:
        return ""
    rows = [
        [
            name,
            _number(each["shipped"], ".1f"),
            _number(each["best"], ".1f"),
            _number(each["best_threshold"], ".2f"),
            _number(each["family_left_out"], ".1f"),
        ]
        for name, each in nab.items()
    ]
    heads = ["NAB profile", "shipped", "best", "at threshold", "family left out"]
    return "The NAB score of the same alerts (flagged share and false episodes as above):\n\n" + _rows(
        heads, rows
    )


def _nab_by_budget(nab: dict[str, Any]) -> str:
    if not nab:
        return ""
    rows = [
        [
            name,
            _number(each["best"], ".1f"),
            f"{each['best_budget']:g}",
            _number(each["family_left_out"], ".1f"),
        ]
        for name, each in nab.items()
    ]
    heads = ["NAB profile, at score 1.0", "best budget", "which is", "chosen on the other families"]
    return _rows(heads, rows)


def _shipped(numbers: dict[str, Any]) -> str:
    """NAB's standard profile, at the shipped threshold and at the best."""
    nab = numbers.get("nab")
    if not nab:
        return "-"
    return f"{_number(nab['standard']['shipped'], '.1f')} / {_number(nab['standard']['best'], '.1f')}"


def _nested(found: dict[str, dict[str, dict[str, Any]]], head: str) -> str:
    heads = ["data set", head, "series", "segments", *(name for name, _, _ in _COLUMNS), "NAB shipped / best"]
    rows = [
        [dataset, name, str(n["series"]), str(n["segments"]), *_cells(n), _shipped(n)]
        for dataset, groups in found.items()
        for name, n in groups.items()
    ]
    return _rows(heads, rows)


def _baselines(found: Sequence[dict[str, Any]]) -> str:
    heads = ["data set", "method", *(name for name, _, _ in _COLUMNS), "NAB shipped / best", "us / sample"]
    rows = [
        [n["dataset"], n["method"], *_cells(n), _shipped(n), f"{n['ns_per_sample'] / 1000:.1f}"]
        for n in found
    ]
    return _BESIDE + _rows(heads, rows)


def _budgets(found: Sequence[dict[str, Any]]) -> str:
    heads = ["budget", "data set", *(name for name, _, _ in _COLUMNS), "NAB shipped / best"]
    rows = [
        [f"{each['budget']:g}", dataset, *_cells(n), _shipped(n)]
        for each in found
        for dataset, n in each["quality"].items()
    ]
    return _OTHER_BUDGETS + _rows(heads, rows)


def _clean(found: Sequence[dict[str, Any]]) -> str:
    names = list(found[0]["clean"])
    rows = [
        [f"{each['budget']:g}"]
        + [
            _rate(each["clean"][name]["alerts_per_day"], each["clean"][name]["times_budget"])
            for name in names
        ]
        for each in found
    ]
    days = [["series-days", *(_number(found[0]["clean"][name]["days"], ",.0f") for name in names)]]
    kinds = [name for name in names if "families" in found[0]["clean"][name]]
    parts = [
        _CLEAN,
        _rows(["budget", *names], rows + days),
    ]
    for name in [kind for kind in kinds if len(found[0]["clean"][kind]["families"]) > 1]:
        families = list(found[0]["clean"][name]["families"])
        rows = [
            [f"{each['budget']:g}"]
            + [_rate(r := each["clean"][name]["families"][f], r / each["budget"]) for f in families]
            for each in found
        ]
        parts.append(_rows([f"budget, {name}", *families], rows))
    return "\n".join(parts)


def _rate(rate: float, times: float) -> str:
    return f"{_number(rate, '.3f')} ({_number(times, '.1f')}x)"


def _speed(speed: dict[str, float]) -> str:
    return (
        "## Cost\n\nA thousand series interleaved in batches of 50,000 samples, one core of the machine that "
        "made this page.\n\n"
        + _rows(
            ["", "measured"],
            [
                ["ns a sample, whole engine", f"{speed['ns_per_sample']:,.0f}"],
                ["bytes of state a series, without the times kept", f"{speed['state_bytes']:,.0f}"],
                ["bytes of times kept a series", f"{speed['window_bytes']:,.0f}"],
            ],
        )
    )
