"""Texts of Models."""

from __future__ import annotations

from typing import Final

from console.pages.texts.text import Text

MODELS: Final = {
    "page_models": Text("Models", "Модели"),
    "models_about": Text(
        "Fitted models: in use, or waiting for a person.",
        "Обученные модели: работающие и ждущие решения.",
    ),
    "no_models": Text("No fitted models yet", "Обученных моделей пока нет"),
    "no_models_about": Text(
        "The coordinator asks for them by `refresh.rules`, or you with `tocsin refresh`.",
        "Их запрашивает координатор по `refresh.rules` или вы командой `tocsin refresh`.",
    ),
    "serving": Text("in use", "работает"),
    "candidate": Text("waits", "ждёт"),
    "trained_to": Text("History until", "История до"),
    "age": Text("Age, days", "Возраст, сутки"),
    "size": Text("Bytes", "Байт"),
    "report": Text("Shadow report", "Теневой отчёт"),
    "adopt": Text("Adopt", "Принять"),
    "rollback": Text("Roll back", "Откатить"),
    "choose_model": Text("Choose a row to act on it.", "Выберите строку для действия."),
}
