"""The command `tocsin`: reads options and hands over; each command imports what it needs when it runs."""

# ruff: noqa: PLC0415  # a command imports what it needs: `tocsin version` must not wait for NumPy
from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from stream.commands import artifacts, control, dlq
from stream.commands.backtest import backtest
from stream.commands.fit import fit
from stream.commands.incidents import incidents
from stream.commands.score import score
from stream.errors import UserError

USAGE_ERROR: Final = 2
FAILED: Final = 1
INTERRUPTED: Final = 130

app = typer.Typer(
    name="tocsin",
    help="Streaming anomaly detection on Kafka. Begin with `tocsin demo`, or `tocsin up` and `produce`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The YAML file; else $TOCSIN_CONFIG, ./tocsin.yaml, the defaults.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Set one key, as worker.batch_interval_ms=50; may be repeated.", show_default=False
    ),
]
StateDir = Annotated[
    Path, typer.Option(help="Where Kafka and ClickHouse keep their data and everybody logs.")
]


def _load(path: Path | None, overrides: list[str] | None) -> Any:
    from stream import config

    return config.load(path, overrides or []).config


def _load_quiet(path: Path | None, overrides: list[str] | None) -> Any:
    """For commands that print: what the Kafka client has to say would stand in between."""
    cfg = _load(path, overrides)
    from stream import logs

    logs.silence(cfg.log)
    return cfg


@app.command()
def up(
    config: ConfigOption = None,
    overrides: SetOption = None,
    state_dir: StateDir = Path(".tocsin/up"),
    kafka: Annotated[
        bool, typer.Option(help="Start a local Kafka; else use kafka.bootstrap_servers.")
    ] = True,
    clickhouse: Annotated[
        bool, typer.Option(help="Start the embedded ClickHouse; else use clickhouse.host.")
    ] = True,
) -> None:
    """Run everything but notify on this machine, with a Kafka and a ClickHouse, until Ctrl-C."""
    from stream import up as command

    command.run(
        _load(config, overrides), _passed_on(config, overrides), state_dir, kafka=kafka, clickhouse=clickhouse
    )


@app.command()
def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End when all is found, instead of staying up.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A last line of JSON with the numbers.")] = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Start Prometheus and Alertmanager, too, fed by it.")
    ] = False,
    overrides: SetOption = None,
    state_dir: StateDir = Path(".tocsin/demo"),
) -> None:
    """Replay a month of one service's telemetry through everything, and show what was found."""
    from stream import demo as command

    command.run(state_dir, overrides or [], stay=not exit_, as_json=as_json, prometheus=prometheus)


@app.command()
def worker(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Score telemetry: a member of the consumer group, until SIGTERM or Ctrl-C."""
    from stream.commands.check_config import checked

    _run("worker", "stream.worker.worker", checked(config, overrides or []).config)


@app.command()
def sink(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Write scores and anomalies to ClickHouse, until SIGTERM or Ctrl-C."""
    cfg = _load(config, overrides)
    if not cfg.clickhouse.enabled:
        raise UserError("clickhouse.enabled is false, so there is nothing for a sink to do")
    _run("sink", "stream.store.sink", cfg)


@app.command()
def notify(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Relay anomalies to webhooks and Alertmanager (`notify.targets`), until SIGTERM or Ctrl-C."""
    _run("notify", "stream.incidents.notify", _load(config, overrides))


@app.command()
def coordinator(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Ask for new models when they are due, until SIGTERM or Ctrl-C."""
    _run("coordinator", "stream.refresh.coordinator", _load(config, overrides))


@app.command()
def trainer(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Fit models on request: a member of the consumer group, until SIGTERM or Ctrl-C."""
    _run("trainer", "stream.refresh.trainer", _load(config, overrides))


@app.command()
def console(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Serve the HTTP API (see /docs on its port), until SIGTERM or Ctrl-C."""
    # By name: the console is built on this package, which must not depend on it.
    _run("console", "console.serve", _load(config, overrides))


@app.command()
def pages(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Serve the pages for a browser (console.pages_port); they need `tocsin console`."""
    from importlib import import_module

    import_module("console.pages.serve").main(_load(config, overrides), _passed_on(config, overrides))


@app.command()
def refresh(
    series: Annotated[str, typer.Argument(help="The series, as on the topic.", show_default=False)],
    detector: Annotated[
        str, typer.Option(help="Else every detector that a rule has for it.", show_default=False)
    ] = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Ask the trainers for new models of a series now, whatever the timetable says."""
    cfg = _load_quiet(config, overrides)
    from stream.commands import refresh as command

    command.run(cfg, series, detector)


@app.command()
def produce(
    files: Annotated[
        list[str], typer.Argument(help="Files, gzip or not; - is standard input.", show_default=False)
    ],
    config: ConfigOption = None,
    overrides: SetOption = None,
    form: Annotated[
        Literal["auto", "csv", "jsonl", "timeslice"],
        typer.Option(
            "--format",
            help="auto goes by the name: .csv, .jsonl .ndjson .json, .tsv (timeslice), each with .gz.",
        ),
    ] = "auto",
    topic: Annotated[str, typer.Option(help="The topic; else the first input.", show_default=False)] = "",
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Samples a second; else as fast as it goes.", show_default=False),
    ] = None,
    encoding: Annotated[
        Literal["json", "columnar"],
        typer.Option(help="One JSON message a sample, or many samples in a message."),
    ] = "json",
    timestamp_column: Annotated[
        str | None, typer.Option(help="CSV: else timestamp, time, ts, ...", show_default=False)
    ] = None,
    value_column: Annotated[
        list[str] | None,
        typer.Option(
            help="CSV: a column with values, may be repeated; else value, or all the rest.",
            show_default=False,
        ),
    ] = None,
    series_column: Annotated[
        str | None,
        typer.Option(help="CSV: the column with the name of the metric or series.", show_default=False),
    ] = None,
    label_column: Annotated[
        list[str] | None,
        typer.Option(help="CSV: a column that is a label, may be repeated.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="CSV: the metric's name; else the column's or the file's.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="A label for all, as service=shop.", show_default=False),
    ] = None,
    key_by: Annotated[
        list[str] | None,
        typer.Option(
            help="A label whose series land in one partition, as groups want them; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Send files to a telemetry topic; a series always lands in the same partition."""
    cfg = _load_quiet(config, overrides)
    from stream.commands import produce as command
    from stream.files.sources import Columns

    columns = Columns(timestamp_column, value_column or (), metric, series_column, label_column or ())
    command.run(
        cfg,
        files,
        form,
        columns,
        label or [],
        topic=topic or cfg.inputs[0].topic,
        encoding=encoding,
        rate=rate,
        key_by=key_by or [],
    )


@app.command()
def tail(
    config: ConfigOption = None,
    overrides: SetOption = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="How many of the newest to show.")] = 10,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Show all that the topic holds.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The events as they are on the topic, one a line.")
    ] = False,
    series: Annotated[str, typer.Option(help="Only series that match, such as 'web_*'.")] = "*",
) -> None:
    """Show the anomalies on the topic."""
    cfg = _load_quiet(config, overrides)
    from stream import tail as command

    color = sys.stdout.isatty() and not as_json
    count = command.run(
        cfg, last=None if from_beginning else last, follow=follow, series=series, as_json=as_json, color=color
    )
    if count == 0 and not as_json:
        those = "" if series == "*" else f" of a series like {series!r} (a pattern, such as 'web_*')"
        typer.echo(f"No anomalies{those} on {cfg.topics.anomalies.name} yet.", err=True)


app.command()(score)
app.command()(fit)
app.command()(backtest)
app.command()(incidents)
for each in (control.mute, control.mutes, control.unmute, control.label, control.change):
    app.command()(each)


@app.command("check-config")
def check_config(
    file: Annotated[
        Path | None, typer.Argument(help="The YAML file, as with --config.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the whole configuration, defaults included.")
    ] = False,
) -> None:
    """Say all that is wrong with the configuration; exit status 2 if anything is."""
    from stream.commands import check_config as command

    if file is not None and config is not None:
        raise UserError(f"{file} and --config {config}: one of them")
    command.run(file or config, overrides or [], show=show)


topics_app = typer.Typer(no_args_is_help=True, help="List or create the topics of the configuration.")
app.add_typer(topics_app, name="topics")
app.add_typer(dlq.app, name="dlq")
app.add_typer(artifacts.app, name="artifacts")


@topics_app.command("list")
def topics_list(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Show the topics of the configuration and what Kafka has of them."""
    from stream.commands import topics as command

    command.show(_load_quiet(config, overrides))


@topics_app.command("create")
def topics_create(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Create the topics that are missing; those that exist stay as they are."""
    from stream.commands import topics as command

    command.create(_load_quiet(config, overrides))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    typer.echo(f"tocsin {version_of('tocsin')}")


def _passed_on(config: Path | None, overrides: list[str] | None) -> list[str]:
    """The options that give a child process the same configuration."""
    options = [] if config is None else ["--config", str(config.resolve())]
    for override in overrides or []:
        options += ["--set", override]
    return options


def _run(name: str, module: str, cfg: Any) -> None:
    """Run the process of a module until a signal; without a broker, a sentence instead of a traceback."""
    from importlib import import_module

    from stream import logs
    from stream.files.produce import no_broker
    from stream.kafka import KafkaConnectionError

    command = import_module(module)
    logs.configure(cfg.log, name)
    try:
        command.main(cfg)
    except (KafkaConnectionError, TimeoutError) as error:
        raise no_broker(cfg.kafka) from error


def main() -> None:
    """Entry point: turns mistakes of people into a line on standard error and an exit status."""
    # Supervisors end us with SIGTERM, people with Ctrl-C: one way out for both, and children are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `tocsin score ... | head`
        sys.stderr.close()
        sys.exit(FAILED)
    except Exception as error:
        if not _is_for_people(error):
            raise
        typer.echo(f"{typer.style('error:', fg='red', bold=True)} {error}", err=True)
        sys.exit(USAGE_ERROR)


def _is_for_people(error: Exception) -> bool:
    from stream.config import ConfigError
    from stream.local import LocalRuntimeError

    return isinstance(error, UserError | ConfigError | LocalRuntimeError)


if __name__ == "__main__":
    main()
