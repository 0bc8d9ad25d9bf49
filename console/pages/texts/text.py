"""One text in each language."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """With the same ``{fields}`` in both."""

    en: str
    ru: str
