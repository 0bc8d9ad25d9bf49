"""Texts of Explore: what was found, and the analysis."""

from __future__ import annotations

from typing import Final

from console.pages.texts.text import Text

FOUND: Final = {
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
    "column_timestamp": Text("Time (UTC)", "Время (UTC)"),
    "column_value": Text("Value", "Значение"),
    "column_score": Text("Score", "Оценка"),
    "column_level": Text("Level", "Уровень"),
    "column_expected": Text("Expected", "Ожидалось"),
    "column_lower": Text("Band from", "Полоса от"),
    "column_upper": Text("Band to", "Полоса до"),
    "column_anomaly": Text("Anomaly", "Аномалия"),
    "column_start": Text("From (UTC)", "С (UTC)"),
    "column_end": Text("To (UTC)", "По (UTC)"),
    "column_severity": Text("Severity", "Важность"),
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
    "by_model": Text("By model", "По моделям"),
    "together_needs": Text(
        "Choose two or more metrics and ask models about them.",
        "Выберите две метрики или больше и спросите о них модели.",
    ),
    "model_together": Text("What {model} says of all metrics", "Что {model} говорит обо всех метриках"),
    "leading": Text("Most often to blame", "Чаще всего виновата"),
    "contributions": Text("Contributions", "Вклад метрик"),
    "contributions_about": Text(
        "By how much the score would fall without a metric, as a share: of the strongest episodes.",
        "Насколько упала бы оценка без метрики, в долях: для самых сильных эпизодов.",
    ),
    "side_by_side": Text("Side by side", "Рядом"),
    "agreement": Text("Agreement", "Согласие"),
    "agreement_about": Text(
        "Share of the episodes of two models that both have found.",
        "Доля эпизодов двух моделей, которые нашли обе.",
    ),
    "who_found": Text("Found by", "Нашли"),
    "compare_needs": Text(
        "Ask two or more models to compare them.", "Чтобы сравнить, спросите две модели или больше."
    ),
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
