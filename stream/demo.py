"""`tocsin demo`: a month of one service's telemetry through real parts on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from detectors import registry
from schemas import config
from schemas.matcher import Matcher
from schemas.series import Series
from stream import config as loader
from stream import demo_report as report
from stream import observe, tail
from stream.errors import UserError
from stream.files.produce import CHUNK, Sent, produce
from stream.files.sources import Chunk, Columns, Lines, read
from stream.files.tables import Meter
from stream.local import monitoring
from stream.local.process import LOOPBACK, LocalRuntimeError, free_port, require_free_port
from stream.up import Stack, clear

TELEMETRY: Final = Path(__file__).resolve().parents[1] / "examples" / "redlab" / "telemetry.csv.gz"
LABELS: Final = {"service": "redlab"}

DEFAULT_KAFKA_PORT: Final = 9092
PARTITIONS: Final = 4
"""Of the telemetry topic, which has as many series."""

DAY_MS: Final = 86_400_000


def _rule(detector: str, match: str) -> config.RefreshRule:
    """Fitted after ten days of the month, and again after ten more: by the time of the samples."""
    return config.RefreshRule(
        detector=detector,
        match=match,
        min_history_ms=10 * DAY_MS,
        history_ms=10 * DAY_MS,
        refresh_every_ms=10 * DAY_MS,
        on_drift=False,
        deadline_ms=60_000,
    )


MODELS: Final = [_rule("iforest", "*"), _rule("prophet", "*"), _rule("aer", "web_response")]
"""What is fitted on the way. AER scores a few thousand samples a second, so it gets one series."""

PARAMS: Final[dict[str, dict[str, Any]]] = {
    "iforest": {"n_estimators": 50},
    "prophet": {"max_samples": 2000, "horizon_ms": 25 * DAY_MS},
    "aer": {"epochs": 5, "max_windows": 512},
}
"""Cheap ones, for a month passes in seconds."""

SHADOW_MS: Final = 2 * DAY_MS
"""Of the history a new model is tried on so much; a week takes AER some seconds."""

WEIGHT: Final = 0.2
"""Of a model, beside the default detectors with 1."""

PAUSES: Final = (0.5, 0.85)
"""Shares of the month after which the replay waits for the models that are due, once each by then: it passes
so fast that it would be over before the first fit."""

MODELS_TIMEOUT_S: Final = 90.0
"""For those fits, which take ten seconds where nothing else runs; the replay goes on without what is not
there by then."""

STALL_S: Final = 60.0
"""Without any progress for this long the demo has failed."""

START_S: Final = 240.0
"""For the worker to begin: the first one compiles, which takes a minute, and several on a busy machine."""

_LOOK_EVERY_S: Final = 0.15


class Progressed(NamedTuple):
    """How far everybody is, as they say themselves."""

    sent: int = 0
    scored: int = 0  # samples that the worker has committed, dead letters included
    events: int = 0  # anomaly events that the worker has committed
    rows: int = 0  # of samples, that ClickHouse has acknowledged to the sink
    event_rows: int = 0
    models: int = 0
    grouped: int = 0  # anomaly events that the coordinator has committed as parts of incidents
    incidents: int = 0  # revisions of incidents that it has committed
    incident_rows: int = 0

    def done(self, samples: int) -> bool:
        caught_up = (
            self.rows >= self.scored
            and min(self.event_rows, self.grouped) >= self.events
            and self.incident_rows >= self.incidents
        )
        return self.sent >= samples and self.scored >= samples and caught_up


def run(folder: Path, overrides: list[str], *, stay: bool, as_json: bool, prometheus: bool = False) -> None:
    """Do it all; with ``stay``, return at Ctrl-C; with ``prometheus``, feed one and an Alertmanager.

    Raises `UserError` or `LocalRuntimeError`.
    """
    if not TELEMETRY.exists():
        raise UserError(f"{TELEMETRY} is missing: `tocsin demo` runs from a checkout of Tocsin")
    if prometheus and (lacking := monitoring.missing()):
        raise UserError(f"--prometheus: {lacking}")
    # With --json the last line of standard output is for a machine; people read standard error.
    console = Console(highlight=False, stderr=as_json)
    clear(folder)
    cfg, file = _configure(folder, overrides)
    with Stack(cfg, ["--config", str(file)], folder) as stack, contextlib.ExitStack() as watchers:
        with console.status("Starting ...") as status:
            stack.start(lambda text: status.update(f"Starting: {text} ..."))
            _wait_until_running(stack)
        urls = {service.child.name: service.metrics_url for service in stack.services}
        watching = watchers.enter_context(monitoring.Monitoring(folder, urls)) if prometheus else None
        result = asyncio.run(_replay(stack, console))
        report.show(console, stack, file, result)
        if watching is not None:
            console.print(f"  {'Prometheus':<24} {watching.prometheus_url}/alerts", soft_wrap=True)
            console.print(f"  {'Alertmanager':<24} {watching.alertmanager_url}", soft_wrap=True)
        if as_json:
            print(msgspec.json.encode(result._asdict()).decode(), flush=True)
        if stay:
            console.print("\nEverything stays up until you press Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                stack.watch(lambda text: console.print(text, markup=False, soft_wrap=True))
            console.print("Stopping ...")


def _configure(folder: Path, overrides: list[str]) -> tuple[config.Config, Path]:
    """The configuration, written down for the children and for further commands of the reader."""
    defaults = config.Config()
    models = [rule for rule in MODELS if rule.detector in registry.names()]
    chosen = {
        "kafka": {"bootstrap_servers": f"{LOOPBACK}:{_port(DEFAULT_KAFKA_PORT)}"},
        "inputs": [{"topic": defaults.inputs[0].topic, "partitions": PARTITIONS}],
        "clickhouse": {"port": _port(defaults.clickhouse.port)},
        "metrics": {
            "worker_port": _port(defaults.metrics.worker_port),
            "sink_port": _port(defaults.metrics.sink_port),
            "coordinator_port": _port(defaults.metrics.coordinator_port),
            "trainer_port": _port(defaults.metrics.trainer_port),
        },
        "console": {
            "port": _port(defaults.console.port),
            "pages_port": _port(defaults.console.pages_port),
        },
        "engine": {"detectors": _detectors(defaults, models)},
        "refresh": {"rules": [msgspec.to_builtins(rule) for rule in models], "check_every_ms": 200},
        "trainer": {"shadow_ms": SHADOW_MS},
        "snapshots": {"url": str(folder.resolve() / "snapshots")},
    }
    cfg = loader.parse(yaml.safe_dump(chosen), overrides)
    differing = _difference(msgspec.to_builtins(cfg), msgspec.to_builtins(defaults))
    text = yaml.safe_dump(differing, sort_keys=False)
    file = folder / "tocsin.yaml"
    file.write_text(f"# Written by `tocsin demo`: what differs from the defaults.\n{text}", encoding="utf-8")
    return cfg, file


def _detectors(defaults: config.Config, models: list[config.RefreshRule]) -> list[Any]:
    """The default ones, and the models beside them."""
    added = [
        config.DetectorConfig(name=rule.detector, params=PARAMS.get(rule.detector, {}), weight=WEIGHT)
        for rule in models
    ]
    return [msgspec.to_builtins(each) for each in [*defaults.engine.detectors, *added]]


def _port(wanted: int) -> int:
    """The usual port, so that commands without options find it; a free one where that is taken."""
    try:
        require_free_port(wanted, "the demo")
    except LocalRuntimeError:
        return free_port()
    return wanted


def _difference(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            value = _difference(value, defaults[key])  # noqa: PLW2901
            if not value:
                continue
        elif value == defaults.get(key):
            continue
        found[key] = value
    return found


def _wait_until_running(stack: Stack) -> None:
    """Until the worker has its partitions: what is measured afterwards is work and not a start."""
    url = stack.services[0].metrics_url
    deadline = time.monotonic() + START_S
    while observe.total(url, "tocsin_partition_state", 'state="running"') < PARTITIONS:
        _check(stack, deadline, f"the worker has not taken its partitions in {START_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)


async def _replay(stack: Stack, console: Console) -> report.Result:
    """Send the month, follow it through all parts, and read the result from where it ended up."""
    chunks = list(read(str(TELEMETRY), "csv", Columns(), LABELS, CHUNK, Meter()))
    samples = sum(len(chunk.ts_ms) for chunk in chunks if not isinstance(chunk, Lines))
    began = time.monotonic()
    with _bars(console) as bars:
        waited_s = await _follow(stack, chunks, samples, bars)
    seconds = time.monotonic() - began - waited_s
    store, url = stack.cfg.clickhouse, stack.services[0].metrics_url
    scored = int(observe.total(url, "tocsin_samples_total"))
    on_topic = [told async for told in tail.read(stack.cfg, last=None, follow=False)]
    anomalies = {told.event.anomaly_id for told in on_topic}
    stored = observe.count(store, "uniqExact(anomaly_id)", "anomalies")
    if stored != len(anomalies):
        raise UserError(f"{len(anomalies)} anomalies are on the topic, but {stored} are in ClickHouse: a bug")
    rows = observe.count(store, "count()", "telemetry FINAL")
    incidents = observe.count(store, "count()", "incidents_latest WHERE merged_into IS NULL")
    return report.Result(scored, stored, incidents, rows, round(seconds, 2), round(scored / seconds))


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


async def _follow(stack: Stack, chunks: list[Chunk], samples: int, bars: Progress) -> float:
    """Returns the seconds that the replay waited for models."""
    names = ("sent to Kafka", "scored by the worker", "stored in ClickHouse")
    tasks = [bars.add_task(name, total=samples, note="") for name in names]
    sent = before = 0
    waited_s, waiting = 0.0, False  # for models: then nothing else moves

    def tell(so_far: Sent) -> None:
        nonlocal sent
        sent = before + so_far.samples + so_far.gaps

    async def send() -> None:
        nonlocal before, waited_s, waiting
        wanted, first = _wanted(chunks, stack.cfg.refresh.rules), 0
        for times, share in enumerate((*PAUSES, 1.0), 1):
            last = int(len(chunks) * share)
            await produce(stack.cfg.kafka, stack.cfg.inputs[0].topic, chunks[first:last], progress=tell)
            before, first = sent, last
            if share < 1.0:
                waiting = True
                waited_s += await _models(stack, before, times * wanted)
                waiting = False

    producing = asyncio.create_task(send())
    try:
        seen, deadline = Progressed(), time.monotonic() + STALL_S
        while not (producing.done() and seen.done(samples)):
            now = await asyncio.to_thread(_look, stack, sent)
            if now != seen or waiting:
                seen, deadline = now, time.monotonic() + STALL_S
            for task, done in zip(tasks, (seen.sent, seen.scored, seen.rows), strict=True):
                bars.update(task, completed=done)
            bars.update(tasks[1], note=f"{seen.events} anomaly events")
            _check(stack, deadline, f"nothing has moved for {STALL_S:.0f} s ({seen})")
            if producing.done():
                producing.result()  # raises what went wrong
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        producing.cancel()
    return waited_s


def _wanted(chunks: list[Chunk], rules: list[config.RefreshRule]) -> int:
    """How many models serve, once each has been fitted."""
    names = {name for chunk in chunks if not isinstance(chunk, Lines) for name in chunk.series}
    series, matchers = [Series.of(name) for name in names], [Matcher.parse(rule.match) for rule in rules]
    return sum(matcher.matches(each) for matcher in matchers for each in series)


async def _models(stack: Stack, sent: int, wanted: int) -> float:
    """Wait until what was sent is stored, and until so many models are fitted.

    Returns the seconds in which nothing else was left to do.
    """
    if not wanted:
        return 0.0
    deadline = time.monotonic() + MODELS_TIMEOUT_S
    idle_since: float | None = None
    while time.monotonic() < deadline:
        now = await asyncio.to_thread(_look, stack, sent)
        if idle_since is None and now.done(sent):
            idle_since = time.monotonic()
        if now.models >= wanted and idle_since is not None:
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    return time.monotonic() - idle_since if idle_since is not None else 0.0


def _scored(url: str) -> int:
    return int(observe.total(url, "tocsin_samples_total") + observe.total(url, "tocsin_dead_letters_total"))


def _look(stack: Stack, sent: int) -> Progressed:
    urls = {service.child.name: service.metrics_url for service in stack.services}
    worker, sink, trainer = urls["worker"], urls["sink"], urls.get("trainer")
    return Progressed(
        sent,
        _scored(worker),
        int(observe.total(worker, "tocsin_anomaly_events_total")),
        int(observe.total(sink, "tocsin_sink_rows_total", 'table="telemetry"')),
        int(observe.total(sink, "tocsin_sink_rows_total", 'table="anomalies"')),
        int(observe.total(trainer, "tocsin_fits_total")) if trainer is not None else 0,
        int(observe.total(urls["coordinator"], "tocsin_incident_anomaly_events_total")),
        int(observe.total(urls["coordinator"], "tocsin_incident_events_total")),
        int(observe.total(sink, "tocsin_sink_rows_total", 'table="incidents"')),
    )


def _check(stack: Stack, deadline: float, what: str) -> None:
    """Raise when a process has ended, or when the deadline is over."""
    for service in stack.services:
        child = service.child
        if not child.alive:
            raise LocalRuntimeError(
                f"{child.name} ended with status {child.returncode}; "
                f"its log {child.log_path} ends with:\n{child.log_tail()}"
            )
    if time.monotonic() > deadline:
        logs = ", ".join(str(service.child.log_path) for service in stack.services)
        raise LocalRuntimeError(f"{what}; see {logs}")
