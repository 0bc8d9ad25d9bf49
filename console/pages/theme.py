"""Colours of the pages and their plots, for light and dark screens."""

from __future__ import annotations

from typing import Final, NamedTuple


class Palette(NamedTuple):
    """``models`` marks what each model found; all stand out against ``page`` by 3:1 or more, and text of
    ``value`` (what is chosen) and what Streamlit mixes of ``ink`` (captions) by 4.5:1. So does white, which
    Streamlit writes on ``primary``, from that.
    """

    page: str
    panel: str
    ink: str
    faint: str
    grid: str
    primary: str
    value: str
    band: str
    models: tuple[str, ...]


LIGHT: Final = Palette(
    page="#ffffff",
    panel="#f6f8fa",
    ink="#0f1419",
    faint="#656d76",
    grid="#eaeef2",
    primary="#1b569c",
    value="#1b569c",
    band="rgba(120, 170, 220, 0.35)",
    models=("#d1242f", "#bc4c00", "#8250df", "#1a7f37", "#9a6700", "#bf3989"),
)
DARK: Final = Palette(
    page="#0d1117",
    panel="#161b22",
    ink="#e6edf3",
    faint="#8d96a0",
    grid="#21262d",
    primary="#1f6feb",
    value="#6cb6ff",
    band="rgba(70, 120, 180, 0.35)",
    models=("#ff7b72", "#ffa657", "#d2a8ff", "#3fb950", "#e3b341", "#ff9bce"),
)
SYMBOLS: Final = ("circle", "diamond-open", "square-open", "triangle-up-open", "x", "star-open")
"""One for each model, so that nothing is told by colour alone and none hides another."""
CHOSEN: Final = '<style>[data-variant="segmented_control"][data-selected] p { color: %s }</style>'
"""Streamlit would write the chosen segment in ``primary``, which is too dark for text on a dark page."""
