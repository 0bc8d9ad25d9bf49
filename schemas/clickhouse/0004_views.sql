-- One row for each sample, NULL where there is nothing to say.
CREATE OR REPLACE VIEW telemetry_dedup AS
SELECT
    series_id,
    ts,
    if(isFinite(value), value, NULL) AS value,
    if(isFinite(score), score, NULL) AS score,
    if(isFinite(level), level, NULL) AS level,
    if(isFinite(expected), expected, NULL) AS expected,
    if(isFinite(lower), lower, NULL) AS lower,
    if(isFinite(upper), upper, NULL) AS upper,
    transform(state, [0, 1, 2, 3, 4], ['scored', 'warming_up', 'gap', 'late', 'duplicate'], 'unknown') AS state,
    alert
FROM telemetry FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- The newest revision of each anomaly. argMax of a tuple, because argMax of a column skips NULL and would
-- mix revisions.
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
    newest.19 AS muted_by
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
                expected, lower, upper, detected, ended, samples, detectors, reason, muted_by
            ),
            revision
        ) AS newest
    FROM anomalies
    GROUP BY metric, series_id, series, started, anomaly_id
);

CREATE OR REPLACE VIEW series_latest AS
SELECT
    series_id,
    any(s.series) AS series,
    any(s.metric) AS metric,
    any(s.labels) AS labels,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen
FROM series AS s
GROUP BY series_id;

-- An hour of a series. A view and not a materialized one: a batch that is inserted again after a crash is cut
-- differently, passes every insert deduplication and would be counted twice in an AggregatingMergeTree, where
-- no key can replace it.
CREATE OR REPLACE VIEW telemetry_hourly AS
SELECT
    series_id,
    toStartOfHour(t.ts) AS hour,
    count() AS samples,
    countIf(t.state = 2) AS gaps,
    countIf(t.alert = 1) AS alert_samples,
    avgOrNullIf(t.value, isFinite(t.value)) AS value_avg,
    minOrNullIf(t.value, isFinite(t.value)) AS value_min,
    maxOrNullIf(t.value, isFinite(t.value)) AS value_max,
    maxOrNullIf(t.score, isFinite(t.score)) AS score_max,
    maxOrNullIf(t.level, isFinite(t.level)) AS level_max
FROM telemetry AS t FINAL
GROUP BY series_id, hour
SETTINGS do_not_merge_across_partitions_select_final = 1;
