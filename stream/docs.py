"""Reference pages from the structs: `python -m stream.docs` writes them, a test fails when one is stale.

- `docs/configuration.md` from `schemas.config`
- `docs/asyncapi.yaml`, by `stream.asyncapi`
- `schemas/jsonschema/*.json`: events, incidents and points for programs, the configuration for editors
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import inspect

from schemas.config import Config
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from schemas.sample import Point
from stream import asyncapi
from stream.config import SECRETS
from stream.config.values import allowed

ROOT: Final = Path(__file__).resolve().parents[1]

SCHEMAS: Final[dict[str, type]] = {
    "anomaly-event": AnomalyEvent,
    "incident": Incident,
    "point": Point,
    "configuration": Config,
}

_HEAD: Final = """\
# Configuration

Written by `python -m stream.docs` from `schemas/config/`; do not edit.

One YAML file. Every key has a default that works, so a file holds only what differs. It is the one given
with `--config`, else the one named by `$TOCSIN_CONFIG`, else `tocsin.yaml` in the current folder.
`tocsin check-config` tells all mistakes at once, `tocsin check-config --show` prints the whole configuration.

- `${NAME}` is replaced by the environment's NAME, `${NAME:-default}` has a default, `$$` is a dollar sign.
  Where NAME is not set but NAME_FILE is, the content of that file is taken (a custom of container images).
- `kafka.sasl_password_file` and `clickhouse.password_file` name files with the secret.
- Any command takes `--set worker.batch_interval_ms=50` for one key; in lists, `--set inputs[0].topic=m`.
- Editors know the file by `schemas/jsonschema/configuration.json`.
"""


def pages() -> dict[Path, str]:
    """Every generated file, relative to the repository, and its content."""
    found = {
        Path("docs/configuration.md"): configuration(),
        Path("docs/asyncapi.yaml"): asyncapi.page(),
    }
    for name, struct in SCHEMAS.items():
        found[Path(f"schemas/jsonschema/{name}.json")] = schema(name, struct)
    return found


def schema(name: str, struct: type) -> str:
    """JSON Schema 2020-12."""
    body = msgspec.json.schema(struct)
    if struct is Config:
        _as_loaded(body["$defs"])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name}
    return msgspec.json.format(msgspec.json.encode({**head, **body}), indent=2).decode() + "\n"


def _as_loaded(structs: dict[str, Any]) -> None:
    """What `stream.config` admits beyond the structs: secrets in files, topics given in part."""
    for section, key in SECRETS:
        name = {"kafka": "Kafka", "clickhouse": "ClickHouse", "console": "Console"}[section]
        structs[name]["properties"][f"{key}_file"] = {"type": "string", "description": "A file with it."}
    del structs["Topic"]["required"]


def configuration() -> str:
    """The page of all keys."""
    return _HEAD + "\n".join(line for section in _sections(Config, "", Config()) for line in section) + "\n"


def _sections(struct: type, path: str, values: msgspec.Struct | None) -> Iterator[list[str]]:
    """A table for a section, then those of the sections in it; ``values`` are its defaults, if it has any."""
    hints = get_type_hints(struct, include_extras=True)
    rows, inner = [], []
    for field in msgspec.structs.fields(struct):
        kind, description = _kind(hints[field.name])
        at = f"{path}.{field.name}" if path else field.name
        if isinstance(kind, inspect.StructType):
            inner += list(_sections(kind.cls, at, getattr(values, field.name)))
            continue
        item = kind.item_type if isinstance(kind, inspect.ListType) else None
        if isinstance(item, inspect.StructType):
            inner += list(_sections(item.cls, f"{at}[]", None))
        rows.append(f"| `{field.name}` | {allowed(kind)} | {_default(field, values)} | {description} |")
    if rows and path:
        title = ["", f"## {path}", (struct.__doc__ or "").split("\n", maxsplit=1)[0], ""]
        yield [*title, "| key | value | default | what it does |", "|---|---|---|---|", *rows]
    yield from inner


def _kind(hint: Any) -> tuple[inspect.Type, str]:
    kind = inspect.type_info(hint)
    if isinstance(kind, inspect.Metadata):
        return kind.type, (kind.extra_json_schema or {}).get("description", "")
    return kind, ""


def _default(field: Any, values: msgspec.Struct | None) -> str:
    if values is not None:
        value = getattr(values, field.name)
    elif field.required:
        return "must be given"
    else:
        value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    value = msgspec.to_builtins(value)
    if value == "":
        return "empty"
    return f"`{msgspec.json.encode(value).decode()}`" if not isinstance(value, str) else f"`{value}`"


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
