"""What `tocsin score` does around `stream.score`: where the rows go, and the picture."""

# ruff: noqa: PLC0415  # matplotlib takes a second to import, and need not be installed
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from schemas import config
from stream.errors import UserError
from stream.score import Choice, Row, score_file, write, write_file


def run(cfg: config.Config, file: str, choice: Choice, output: Path | None, plot: Path | None) -> None:
    """Score the file; the summary goes to standard error, for the rows may be piped on."""
    rows = score_file(file, choice, cfg)
    kept: list[Row] = []
    if plot is not None:
        _need_matplotlib(plot)
        rows = _keep(rows, kept)
    try:
        count, anomalies = write(rows, sys.stdout) if output is None else write_file(rows, output)
    except OSError as error:
        if output is None or isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"{output}: {error.strerror}") from None
    if plot is not None:
        from stream.plot import draw

        draw(kept, choice.series or choice.value or "value", plot)
    if output is not None or plot is not None:
        typer.echo(f"{count:,} rows scored, {anomalies} anomalies", err=True)


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
