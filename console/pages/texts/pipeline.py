"""Texts of Pipeline."""

from __future__ import annotations

from typing import Final

from console.pages.texts.text import Text

PIPELINE: Final = {
    "page_pipeline": Text("Pipeline", "Конвейер"),
    "pipeline_about": Text(
        "How far each process is behind, and what could not be read; the upper part renews itself.",
        "Насколько отстаёт каждый процесс и что не удалось прочитать; верхняя часть обновляется сама.",
    ),
    "groups": Text("Consumer groups", "Группы потребителей"),
    "no_groups": Text("No topics yet", "Топиков пока нет"),
    "no_groups_about": Text(
        "`tocsin topics create` makes them, and so does the first worker.",
        "Их создаёт `tocsin topics create` или первый worker.",
    ),
    "process": Text("Process", "Процесс"),
    "topic": Text("Topic", "Топик"),
    "waiting": Text("Waiting", "Ждут"),
    "end_offset": Text("End", "Конец"),
    "committed": Text("Committed", "Подтверждено"),
    "produced_per_s": Text("In per second", "Приходит в секунду"),
    "consumed_per_s": Text("Done per second", "Обработано в секунду"),
    "members": Text("Members", "Участников"),
    "group": Text("Group", "Группа"),
    "partitions": Text("Partitions", "Партиции"),
    "partition": Text("Partition", "Партиция"),
    "owner": Text("Read by", "Читает"),
    "nobody": Text("nobody", "никто"),
    "workers": Text("Workers", "Воркеры"),
    "no_workers": Text(
        "No address of a worker is known: set `console.worker_urls`.",
        "Адреса воркеров неизвестны: задайте `console.worker_urls`.",
    ),
    "worker_silent": Text(
        "The worker at {url} does not answer ({error}). Start `tocsin worker`, or set `console.worker_urls`.",
        "Воркер {url} не отвечает ({error}). Запустите `tocsin worker` или задайте `console.worker_urls`.",
    ),
    "samples_per_s": Text("Samples per second", "Точек в секунду"),
    "messages_per_s": Text("Messages per second", "Сообщений в секунду"),
    "recoveries": Text("Recoveries", "Восстановлений"),
    "no_partitions": Text("It has no partitions.", "Партиций у него нет."),
    "dead_letters": Text("Dead letters", "Недоставленные сообщения"),
    "dead_letters_about": Text(
        "Messages that could not be read, the newest first. `tocsin dlq replay` sends them again.",
        "Сообщения, которые не удалось прочитать, сначала новые. Повторить: `tocsin dlq replay`.",
    ),
    "all_reasons": Text("All reasons", "Все причины"),
    "no_letters": Text("No dead letters", "Недоставленных сообщений нет"),
    "no_letters_about": Text("Every message could be read.", "Все сообщения прочитаны."),
    "no_letters_here": Text("None on this page.", "На этой странице ничего нет."),
    "choose_letter": Text("Choose a row to see what came.", "Выберите строку, чтобы увидеть сообщение."),
    "set_aside": Text("Set aside (UTC)", "Отложено (UTC)"),
    "error": Text("Error", "Ошибка"),
    "payload": Text("Payload", "Содержимое"),
    "empty_payload": Text("(empty)", "(пусто)"),
    "payload_cut": Text("The beginning only, of {size} bytes.", "Показано только начало, всего {size} байт."),
    "newer": Text("Newest", "Новые"),
    "older": Text("Older", "Старее"),
    "reload": Text("Look again", "Обновить"),
}
