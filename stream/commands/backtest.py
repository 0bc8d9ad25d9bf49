"""`tocsin backtest`: its options, the progress bar, the tables, and where the report goes."""

# ruff: noqa: PLC0415  # a command imports what it needs: `tocsin version` must not wait for NumPy
from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from schemas.config import Config
    from stream.files.backtest import Configuration, Measures, Replayed
    from stream.files.labelled import Labelled, Windows
    from stream.files.sources import Columns

Paths = Annotated[
    list[str] | None,
    typer.Argument(help="CSV or JSON lines, gzip or not; none with --series.", show_default=False),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="A YAML file; repeat it to compare.", show_default=False),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set one key in every configuration; may be repeated.", show_default=False),
]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        help="One more configuration: the first with keys set, as 'engine.alert_budget=0.3'.",
        show_default=False,
    ),
]
LabelFile = Annotated[
    Path | None,
    typer.Option(
        "--labels", help='Labelled times: JSON such as {"cpu.csv": [["from", "to"]]}.', show_default=False
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="CSV: the column with 1 or 0; else label, beside value.", show_default=False),
]
SeriesOption = Annotated[
    str | None,
    typer.Option("--series", help="Replay from ClickHouse: series such as 'web_*'.", show_default=False),
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="First time of the range (UTC), inside.", show_default=False)
]
ToOption = Annotated[str | None, typer.Option("--to", help="End of the range, outside.", show_default=False)]
Timestamp = Annotated[str | None, typer.Option(help="CSV: else timestamp, time, ...", show_default=False)]
Values = Annotated[
    list[str] | None,
    typer.Option(help="CSV: a column with values, may be repeated; else value, or all.", show_default=False),
]
Named = Annotated[
    str | None, typer.Option(help="CSV: the column with the name of the series.", show_default=False)
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Write an HTML page with plots.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="The numbers as JSON instead of a table.")]


def backtest(
    files: Paths = None,
    configs: Configs = None,
    overrides: Sets = None,
    variants: Variants = None,
    labels: LabelFile = None,
    label_column: LabelColumn = None,
    series: SeriesOption = None,
    start: FromOption = None,
    end: ToOption = None,
    timestamp_column: Timestamp = None,
    value_column: Values = None,
    series_column: Named = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay files or stored telemetry through the worker's engine, and tell how good the alerts would be.

    With labels: precision, recall and F1 of alerts against labelled segments, false alarms, delay. Without:
    how many alerts, and how far the configurations agree.
    """
    from stream.files.sources import Columns

    compared = _configurations(configs or [], overrides or [], variants or [])
    columns = Columns(timestamp_column, value_column or (), None, series_column)
    found = _read(compared[0].config, files or [], columns, label_column, labels, (series, start, end))
    runs = _replay(compared, found)
    _show(compared, runs, report, as_json=as_json)


def _configurations(
    paths: Sequence[Path], overrides: Sequence[str], variants: Sequence[str]
) -> list[Configuration]:
    from stream import config
    from stream.files.backtest import Configuration

    first = paths[0] if paths else None
    made = []
    files: Sequence[Path | None] = paths or [None]
    for path in files:
        loaded = config.load(path, overrides)
        made.append(Configuration(str(loaded.path or "default"), loaded.config))
    for variant in variants:
        keys = shlex.split(variant)
        made.append(Configuration(variant, config.load(first, [*overrides, *keys]).config))
    for each in made:
        _check_detectors(each)
    return made


def _check_detectors(each: Configuration) -> None:
    """Parameters of detectors are known only to them."""
    from detectors import registry

    for detector in each.config.engine.detectors:
        try:
            registry.load(detector.name).create(detector.params, each.config.engine.seed)
        except ValueError as error:
            raise UserError(f"{each.name}: {error}") from None


def _read(
    cfg: Config,
    files: Sequence[str],
    columns: Columns,
    label_column: str | None,
    labels: Path | None,
    stored: tuple[str | None, str | None, str | None],
) -> list[Labelled]:
    from stream.files.labelled import Windows, read_files

    if bool(files) == (stored[0] is not None):
        raise UserError("name files to replay, or series in ClickHouse with --series, --from and --to")
    windows = Windows(labels) if labels is not None else None
    if files:
        return read_files(files, columns, label_column, windows)
    return _read_stored(cfg, *stored, windows)


def _read_stored(
    cfg: Config, series: str | None, start: str | None, end: str | None, windows: Windows | None
) -> list[Labelled]:
    from stream.files.labelled import read_range
    from stream.files.tables import parse_time
    from stream.store.clickhouse import Client, UnavailableError, no_clickhouse

    if series is None or start is None or end is None:
        raise UserError("--series needs --from and --to, such as --from 2024-04-15 --to 2024-05-16")
    try:
        span = parse_time(start), parse_time(end)
    except ValueError as error:
        raise UserError(f"--from and --to: {error}") from None
    if span[0] >= span[1]:
        raise UserError(f"--from {start} is not before --to {end}")
    try:
        client = Client.connect(cfg.clickhouse)
        try:
            return read_range(client, series, *span, windows)
        finally:
            client.close()
    except UnavailableError as error:
        raise no_clickhouse(error) from error


def _replay(compared: Sequence[Configuration], found: Sequence[Labelled]) -> list[list[Replayed]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stream.files.backtest import replay

    samples = sum(len(each.ts_ms) for each in found)
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    runs = []
    with Progress(*bar, console=Console(stderr=True), transient=True) as progress:
        for each in compared:
            task = progress.add_task(each.name, total=samples)

            def tell(done: int, task: Any = task) -> None:
                progress.advance(task, done)

            runs.append(replay(each.config, found, tell))
    return runs


def _show(
    compared: Sequence[Configuration],
    runs: Sequence[Sequence[Replayed]],
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    from rich.console import Console

    from stream.files.backtest import agreements, measure

    measures = [measure(each.name, run) for each, run in zip(compared, runs, strict=True)]
    agreed = agreements(runs)
    if as_json:
        typer.echo(json.dumps(_as_json(measures, agreed)))
    else:
        _print(Console(highlight=False), measures, agreed)
    if report is None:
        return
    from stream.files.report_html import Report, render

    try:
        report.write_text(render(Report(measures, agreed, runs)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{report}: {error.strerror}") from None
    sys.stderr.write(f"report: {report}\n")


def _as_json(measures: Sequence[Measures], agreed: Sequence[Sequence[float]]) -> dict[str, Any]:
    rows = [{key: _plain(value) for key, value in each._asdict().items()} for each in measures]
    return {"configurations": rows, "agreement": [[_plain(x) for x in row] for row in agreed]}


def _plain(value: Any) -> Any:
    """NaN is null: JSON has no other word for it."""
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 (NaN)


def _print(console: Console, measures: Sequence[Measures], agreed: Sequence[Sequence[float]]) -> None:
    """A column a configuration, so that names and numbers fit on a screen."""
    from rich import box
    from rich.table import Table

    from stream.files.backtest import COLUMNS, told

    first = measures[0]
    labels = f"{first.labelled_series} labelled" if first.labelled_series else "no labels"
    console.print(
        f"{first.series:,} series ({labels}), {first.samples:,} samples, {first.series_days:,.1f} series-days"
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for each in measures:
        table.add_column(each.configuration, justify="right", overflow="fold")
    for head, key, form in COLUMNS:
        values = [getattr(each, key) for each in measures]
        if any(value is not None for value in values):
            table.add_row(head, *[told(value, form) for value in values])
    for name, row in zip((each.configuration for each in measures), agreed, strict=True):
        if len(measures) > 1:
            table.add_row(f"agreement with {name}", *[told(x, ".0%") for x in row])
    console.print(table)
