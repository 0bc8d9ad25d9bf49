"""Every sentence of the pages, in English and Russian, a module for each part of them."""

from __future__ import annotations

from typing import Final, Literal

from console.pages.texts.asking import ASKING
from console.pages.texts.found import FOUND
from console.pages.texts.frame import FRAME
from console.pages.texts.live import LIVE
from console.pages.texts.models import MODELS
from console.pages.texts.pipeline import PIPELINE
from console.pages.texts.text import Text

Language = Literal["en", "ru"]
LANGUAGES: Final[dict[str, Language]] = {"English": "en", "Русский": "ru"}

TEXTS: Final[dict[str, Text]] = FRAME | ASKING | FOUND | LIVE | MODELS | PIPELINE
"""By key, which is unique among all."""


class Say:
    """Texts in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **fields: object) -> str:
        text: str = getattr(TEXTS[key], self.language)
        return text.format(**fields) if fields else text
