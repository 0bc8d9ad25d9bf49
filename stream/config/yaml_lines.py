"""YAML of a configuration with the line of each key, `${ENV}` replaced, and keys that stand twice found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from schemas.config import Config

_REFERENCE: Final = re.compile(r"\$\$|\$\{([^}:]*)(?::-([^}]*))?\}")


class Problem(NamedTuple):
    """One mistake; ``path`` such as ``worker.batch_interval_ms``, ``line`` in the file where it has one."""

    path: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}{' ' if self.path else ''}{self.text}"


class EnvText(str):
    """Text that came from the environment without quotes: also a number, where one is wanted."""

    __slots__ = ()


def child(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as everybody expects it: ``1e-3`` is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class Document:
    """The content of a file: plain data, the line of each path, and what was wrong before any typing."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []

    def problem(self, path: str, text: str) -> Problem:
        """A problem with the line of the path, or of the nearest part around it that has one."""
        at = path
        while at and at not in self.lines:
            at = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", at)
        return Problem(path, text, self.lines.get(at))


def read_document(text: str, env: Mapping[str, str]) -> Document:
    """Raises ``yaml.YAMLError`` for what is not YAML."""
    document = Document()
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return document
        data = _Reader(loader, document, env).read(node, "")
    finally:
        loader.dispose()
    if isinstance(data, dict):
        document.data = data
    elif data is not None:
        document.problems.append(Problem("", "must be a map of sections, such as `kafka:`", 1))
    return document


def parse_override(document: Document, override: str, env: Mapping[str, str]) -> list[Problem]:
    """Set one value, given as ``path=value`` with the value in YAML; list items as ``inputs[0].topic``."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        return [Problem(f"--set {override}", "is not of the form worker.batch_interval_ms=50")]
    try:
        value = read_document(f"value: {text}" if text else 'value: ""', env)
    except yaml.YAMLError:
        return [Problem(f"--set {override}", "has a value that is not YAML")]
    problems = [Problem(path, p.text) for p in value.problems]
    for at in [at for at in document.lines if at == path or at.startswith((f"{path}.", f"{path}["))]:
        del document.lines[at]  # what is wrong now is not in the file
    if not _assign(document.data, path, value.data["value"]):
        problems.append(Problem(path, "does not exist, so it cannot be set"))
    return problems


def _assign(data: dict[str, Any], path: str, value: Any) -> bool:
    """Set the value where the path leads; lists that are not in the file begin as the defaults."""
    *parents, last = re.findall(r"[^.\[\]]+", path)
    place: Any = data
    defaults: Any = msgspec.to_builtins(Config())
    for name in parents:
        if isinstance(place, list):
            if not name.isdigit() or int(name) >= len(place):
                return False
            place = place[int(name)]
        elif isinstance(place, dict):
            if place.get(name) is None:
                place[name] = defaults.get(name, {}) if isinstance(defaults, dict) else {}
            place = place[name]
        else:
            return False
        defaults = defaults.get(name, {}) if isinstance(defaults, dict) else {}
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        return False
    return True


class _Reader:
    def __init__(self, loader: _Loader, document: Document, env: Mapping[str, str]) -> None:
        self._loader, self._document, self._env = loader, document, env

    def read(self, node: yaml.Node, path: str) -> Any:
        if path and path not in self._document.lines:
            self._document.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._map(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and "$" in node.value:
            return self._replaced(node, path)
        return self._loader.construct_object(node)

    def _map(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            at, line = child(path, key), key_node.start_mark.line + 1
            if key in found:
                text = f"stands twice, first in line {self._document.lines[at]}"
                self._document.problems.append(Problem(at, text, line))
                continue
            self._document.lines[at] = line
            found[key] = self.read(value_node, at)
        return found

    def _replaced(self, node: yaml.ScalarNode, path: str) -> Any:
        text = _REFERENCE.sub(lambda match: self._lookup(match, path), node.value)
        # Quoted text stays text; a plain ${PORT} may become a number where one is wanted.
        return text if node.style in {"'", '"', "|", ">"} else EnvText(text)

    def _lookup(self, match: re.Match[str], path: str) -> str:
        name, default = match[1], match[2]
        if name is None:
            return "$"
        if name in self._env and (self._env[name] or default is None):
            return self._env[name]
        if f"{name}_FILE" in self._env:  # the custom of container images for secrets
            try:
                return Path(self._env[f"{name}_FILE"]).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                self._complain(path, f"the file that ${name}_FILE names cannot be read")
                return ""
        if default is None:
            self._complain(path, f"the environment has no {name}; set it, or write ${{{name}:-default}}")
        return default or ""

    def _complain(self, path: str, text: str) -> None:
        self._document.problems.append(self._document.problem(path, text))
