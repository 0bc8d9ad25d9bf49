"""Texts around every page."""

from __future__ import annotations

from typing import Final

from console.pages.texts.text import Text

FRAME: Final = {
    "language": Text("Language", "Язык"),
    "page_explore": Text("Explore", "Исследование"),
    "token": Text("Access token", "Токен доступа"),
    "token_why": Text(
        "These pages are protected: enter the token of `console.token`.",
        "Страницы защищены: введите токен из `console.token`.",
    ),
    "token_wrong": Text("This is not the token.", "Токен не подходит."),
    "enter": Text("Enter", "Войти"),
    "unreachable": Text(
        "The API does not answer. Start it with `tocsin console`, or set `console.api_url`.\n\n{error}",
        "API не отвечает. Запустите `tocsin console` или задайте `console.api_url`.\n\n{error}",
    ),
    "refused": Text("The API answered: {error}", "Ответ API: {error}"),
    "again": Text("Try again", "Повторить"),
}
