"""`tocsin fit`: a model of a file, as a file, without Kafka."""

# ruff: noqa: PLC0415  # a command imports what it needs: `tocsin version` must not wait for NumPy
from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The YAML file; else $TOCSIN_CONFIG, ./tocsin.yaml, the defaults.",
        show_default=False,
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Set one key; may be repeated.", show_default=False)
]
File = Annotated[
    str, typer.Argument(help="A CSV file, gzip or not; - is standard input.", show_default=False)
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        help="A parameter of the detector, as n_estimators=50; may be repeated.",
        show_default=False,
    ),
]
TimestampColumn = Annotated[
    str | None, typer.Option(help="Else timestamp, time, ts, ...", show_default=False)
]
ValueColumn = Annotated[str | None, typer.Option(help="Else value.", show_default=False)]


def fit(
    file: File,
    detector: Annotated[
        str, typer.Option(help="A detector that is fitted, such as prophet or iforest.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model (safetensors).", show_default=False)
    ],
    params: Params = None,
    until: Annotated[
        str | None, typer.Option(help="Only rows before this time; else all.", show_default=False)
    ] = None,
    timestamp_column: TimestampColumn = None,
    value_column: ValueColumn = None,
    config: ConfigFile = None,
    overrides: Sets = None,
) -> None:
    """Fit a model on a column of a CSV file; `tocsin score --model` scores with it."""
    from stream import config as loader
    from stream.files.score import Choice, read
    from stream.refresh import offline

    cfg = offline.alone(loader.load(config, overrides or []).config, detector, params or [])
    learner = offline.learner(cfg)
    end_ms = offline.moment("--until", until)
    rows = [row for row in read(file, Choice(timestamp_column, value_column)) if row.ts_ms < end_ms]
    began = time.monotonic()
    made = learner.fit([row.ts_ms for row in rows], [row.number for row in rows])
    seconds = time.monotonic() - began
    size = offline.save(output, made)
    typer.echo(
        f"{learner.detector.name} fitted on {len(rows):,} rows in {seconds:.1f} s: {output}, {size:,} bytes",
        err=True,
    )
