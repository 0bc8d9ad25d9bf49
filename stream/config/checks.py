"""Checks between the keys of a configuration: each value alone is fine, together they cannot work."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from detectors import registry
from detectors.calendar import clock_changes, public_holidays
from schemas.config import Config, DetectorConfig, Group, Policy, RefreshRule
from schemas.matcher import Matcher
from stream.addresses import brokers, is_loopback
from stream.config.yaml_lines import Problem

if TYPE_CHECKING:
    from stream.config.yaml_lines import Document


def cross_checks(config: Config, document: Document) -> list[Problem]:
    """All problems, those of names first."""
    found = [
        *_names(config),
        *_topics(config),
        *_addresses(config),
        *_timeouts(config),
        *_security(config),
        *_engine(config),
        *_refresh(config),
        *_console(config),
        *_rest(config),
    ]
    return [document.problem(path, text) for path, text in found]


def _names(config: Config) -> Iterator[tuple[str, str]]:
    detectors, formats = (
        entry_points(group="tocsin.detectors").names,
        entry_points(group="tocsin.formats").names,
    )
    for i, detector in enumerate(config.engine.detectors):
        if detector.name not in detectors:
            yield f"engine.detectors[{i}].name", _unknown("detector", detector.name, detectors)
    for i, source in enumerate(config.inputs):
        if source.format not in formats:
            yield f"inputs[{i}].format", _unknown("format", source.format, formats)


def _unknown(what: str, name: str, names: set[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name!r} is no {what} that is installed: there is {', '.join(sorted(names))}{hint}"


def _topics(config: Config) -> Iterator[tuple[str, str]]:
    outputs = {
        f"topics.{key}.name": getattr(config.topics, key).name
        for key in config.topics.__struct_fields__
        if key != "replication_factor"
    }
    inputs = {f"inputs[{i}].topic": source.topic for i, source in enumerate(config.inputs)}
    count = Counter([*outputs.values(), *inputs.values()])
    for path, name in (outputs | inputs).items():
        if count[name] > 1:
            yield path, f"names the topic {name!r}, which stands {count[name]} times: each needs its own"


def _addresses(config: Config) -> Iterator[tuple[str, str]]:
    for address in brokers(config.kafka.bootstrap_servers):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            yield "kafka.bootstrap_servers", f"{address!r} is not host:port, as broker1:9092"
    if "://" in config.clickhouse.host:
        yield "clickhouse.host", f"is a name or an address, not a URL as {config.clickhouse.host!r}"
    scheme, remote, _ = config.snapshots.url.partition("://")
    if remote:
        import fsspec  # noqa: PLC0415  # a sixth of a second, and most commands have a folder

        try:
            fsspec.get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            yield "snapshots.url", f"{config.snapshots.url!r} cannot be opened: {error}"


def _timeouts(config: Config) -> Iterator[tuple[str, str]]:
    worker = config.worker
    if worker.transaction_timeout_ms <= worker.batch_interval_ms:
        yield (
            "worker.transaction_timeout_ms",
            (f"must be above worker.batch_interval_ms ({worker.batch_interval_ms}): older ones are aborted"),
        )
    if worker.session_timeout_ms < 1000:
        yield "worker.session_timeout_ms", "must be at least 1000: heartbeats go out ten times in it"
    if worker.rebalance_timeout_ms < worker.batch_interval_ms * 2:
        yield (
            "worker.rebalance_timeout_ms",
            (
                f"must be at least twice worker.batch_interval_ms ({worker.batch_interval_ms}): "
                "an open batch is finished in half of it"
            ),
        )
    if config.worker.group_id == config.sink.group_id:
        yield "sink.group_id", "is the group of the worker too: each needs its own"


def _refresh(config: Config) -> Iterator[tuple[str, str]]:
    names = {detector.name for detector in config.engine.detectors}
    names |= {group.detector for group in config.engine.groups}
    for i, rule in enumerate(config.refresh.rules):
        if rule.detector not in names:
            yield (
                f"refresh.rules[{i}].detector",
                f"{rule.detector!r} is in neither engine.detectors nor engine.groups: no worker would use it",
            )
            continue
        yield from _matcher(f"refresh.rules[{i}].match", rule.match)
        for entry in config.engine.detectors:
            if entry.name == rule.detector and entry.name in registry.names():
                yield from _reach(f"refresh.rules[{i}]", rule, entry)


def _reach(path: str, rule: RefreshRule, entry: DetectorConfig) -> Iterator[tuple[str, str]]:
    """A forecast that ends before it is made anew would leave its series unjudged."""
    reach = getattr(registry.load(entry.name), "reach_ms", None)
    if reach is None:
        return
    try:
        reached_ms = reach(entry.params)
    except (ValueError, TypeError) as error:
        yield f"{path}.detector", str(error)
        return
    if rule.refresh_every_ms >= reached_ms:
        text = f"must be below {reached_ms}, which is how far a model of {entry.name} reaches"
        yield f"{path}.refresh_every_ms", text


def _matcher(path: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        Matcher.parse(text)
    except ValueError as error:
        yield path, str(error)


def _security(config: Config) -> Iterator[tuple[str, str]]:
    kafka = config.kafka
    if kafka.security_protocol.startswith("SASL"):
        if not kafka.sasl_username:
            yield "kafka.sasl_username", f"must be set with security_protocol {kafka.security_protocol}"
        if not kafka.sasl_password:
            yield (
                "kafka.sasl_password",
                (f"or kafka.sasl_password_file must be set with security_protocol {kafka.security_protocol}"),
            )
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "kafka.ssl_certfile", "must be set where kafka.ssl_keyfile is"


def _engine(config: Config) -> Iterator[tuple[str, str]]:
    engine = config.engine
    if not engine.detectors:
        yield "engine.detectors", "must name at least one detector, such as `- name: robust`"
    elif not any(detector.weight for detector in engine.detectors):
        yield "engine.detectors", "give every detector the weight 0, so nothing can ever alert"
    if engine.max_duration_samples <= engine.close_after_samples:
        yield (
            "engine.max_duration_samples",
            (f"must be above engine.close_after_samples ({engine.close_after_samples})"),
        )
    for i, detector in enumerate(engine.detectors):
        yield from _matcher(f"engine.detectors[{i}].match", detector.match)
    for i, policy in enumerate(engine.policies):
        yield from _policy(policy, f"engine.policies[{i}]")
    names = Counter(group.name for group in engine.groups)
    for i, group in enumerate(engine.groups):
        yield from _group(group, f"engine.groups[{i}]")
        if names[group.name] > 1:
            yield f"engine.groups[{i}].name", f"{group.name!r} stands {names[group.name]} times"


def _group(group: Group, path: str) -> Iterator[tuple[str, str]]:
    yield from _matcher(f"{path}.match", group.match)
    if group.detector not in registry.names():
        yield f"{path}.detector", _unknown("detector", group.detector, set(registry.names()))
    elif getattr(registry.load(group.detector), "channels", "one") != "many":
        yield f"{path}.detector", f"{group.detector} judges one series at a time, not a group"
    if group.wait_ms > 8 * group.interval_ms:
        yield f"{path}.wait_ms", f"must be at most eight times interval_ms ({8 * group.interval_ms})"


def _policy(policy: Policy, path: str) -> Iterator[tuple[str, str]]:
    for key, check in (
        ("match", lambda: Matcher.parse(policy.match)),
        ("timezone", lambda: clock_changes(policy.timezone)),
        ("country", lambda: public_holidays(policy.country)),
    ):
        try:
            check()
        except ValueError as error:
            yield f"{path}.{key}", str(error)
    for kind in ("normal", "allowed"):
        low, high = getattr(policy, f"{kind}_min"), getattr(policy, f"{kind}_max")
        if low is not None and high is not None and low >= high:
            yield f"{path}.{kind}_min", f"is not below {kind}_max ({high:g})"


def _console(config: Config) -> Iterator[tuple[str, str]]:
    console = config.console
    if not console.token and not is_loopback(console.host):
        yield (
            "console.token",
            f"must be set when console.host is {console.host}: it is not this machine alone",
        )
    if console.port == console.pages_port != 0:
        yield "console.pages_port", f"is {console.port}, as console.port: each needs its own"


def _rest(config: Config) -> Iterator[tuple[str, str]]:
    if config.metrics.worker_port == config.metrics.sink_port != 0:
        yield (
            "metrics.sink_port",
            f"is {config.metrics.sink_port}, as metrics.worker_port: each needs its own",
        )
    if config.clickhouse.dsn and not config.clickhouse.dsn.startswith("chdb:"):
        yield "clickhouse.dsn", "must begin with chdb: (for a server use clickhouse.host and clickhouse.port)"
