"""Texts of Explore: the data, the models, and their work."""

from __future__ import annotations

from typing import Final

from console.pages.texts.text import Text

ASKING: Final = {
    "explore_about": Text(
        "Ask models about a range of samples, and look at what they find.",
        "Спросите модели об отрезке данных и посмотрите, что они нашли.",
    ),
    "data": Text("Data", "Данные"),
    "source": Text("Source", "Источник"),
    "telemetry": Text("Telemetry", "Телеметрия"),
    "query": Text("SQL", "SQL"),
    "file": Text("CSV", "CSV"),
    "mode": Text("Look at metrics", "Смотреть на метрики"),
    "single": Text("One by one", "По одной"),
    "together": Text("Together", "Вместе"),
    "mode_help": Text(
        "Together: a model of many metrics (multidimensional) says when they do not go together as they "
        "use to, and which of them it was.",
        "Вместе: модель многих метрик (multidimensional) говорит, когда они ведут себя не так, как "
        "обычно, и какие из них.",
    ),
    "of_label": Text("All metrics with the label", "Все метрики с меткой"),
    "server": Text("Server", "Сервер"),
    "own_server": Text("the ClickHouse of Tocsin", "ClickHouse самого Tocsin"),
    "sql": Text("SELECT with a time column and columns of numbers", "SELECT со столбцом времени и числами"),
    "sql_help": Text(
        "Runs read-only, with limits of time and rows. Time: a DateTime column, or one named `timestamp`. "
        "Every column of numbers is a metric.",
        "Только чтение, с пределами по времени и строкам. Время: столбец DateTime или `timestamp`. "
        "Каждый столбец чисел — метрика.",
    ),
    "run_query": Text("Run the query", "Выполнить запрос"),
    "empty_query": Text(
        "Write a query above and run it: its rows are drawn here, and models can be asked about them.",
        "Напишите запрос и выполните его: строки появятся здесь, и о них можно спросить модели.",
    ),
    "nothing_there": Text("There are no rows.", "Строк нет."),
    "metrics": Text("Metrics", "Метрики"),
    "choose_metrics": Text("Choose one or several", "Выберите одну или несколько"),
    "upload": Text("CSV file with a header", "Файл CSV с заголовком"),
    "upload_help": Text(
        "A column of times (ISO 8601, Unix seconds or milliseconds) and columns of numbers; an empty field "
        "is a gap. Gzip is fine.",
        "Столбец времени (ISO 8601, секунды или миллисекунды Unix) и столбцы чисел; пустое поле — пропуск. "
        "Можно gzip.",
    ),
    "time_column": Text("Column of times", "Столбец времени"),
    "bad_file": Text("This file cannot be read", "Файл не читается"),
    "bad_file_help": Text(
        "Expected is a header line, then a row for each time, for example:",
        "Нужна строка заголовка, затем строка на каждый момент времени, например:",
    ),
    "start": Text("From (UTC)", "С (UTC)"),
    "end": Text("To (UTC)", "По (UTC)"),
    "empty_range": Text("The end must be after the start.", "Конец должен быть позже начала."),
    "nothing_in_range": Text("There are no samples in this range.", "На этом отрезке нет данных."),
    "empty_title": Text("Nothing chosen yet", "Пока ничего не выбрано"),
    "empty_file": Text(
        "Upload a CSV file on the left: a column of times and one or several columns of numbers.",
        "Загрузите слева файл CSV: столбец времени и один или несколько столбцов чисел.",
    ),
    "empty_metrics": Text("Choose a metric on the left.", "Выберите слева метрику."),
    "empty_telemetry": Text(
        "There is no telemetry yet. Send some with `tocsin produce FILE.csv`, or upload a CSV file.",
        "Телеметрии пока нет. Отправьте её командой `tocsin produce FILE.csv` или загрузите файл CSV.",
    ),
    "loading": Text("Samples are loaded …", "Загрузка данных …"),
    "thinned_source": Text(
        "{shown} of {total} samples are loaded, extremes kept: choose a shorter range for all.",
        "Загружено {shown} из {total} точек, экстремумы сохранены: для всех выберите отрезок короче.",
    ),
    "models": Text("Models", "Модели"),
    "choose_models": Text("Choose one or several", "Выберите одну или несколько"),
    "parameters": Text("Parameters", "Параметры"),
    "budget": Text("False alarms per series and day", "Ложных тревог на ряд в сутки"),
    "budget_help": Text(
        "The alert budget: how many you are willing to read.",
        "Бюджет тревог: сколько вы готовы читать.",
    ),
    "more_parameters": Text("More, by model (JSON)", "Другие, по моделям (JSON)"),
    "bad_parameters": Text(
        "Parameters must be JSON such as {example}", "Параметры должны быть в JSON, например {example}"
    ),
    "run": Text("Find anomalies", "Найти аномалии"),
    "run_hint": Text(
        "Choose models on the left and press **{run}**.",
        "Выберите модели слева и нажмите **{run}**.",
    ),
    "working": Text("Models are at work", "Модели работают"),
    "cancel": Text("Cancel", "Отменить"),
    "all_metrics": Text("all metrics together", "все метрики вместе"),
    "model_failed": Text("**{model}** on {metric}: {error}", "**{model}** для {metric}: {error}"),
}
