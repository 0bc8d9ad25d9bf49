"""Finds and reads the configuration: one YAML file, `${ENV}` in it, secrets in files, single overrides.

All mistakes come in one `ConfigError`, each with its path, what is allowed and, for the file, its line.
This is the only module that reads the environment.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from schemas.config import Config, Section
from stream.config.checks import cross_checks
from stream.config.values import check_struct
from stream.config.yaml_lines import Document, Problem, parse_override, read_document

ENV: Final = "TOCSIN_CONFIG"
DEFAULT_FILE: Final = Path("tocsin.yaml")

SECRETS: Final = (("kafka", "sasl_password"), ("clickhouse", "password"), ("console", "token"))
"""Keys whose value may stand in a file instead: ``sasl_password_file`` names it."""


class ConfigError(Exception):
    """A configuration that cannot be used; ``problems`` holds all that is wrong with it."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = list(problems)
        lines = [f"{source} has {len(problems)} mistake{'s' if len(problems) > 1 else ''}:"]
        super().__init__("\n".join(lines + [f"  {problem}" for problem in problems]))


class Loaded(NamedTuple):
    """A configuration and where it came from (``path`` is None for the defaults)."""

    config: Config
    path: Path | None


def find(path: Path | None, env: Mapping[str, str]) -> Path | None:
    """The file to read: the one given, $TOCSIN_CONFIG, ./tocsin.yaml when it exists, else None."""
    if path is not None:
        return path
    if env.get(ENV):
        return Path(env[ENV])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def load(
    path: Path | None = None, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Loaded:
    """Read the configuration; ``overrides`` are ``worker.batch_interval_ms=50``. Raises `ConfigError`."""
    env = os.environ if env is None else env
    found = find(path, env)
    return Loaded(parse(_text(found), overrides, env, source=str(found or "configuration")), found)


def parse(
    text: str,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    source: str = "configuration",
) -> Config:
    """The configuration in a YAML text; raises `ConfigError`."""
    env = os.environ if env is None else env
    try:
        document = read_document(text, env)
    except yaml.YAMLError as error:
        raise ConfigError(source, [_syntax(error)]) from None
    problems = list(document.problems)
    for override in overrides:
        problems += parse_override(document, override, env)
    problems += _read_secret_files(document)
    problems += check_struct(document.data, Config, "", document)
    if problems:
        raise ConfigError(source, sorted(problems, key=lambda p: p.line or 0))
    config = msgspec.convert(document.data, Config)
    problems = cross_checks(config, document)
    if problems:
        raise ConfigError(source, problems)
    return config


def config_hash(*sections: Section) -> str:
    """16 hexadecimal digits that change when a value in these sections does; passwords do not count."""
    parts = [msgspec.to_builtins(section) for section in sections]
    for part in parts:
        for where, key in SECRETS:
            inner = part.get(where, part)
            inner.pop(key, None)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def shown(config: Config) -> str:
    """The whole configuration as YAML, passwords covered."""
    data = msgspec.to_builtins(config)
    for section, key in SECRETS:
        if data[section][key]:
            data[section][key] = "********"
    for source in data["console"]["data_sources"]:
        source["password"] = source["password"] and "********"
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [Problem("", f"is not UTF-8 text at byte {error.start}")]) from None


def _syntax(error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return Problem("", f"is not YAML: {error.problem}", error.problem_mark.line + 1)
    return Problem("", f"is not YAML: {error}")


def _read_secret_files(document: Document) -> list[Problem]:
    """Replace each ``KEY_file`` by ``KEY`` with the content of the file."""
    problems = []
    for section, key in SECRETS:
        values: Any = document.data.get(section)
        if not isinstance(values, dict) or f"{key}_file" not in values:
            continue
        path, name = f"{section}.{key}_file", values.pop(f"{key}_file")
        if values.get(key):
            problems.append(document.problem(path, f"cannot stand beside {section}.{key}: choose one"))
            continue
        try:
            values[key] = Path(str(name)).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            problems.append(document.problem(path, f"{str(name)!r} cannot be read: {reason}"))
    return problems
