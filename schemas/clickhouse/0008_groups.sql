-- The anomaly of a group of series tells the share of each.
ALTER TABLE anomalies ADD COLUMN IF NOT EXISTS contributions Map(String, Float64) CODEC(ZSTD(1)) COMMENT 'of a group: share of each channel in the worst moment, by its series';

CREATE OR REPLACE VIEW anomalies_latest AS
SELECT
    metric,
    series_id,
    series,
    started,
    anomaly_id,
    newest.1 AS revision,
    newest.2 AS event_id,
    newest.3 AS labels,
    newest.4 AS status,
    newest.5 AS kind,
    newest.6 AS severity,
    newest.7 AS direction,
    newest.8 AS score,
    newest.9 AS peak_score,
    newest.10 AS actual,
    newest.11 AS expected,
    newest.12 AS lower,
    newest.13 AS upper,
    newest.14 AS detected,
    newest.15 AS ended,
    newest.16 AS samples,
    newest.17 AS detectors,
    newest.18 AS reason,
    newest.19 AS muted_by,
    newest.20 AS contributions
FROM
(
    SELECT
        metric,
        series_id,
        series,
        started,
        anomaly_id,
        argMax(
            tuple(
                revision, event_id, labels, status, kind, severity, direction, score, peak_score, actual,
                expected, lower, upper, detected, ended, samples, detectors, reason, muted_by,
                contributions
            ),
            revision
        ) AS newest
    FROM anomalies
    GROUP BY metric, series_id, series, started, anomaly_id
);
