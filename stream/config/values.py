"""Checks plain data against the structs of `schemas.config` and finds every mistake, not only the first."""

from __future__ import annotations

import difflib
import re
from datetime import date
from typing import Any, get_type_hints

import msgspec
import yaml
from msgspec import inspect

from stream.config.yaml_lines import Document, EnvText, Problem, child


def check_struct(data: dict[str, Any], cls: type, path: str, document: Document) -> list[Problem]:
    """All problems of the data of a section; turns its `EnvText` into values of the right type, in place."""
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    problems = []
    for key, value in list(data.items()):
        at = child(path, key)
        if key not in fields:
            problems.append(document.problem(at, f"is not a key{_suggestion(key, list(fields))}"))
            continue
        default = fields[key].default
        if isinstance(default, msgspec.Struct) and isinstance(value, dict | None):
            # Of a section that is given in part, the rest is as it would be without it.
            data[key] = {**msgspec.structs.asdict(default), **(value or {})}
        data[key], wrong = _value(data[key], hints[key], at, document)
        problems += wrong
    problems += [
        document.problem(child(path, name), "is missing")
        for name, field in fields.items()
        if field.required and name not in data
    ]
    return problems


def _value(  # noqa: PLR0911  # one for each kind of value
    value: Any, hint: Any, path: str, document: Document
) -> tuple[Any, list[Problem]]:
    """The value as the struct wants it, and what is wrong with it."""
    kind = inspect.type_info(hint)
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        kind = _of_optional(kind)
    if isinstance(kind, inspect.StructType):
        if isinstance(value, msgspec.Struct):  # a default
            return value, []
        if isinstance(value, dict):
            return value, check_struct(value, kind.cls, path, document)
        return value, [document.problem(path, f"must be a section with keys, it is {_shown(value)}")]
    if isinstance(kind, inspect.ListType) and isinstance(value, list):
        return _items(value, kind, path, document)
    if isinstance(kind, inspect.DictType):
        return _plain(value), [] if isinstance(value, dict) else [
            _wrong(value, "a map of keys", path, document)
        ]
    if isinstance(value, EnvText):
        value = str(value) if isinstance(kind, inspect.StrType | inspect.LiteralType) else _plain(value)
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return value, [_wrong(value, allowed(kind), path, document)]
    return value, []


def _items(
    value: list[Any], kind: inspect.ListType, path: str, document: Document
) -> tuple[Any, list[Problem]]:
    problems = []
    item = kind.item_type
    for i, element in enumerate(value):
        at = f"{path}[{i}]"
        if not isinstance(item, inspect.StructType):
            value[i], wrong = _scalar(element, item, at, document)
            problems += wrong
        elif isinstance(element, dict):
            problems += check_struct(element, item.cls, at, document)
        else:
            problems.append(_wrong(element, "a map of keys", at, document))
    if not problems and len(value) < (kind.min_length or 0):
        problems.append(_wrong(value, allowed(kind), path, document))
    return value, problems


def _scalar(value: Any, item: inspect.Type, path: str, document: Document) -> tuple[Any, list[Problem]]:
    """An element of a list of texts."""
    kind = item.type if isinstance(item, inspect.Metadata) else item
    text = str(value) if isinstance(value, EnvText | date) else value  # YAML takes 2026-12-24 for a date
    fits = isinstance(text, str)
    if isinstance(kind, inspect.LiteralType):
        fits = text in kind.values
    elif fits and isinstance(kind, inspect.StrType) and kind.pattern:
        fits = re.search(kind.pattern, text) is not None
    return text, [] if fits else [_wrong(value, allowed(kind), path, document)]


def _of_optional(kind: inspect.UnionType) -> inspect.Type:
    """What a value is where it is not left out: all unions of the schema are of that kind."""
    inner = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    return inner.type if isinstance(inner, inspect.Metadata) else inner


def _plain(value: Any) -> Any:
    """Free-form data (options, parameters) with the text from the environment read as YAML would."""
    if isinstance(value, EnvText):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            return str(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def allowed(kind: inspect.Type) -> str:  # noqa: PLR0911  # one for each kind of value
    """What a type admits, in words."""
    if isinstance(kind, inspect.Metadata):
        return allowed(kind.type)
    if isinstance(kind, inspect.UnionType):
        return allowed(_of_optional(kind))
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(map(str, kind.values))
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return f"{'a whole number' if isinstance(kind, inspect.IntType) else 'a number'}{_range(kind)}"
    if isinstance(kind, inspect.StrType):
        return f"text{_text_limits(kind)}"
    if isinstance(kind, inspect.ListType):
        return f"a list of at least {kind.min_length}" if kind.min_length else "a list"
    return "a map of keys"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"from {kind.ge:g}" if kind.ge is not None else f"above {kind.gt:g}" if kind.gt is not None else ""
    high = (
        ("to" if low.startswith("from") else "and at most") + f" {_whole(kind.le)}"
        if kind.le is not None
        else ""
    )
    return " ".join(["", *filter(None, (low, high))])


def _whole(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _text_limits(kind: inspect.StrType) -> str:
    if kind.pattern == r"^[A-Za-z0-9._-]+$":
        return f" of 1 to {kind.max_length} letters, digits, `.`, `_` or `-`"
    if kind.pattern:
        return f" that matches {kind.pattern}"
    return " that is not empty" if kind.min_length else ""


def _wrong(value: Any, wanted: str, path: str, document: Document) -> Problem:
    return document.problem(path, f"must be {wanted}, it is {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a map of keys"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _suggestion(key: str, keys: list[str]) -> str:
    near = difflib.get_close_matches(key, keys, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there is {', '.join(sorted(keys))}"
