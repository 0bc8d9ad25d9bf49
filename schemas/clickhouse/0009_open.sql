-- Open means open: an anomaly that is not closed and of which nothing was heard for three days, by the time of
-- the samples, counts as closed at what was heard of it last, and its reason says so. Its worker has lost its
-- state (another configuration begins it anew), or nothing of its partition comes any more. It is told again
-- every engine.update_every_samples (64), so three days are enough for a sample an hour. What came today
-- counts as open: in a replay partitions are days of event time apart.
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
    if(unheard, 'close', newest.4) AS status,
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
    if(unheard, newest.14, newest.15) AS ended,
    newest.16 AS samples,
    newest.17 AS detectors,
    if(
        unheard,
        concat(
            'Closed by itself: nothing was heard of it after ',
            formatDateTime(newest.14, '%Y-%m-%d %H:%i UTC'), '. ', newest.18
        ),
        newest.18
    ) AS reason,
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
                contributions, stored
            ),
            revision
        ) AS newest,
        newest.4 != 'close' AND newest.21 < today()
            AND newest.14 < (SELECT max(last_seen) FROM series) - INTERVAL 3 DAY AS unheard
    FROM anomalies
    GROUP BY metric, series_id, series, started, anomaly_id
);
