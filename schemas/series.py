"""The identity of a series: a metric name and labels, written as one canonical text."""

from __future__ import annotations

import re
from typing import Final

import msgspec

MAX_TEXT_BYTES: Final = 4096
"""Longest canonical text; a longer one is a mistake of the producer and would be repeated in every event."""

_LABEL = re.compile(r'([^=,{}"]+)="((?:[^"\\]|\\.)*)"(,|$)')
_UNESCAPE = re.compile(r"\\(.)")


class Series(msgspec.Struct, frozen=True, order=True):
    r"""A metric name and its labels.

    The canonical text ``name{a="b",c="d"}`` has labels sorted by name, ``\`` and ``"`` escaped by a
    backslash and newlines as ``\n``, as in the Prometheus exposition format; a series without labels is
    its bare name. ``series_id`` is the xxHash64 (seed 0) of that text in UTF-8, so ClickHouse's
    ``xxHash64(series)`` computes the same.
    """

    metric: str
    labels: dict[str, str] = {}

    def text(self) -> str:
        if not self.labels:
            return self.metric
        pairs = ",".join(f'{name}="{_escape(self.labels[name])}"' for name in sorted(self.labels))
        return f"{self.metric}{{{pairs}}}"

    @classmethod
    def parse(cls, text: str) -> Series:
        """Read a canonical text; raises ``ValueError`` naming what is wrong."""
        metric, brace, rest = text.partition("{")
        if not metric:
            raise ValueError(f"series {text!r} has no metric name")
        if not brace:
            return cls(metric)
        if not rest.endswith("}"):
            raise ValueError(f"series {text!r} does not end with '}}'")
        return cls(metric, _parse_labels(rest[:-1], text))

    @classmethod
    def of(cls, text: str) -> Series:
        """The same of any text: one that does not parse is taken as a bare metric name."""
        try:
            return cls.parse(text)
        except ValueError:
            return cls(text)


def _parse_labels(body: str, text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    position = 0
    while position < len(body):
        match = _LABEL.match(body, position)
        if match is None:
            raise ValueError(f'series {text!r}: expected name="value" at {body[position : position + 20]!r}')
        labels[match[1]] = _UNESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], match[2])
        position = match.end()
    return labels


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
