"""`tocsin artifacts`: what models there are, and putting one into use."""

# ruff: noqa: PLC0415  # a command imports what it needs: `tocsin version` must not wait for NumPy
from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Fitted models: show them, adopt one, go back.")

Config = Annotated[
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


@app.command("list")
def list_(config: Config = None, overrides: Sets = None) -> None:
    """Show the models on the topic: in use, or waiting to be adopted."""
    from rich.console import Console
    from rich.table import Table

    from stream.refresh import artifacts

    shown = _ask(config, overrides, artifacts.on_topic)
    table = Table(box=None, pad_edge=False)
    for name in ("artifact", "detector", "series", "state", "trained to", "bytes", "report"):
        table.add_column(name, overflow="fold")
    for each in sorted(shown, key=lambda s: (s.manifest.detector, s.manifest.series, not s.serving)):
        manifest = each.manifest
        trained = datetime.fromtimestamp(manifest.trained_to_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        report = ", ".join(f"{k} {v}" for k, v in manifest.report.items())
        state = "serving" if each.serving else "candidate"
        table.add_row(
            manifest.artifact_id,
            manifest.detector,
            manifest.series,
            state,
            trained,
            f"{manifest.size:,}",
            report,
        )
    Console(highlight=False, markup=False).print(table)


@app.command()
def show(artifact_id: str, config: Config = None, overrides: Sets = None) -> None:
    """Print the manifest of a model on the topic, with its shadow report, as JSON."""
    import msgspec

    from stream.errors import UserError
    from stream.refresh import artifacts

    for each in _ask(config, overrides, artifacts.on_topic):
        if each.manifest.artifact_id == artifact_id:
            told = {"serving": each.serving, **msgspec.to_builtins(each.manifest)}
            typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
            return
    raise UserError(f"there is no artifact {artifact_id}: `tocsin artifacts list` shows what there is")


@app.command()
def adopt(artifact_id: str, config: Config = None, overrides: Sets = None) -> None:
    """Put a model into use: workers take it over with their next batch."""
    from stream.refresh import artifacts

    manifest = _ask(config, overrides, lambda cfg: artifacts.adopt(cfg, artifact_id))
    typer.echo(f"{manifest.artifact_id} serves {manifest.series} ({manifest.detector})")


@app.command()
def rollback(detector: str, series: str, config: Config = None, overrides: Sets = None) -> None:
    """Put the model into use that was fitted before the serving one."""
    from stream.refresh import artifacts

    manifest = _ask(config, overrides, lambda cfg: artifacts.rollback(cfg, detector, series))
    typer.echo(f"{manifest.artifact_id} serves {manifest.series} ({manifest.detector})")


def _ask(path: Path | None, overrides: list[str] | None, asking: Any) -> Any:
    from stream import config, logs
    from stream.files.produce import no_broker
    from stream.kafka import KafkaError

    cfg = config.load(path, overrides or []).config
    logs.silence(cfg.log)
    coroutine: Coroutine[Any, Any, Any] = asking(cfg)
    try:
        return asyncio.run(coroutine)
    except (KafkaError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error
