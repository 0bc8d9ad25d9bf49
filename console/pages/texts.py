"""Every sentence of the pages, in English and Russian."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Language = Literal["en", "ru"]
LANGUAGES: Final[dict[str, Language]] = {"English": "en", "Русский": "ru"}


class Text(NamedTuple):
    """One text in each language, with the same ``{fields}``."""

    en: str
    ru: str


class Say:
    """Texts in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **fields: object) -> str:
        text: str = getattr(TEXTS[key], self.language)
        return text.format(**fields) if fields else text


TEXTS: Final[dict[str, Text]] = {
    # Live.
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
    "choose_row": Text("Choose a row to see its series.", "Выберите строку, чтобы увидеть ряд."),
    "status": Text("Status", "Состояние"),
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
    # Models.
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
    # Pipeline.
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
    # The frame of all pages.
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
    # Explore: the data.
    "explore_about": Text(
        "Ask models about a range of samples, and look at what they find.",
        "Спросите модели об отрезке данных и посмотрите, что они нашли.",
    ),
    "data": Text("Data", "Данные"),
    "source": Text("Source", "Источник"),
    "telemetry": Text("ClickHouse", "ClickHouse"),
    "file": Text("CSV file", "Файл CSV"),
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
    # Explore: the models.
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
    # Explore: what was found.
    "view": Text("View", "Вид"),
    "plot": Text("Plot", "График"),
    "table": Text("Table", "Таблица"),
    "statistics": Text("Statistics", "Статистика"),
    "compare": Text("Comparison", "Сравнение"),
    "analysis": Text("Analysis", "Анализ"),
    "band_of": Text("Band and level of", "Полоса и уровень модели"),
    "value": Text("value", "значение"),
    "band": Text("expected band", "ожидаемая полоса"),
    "level": Text("level", "уровень"),
    "drawn": Text(
        "Drag to zoom, double-click to go back. Of a long line the extremes and all anomalies are drawn; a "
        "shorter range shows every sample.",
        "Выделите область для увеличения, двойной щелчок вернёт всё. От длинной линии рисуются экстремумы и "
        "все аномалии; на коротком отрезке видна каждая точка.",
    ),
    "plot_alt": Text(
        "{metrics} from {start} to {end}; episodes of anomalies: {count}",
        "{metrics} с {start} по {end}; эпизодов аномалий: {count}",
    ),
    "metric": Text("Metric", "Метрика"),
    "model": Text("Model", "Модель"),
    "only_anomalies": Text("Only anomalies", "Только аномалии"),
    "no_anomalies": Text("No anomalies here.", "Аномалий здесь нет."),
    "no_results": Text("No model has been asked yet.", "Модели ещё не спрашивали."),
    "first_rows": Text(
        "The first {shown} of {total} rows; the file has all.",
        "Первые {shown} из {total} строк; в файле есть все.",
    ),
    "download_csv": Text("Download CSV", "Скачать CSV"),
    "download_zip": Text("Download all as ZIP", "Скачать всё в ZIP"),
    "anomalies": Text("Anomalies", "Аномалии"),
    "samples": Text("Samples", "Точек"),
    "gaps": Text("Gaps", "Пропусков"),
    "minimum": Text("Minimum", "Минимум"),
    "maximum": Text("Maximum", "Максимум"),
    "mean": Text("Mean", "Среднее"),
    "median": Text("Median", "Медиана"),
    "deviation": Text("Standard deviation", "Стандартное отклонение"),
    "variation": Text("Coefficient of variation", "Коэффициент вариации"),
    "flagged": Text("Flagged samples", "Отмечено точек"),
    "flagged_share": Text("Flagged share", "Доля отмеченных"),
    "episodes": Text("Episodes", "Эпизоды"),
    "summary": Text("All metrics together", "Все метрики вместе"),
    "summary_about": Text(
        "Episodes in which any metric is anomalous; several at once are rarely chance.",
        "Эпизоды, в которых аномальна хотя бы одна метрика; несколько сразу — редко случайность.",
    ),
    "from": Text("From", "С"),
    "to": Text("To", "По"),
    "count": Text("How many", "Сколько"),
    "who": Text("Where", "Где"),
    "agreement": Text("Agreement", "Согласие"),
    "agreement_about": Text(
        "Share of the episodes of two models that both have found.",
        "Доля эпизодов двух моделей, которые нашли обе.",
    ),
    "who_found": Text("Found by", "Нашли"),
    "compare_needs": Text(
        "Ask two or more models to compare them.", "Чтобы сравнить, спросите две модели или больше."
    ),
    # Explore: analysis.
    "correlation": Text("Correlation", "Корреляция"),
    "correlation_about": Text(
        "Spearman's rank correlation: 1 where two metrics rise together, −1 where one falls instead.",
        "Ранговая корреляция Спирмена: 1 — метрики растут вместе, −1 — одна падает, когда другая растёт.",
    ),
    "correlation_needs": Text(
        "Choose two or more metrics to see how they go together.",
        "Чтобы увидеть связь, выберите две метрики или больше.",
    ),
    "seasonality": Text("Seasonality", "Сезонность"),
    "autocorrelation": Text("autocorrelation", "автокорреляция"),
    "lag_hours": Text("lag, hours", "сдвиг, часы"),
    "period": Text("Strongest period", "Главный период"),
    "period_none": Text("none found", "не найден"),
    "hours": Text("{hours} h", "{hours} ч"),
    "strength": Text("Strength of the season", "Сила сезонности"),
    "trend": Text("trend", "тренд"),
    "seasonal": Text("season", "сезон"),
    "rest": Text("rest", "остаток"),
    "stationarity": Text("Stationarity", "Стационарность"),
    "adf": Text("ADF, p-value", "ADF, p-значение"),
    "kpss": Text("KPSS, p-value", "KPSS, p-значение"),
    "verdict": Text("Verdict", "Вывод"),
    "stationary": Text(
        "Stationary: level and spread stay the same.",
        "Стационарный: уровень и разброс не меняются.",
    ),
    "wandering": Text(
        "Not stationary: it wanders, and does not come back to a level.",
        "Нестационарный: блуждает и не возвращается к уровню.",
    ),
    "verdict_trend": Text(
        "Stationary around a level that moves (trend or season).",
        "Стационарный вокруг меняющегося уровня (тренд или сезон).",
    ),
    "unclear": Text("The tests do not decide: too few samples.", "Тесты не решают: мало данных."),
    "analysis_small": Text(
        "{metric}: too few samples for an analysis, or it never changes.",
        "{metric}: для анализа мало данных, или ряд не меняется.",
    ),
    "averaged": Text("Computed on means of {minutes} min.", "Вычислено по средним за {minutes} мин."),
}
