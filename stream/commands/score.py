"""`tocsin score`: its options, where the rows go, and the picture."""

# ruff: noqa: PLC0415  # a command imports what it needs: `tocsin version` must not wait for NumPy
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands.fit import ConfigFile, File, Params, Sets, TimestampColumn, ValueColumn
from stream.errors import UserError

if TYPE_CHECKING:
    from schemas.config import Config
    from stream.files.score import Model, Row


def score(
    file: File,
    config: ConfigFile = None,
    overrides: Sets = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here; else to standard output.", show_default=False),
    ] = None,
    timestamp_column: TimestampColumn = None,
    value_column: ValueColumn = None,
    series: Annotated[
        str | None,
        typer.Option(
            help="The series' name, as on Kafka, for equal ids; else the column.", show_default=False
        ),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="This one alone; else those configured.", show_default=False)
    ] = None,
    params: Params = None,
    model: Annotated[
        Path | None, typer.Option(help="Score with this model, of `tocsin fit`.", show_default=False)
    ] = None,
    train_until: Annotated[
        str | None,
        typer.Option(
            help="Fit a model on the rows before this time, and score those after it.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw a picture, too (.png or .svg; needs matplotlib).", show_default=False),
    ] = None,
) -> None:
    """Score a CSV file with the worker's engine, without Kafka; one row out for each row in.

    Times are ISO 8601, Unix seconds or Unix milliseconds; an empty or NaN value is a gap that keeps its row.
    A detector that is fitted needs --model or --train-until.
    """
    from stream import config as loader
    from stream.files.score import Choice, score_file

    cfg = loader.load(config, overrides or []).config
    chosen = None
    if detector is not None:
        cfg, chosen = _with_detector(cfg, detector, params or [], model, train_until)
    elif params or model or train_until:
        raise UserError("--param, --model and --train-until are about one detector: name it with --detector")
    rows = score_file(file, Choice(timestamp_column, value_column, series), cfg, chosen)
    _write(rows, series or value_column or "value", output, plot)


def _with_detector(
    cfg: Config, name: str, params: list[str], file: Path | None, until: str | None
) -> tuple[Config, Model | None]:
    """The configuration with one detector, and its model where it needs one."""
    from stream.files.score import Model
    from stream.refresh import offline

    cfg = offline.alone(cfg, name, params)
    if not offline.is_fitted(cfg) and file is None and until is None:
        return cfg, None
    learner = offline.learner(cfg)
    if (file is None) == (until is None):
        raise UserError(f"{learner.detector.name} is fitted: give either --model or --train-until")
    if file is not None:
        return cfg, Model(learner, offline.load(file))
    return cfg, Model(learner, from_ms=offline.moment("--train-until", until))


def _write(
    rows: Iterator[tuple[tuple[str, str], Row]], title: str, output: Path | None, plot: Path | None
) -> None:
    """The summary goes to standard error, for the rows may be piped on."""
    from stream.files.score import write, write_file

    kept: list[Row] = []
    if plot is not None:
        _need_matplotlib(plot)
        rows = _keep(rows, kept)
    try:
        summary = write(rows, sys.stdout) if output is None else write_file(rows, output)
    except OSError as error:
        if output is None or isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"{output}: {error.strerror}") from None
    if plot is not None:
        from stream.files.plot import draw

        draw(kept, title, plot)
    if output is not None or plot is not None:
        found = "1 anomaly" if summary.anomalies == 1 else f"{summary.anomalies} anomalies"
        typer.echo(f"{summary.rows:,} rows, {summary.scored:,} scored, {found}", err=True)
    if summary.rows and not summary.scored:
        typer.echo("No row has a score: a series is scored once it has engine.warm_up_samples.", err=True)
    if summary.behind:
        typer.echo(
            f"Not later than a row before them: {summary.behind:,} rows. A late one is scored, not learned; "
            "a second one of the same time is ignored. Sort the file; several series go into several files.",
            err=True,
        )


def _keep(
    rows: Iterator[tuple[tuple[str, str], Row]], kept: list[Row]
) -> Iterator[tuple[tuple[str, str], Row]]:
    for texts, row in rows:
        kept.append(row)
        yield texts, row


def _need_matplotlib(plot: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib, which is not installed: pip install matplotlib")
    if plot.suffix not in {".png", ".svg", ".pdf"}:
        raise UserError(f"--plot {plot}: the name must end with .png, .svg or .pdf")
