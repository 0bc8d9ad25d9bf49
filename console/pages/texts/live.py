"""Texts of Live."""

from __future__ import annotations

from typing import Final

from console.pages.texts.text import Text

LIVE: Final = {
    "page_live": Text("Live", "Сейчас"),
    "live_about": Text(
        "What the streaming detectors say now; the page renews itself.",
        "Что потоковые детекторы говорят сейчас; страница обновляется сама.",
    ),
    "incidents": Text("Open incidents", "Открытые инциденты"),
    "no_incidents": Text("No incident is open.", "Открытых инцидентов нет."),
    "newest": Text("Newest anomalies", "Новые аномалии"),
    "no_live": Text("No anomalies yet", "Аномалий пока нет"),
    "no_live_about": Text(
        "They appear here seconds after the workers find them.",
        "Они появятся здесь через секунды после того, как их найдут.",
    ),
    "choose_row": Text(
        "Choose a row to see its series; until then it is the newest.",
        "Выберите строку, чтобы увидеть ряд; пока показан самый новый.",
    ),
    "status": Text("Status", "Состояние"),
    "open": Text("open", "открыта"),
    "closed": Text("closed", "закрыта"),
    "kind": Text("Kind", "Вид"),
    "severity": Text("Severity", "Важность"),
    "peak": Text("Peak score", "Пик оценки"),
    "reason": Text("Reason", "Причина"),
    "series": Text("Series", "Ряд"),
    "muted": Text("Muted by", "Заглушена"),
    "label_true": Text("It was one", "Это аномалия"),
    "label_false": Text("Nothing was wrong", "Всё в порядке"),
    "label_expected": Text("Expected", "Ожидаемая"),
    "mute_hour": Text("Mute for an hour", "Заглушить на час"),
    "preview": Text("What “nothing was wrong” would change", "Что изменит «всё в порядке»"),
    "sent": Text("Sent: {what}", "Отправлено: {what}"),
}
