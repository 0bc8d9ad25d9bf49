"""What `tocsin demo` prints in the end: the anomalies, the numbers, and how to look further."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream import observe

if TYPE_CHECKING:
    from stream.up import Stack


STRONGEST: Final = 15
"""Anomalies in the table; the others are counted."""

WORST: Final = 3
"""Incidents in words."""

# Of each anomaly the revision with the highest score, for the last one tells of the quiet that closed it.
_ANOMALIES: Final = """
SELECT formatDateTime(started, '%Y-%m-%d') AS day, formatDateTime(started, '%m-%d %H:%i') AS time,
       metric, kind, severity, peak_score, actual, lower, upper
FROM (SELECT * FROM anomalies FINAL ORDER BY score DESC LIMIT 1 BY anomaly_id)
ORDER BY peak_score DESC LIMIT {limit}
"""

_INCIDENTS: Final = """
SELECT formatDateTime(started, '%m-%d %H:%i') AS time, title, reason, severity
FROM incidents_latest WHERE merged_into IS NULL AND series > 1
ORDER BY series DESC, peak_score DESC LIMIT {limit}
"""

# Of each model the anomalies that it spoke for, and those of them that no online detector did; and what its
# shadow report says, where there was a model before it: agreement, false alarms of both.
_MODELS: Final = """
SELECT detector, series, formatDateTime(trained_to, '%m-%d %H:%i') AS trained, report,
       spoke.n AS spoke_for, spoke.added AS alone
FROM artifacts FINAL
LEFT JOIN (
    SELECT arrayJoin(spoke) AS artifact, toUInt32(count()) AS n,
           toUInt32(countIf(NOT has(spoke, ''))) AS added
    FROM (SELECT groupUniqArrayArray(detectors.artifact) AS spoke FROM anomalies FINAL GROUP BY anomaly_id)
    GROUP BY artifact
) AS spoke ON artifact = artifact_id
ORDER BY detector, series, trained_to
"""

_COLORS: Final = {"info": "cyan", "warning": "yellow", "critical": "red"}


class Result(NamedTuple):
    """What a replay came to: the last line of `--json`."""

    samples: int
    anomalies: int
    incidents: int
    clickhouse_rows: int
    seconds: float
    samples_per_s: float


def show(console: Console, stack: Stack, file: Path, result: Result) -> None:
    """Everything that is read here comes from ClickHouse, as a dashboard would read it."""
    found = observe.query(stack.cfg.clickhouse, _ANOMALIES.format(limit=STRONGEST))
    console.print(_table(found, result.anomalies))
    _incidents(console, stack, result.incidents)
    console.print(
        f"{result.samples:,} samples scored, {result.clickhouse_rows:,} rows in ClickHouse, "
        f"{result.anomalies} anomalies, in {result.seconds:.1f} s: "
        f"[bold]{result.samples_per_s:,.0f} samples a second[/bold] from file to database.\n"
    )
    if stack.cfg.refresh.rules:
        _models(console, stack)
    _further(console, stack, file)


def _incidents(console: Console, stack: Stack, count: int) -> None:
    """The worst that concern several series, in words."""
    found = observe.query(stack.cfg.clickhouse, _INCIDENTS.format(limit=WORST))
    console.print(
        f"[bold]Incidents[/bold]: the anomalies are {count} incidents; the worst that concern several series:"
    )
    for row in found:
        color = _COLORS.get(row["severity"], "")
        console.print(f"  [{color}]{row['time']}  {escape(row['title'])}[/{color}]", soft_wrap=True)
        console.print(f"    {row['reason']}", markup=False)
    console.print()


def _models(console: Console, stack: Stack) -> None:
    """What each refresh has changed: the anomalies that a model spoke for, its difference from the last."""
    table = Table(
        title="Models fitted on the way, by the time of the samples",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("model", "series", "trained to"):
        table.add_column(name, no_wrap=True)
    for name in ("anomalies", "alone", "agrees", "alarms"):
        table.add_column(name, justify="right", no_wrap=True)
    found = observe.query(stack.cfg.clickhouse, _MODELS)
    for row in found:
        report = json.loads(row["report"])
        agrees, alarms = "", str(report["false_alarms"])
        if "serving" in report:
            agrees, alarms = f"{report['agreement']:.1%}", f"{report['serving_false_alarms']} -> {alarms}"
        series = row["series"].partition("{")[0]
        table.add_row(
            row["detector"], series, row["trained"], str(row["spoke_for"]), str(row["alone"]), agrees, alarms
        )
    console.print(table)
    days = stack.cfg.trainer.shadow_ms / 86_400_000
    adopted = int(observe.total(stack.services[0].metrics_url, "tocsin_artifacts_adopted_total"))
    console.print(
        f"{len(found)} models were fitted for {len({(r['detector'], r['series']) for r in found})} places, "
        f"{adopted} adopted. Anomalies: those that the model spoke for, and those that models [i]alone[/i] "
        f"found. On the last {days:g} days of its history: the share of samples on which it agrees with the "
        f"model before it, and the alarms of both. All of it: `{_program()} artifacts list`.\n"
    )


def _table(found: list[dict[str, Any]], anomalies: int) -> Table:
    """Narrow enough for a terminal of 80 columns."""
    found = sorted(found, key=lambda row: (row["day"], row["time"]))
    days = f" ({found[0]['day']} to {found[-1]['day']})" if found else ""
    shown = f"the strongest {len(found)} of {anomalies}" if anomalies > len(found) else f"all {anomalies}"
    table = Table(
        title=f"Anomalies, {shown}{days}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in ("time (UTC)", "series", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("actual", "expected band", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found:
        color = _COLORS.get(row["severity"], "")
        table.add_row(
            row["time"],
            row["metric"],
            f"[{color}]{row['kind']}[/{color}]",
            _narrow(row["actual"]),
            f"{_narrow(row['lower'])} to {_narrow(row['upper'])}",
            f"{row['peak_score']:.2f}",
        )
    return table


def _narrow(number: float | None) -> str:
    """Three digits that count, and no exponent where thousands are as short."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e6 else f"{number:.3g}"


def _further(console: Console, stack: Stack, file: Path) -> None:
    cfg, program = stack.cfg, _program()
    store = cfg.clickhouse
    sql = (
        "SELECT started, series, kind, peak_score, reason FROM anomalies_latest ORDER BY started DESC LIMIT 5"
    )
    option = "" if _is_default(stack) else f" --config {_relative(file)}"
    console.print("[bold]Look further[/bold] (in another terminal)")
    lines = {
        f"topic {cfg.topics.anomalies.name}": f"{program} tail --from-beginning{option}",
        "incidents": f"{program} incidents{option}",
        "SQL": f"curl -s '{store.host}:{store.port}/?database={store.database}' -d \"{sql} FORMAT Vertical\"",
        "metrics": f"curl -s {stack.services[0].metrics_url}",
        "your data": f"{program} produce FILE.csv{option}",
    }
    for service in stack.fronts:
        title = "in a browser" if service.child.name == "pages" else "HTTP API"
        lines[title] = service.url if service.child.name == "pages" else f"{service.url}/docs"
    for name, command in lines.items():
        console.print(f"  {name:<24} {command}", markup=False, soft_wrap=True)


def _is_default(stack: Stack) -> bool:
    """Whether commands find all of it without options."""
    from schemas.config import Config  # noqa: PLC0415

    return stack.cfg.kafka == Config().kafka and stack.cfg.topics == Config().topics


def _program() -> str:
    """How the reader calls us."""
    called = Path(sys.argv[0])
    return "tocsin" if shutil.which("tocsin") == str(called) else str(_relative(called))


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path
