-- Every revision of every incident (schemas.incident.Incident). One row for each incident and revision under
-- FINAL; the newest revision of each under the view incidents_latest.
CREATE TABLE IF NOT EXISTS incidents
(
    incident_id String CODEC(ZSTD(1)),
    revision UInt32,
    event_id String CODEC(ZSTD(1)),
    status LowCardinality(String) COMMENT 'open, update, close',
    group LowCardinality(String) COMMENT 'name of the rule by which the members belong together',
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'what the members share',
    severity LowCardinality(String) COMMENT 'info, warning, critical',
    peak_score Float64 COMMENT '1.0 is the alert threshold',
    started DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'of the earliest member',
    detected DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'of this revision',
    ended Nullable(DateTime64(3, 'UTC')),
    title String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)) COMMENT 'in words',
    series UInt32 COMMENT 'distinct series among the members',
    members Array(Tuple(
        anomaly_id String, series String, metric String, kind String, severity String, direction String,
        peak_score Float64, actual Nullable(Float64), expected Nullable(Float64), lower Nullable(Float64),
        upper Nullable(Float64), started DateTime64(3, 'UTC'), ended Nullable(DateTime64(3, 'UTC')),
        reason String
    )) CODEC(ZSTD(1)) COMMENT 'the first is the root candidate',
    merged_into Nullable(String) COMMENT 'the incident that took this one over',
    stored Date DEFAULT today() COMMENT 'day of arrival, from which the TTL counts'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(detected)
ORDER BY (incident_id, revision)
SETTINGS ttl_only_drop_parts = 1;

CREATE OR REPLACE VIEW incidents_latest AS
SELECT
    incident_id,
    newest.1 AS revision,
    newest.2 AS event_id,
    newest.3 AS status,
    newest.4 AS group,
    newest.5 AS labels,
    newest.6 AS severity,
    newest.7 AS peak_score,
    newest.8 AS started,
    newest.9 AS detected,
    newest.10 AS ended,
    newest.11 AS title,
    newest.12 AS reason,
    newest.13 AS series,
    newest.14 AS members,
    newest.15 AS merged_into,
    toUnixTimestamp64Milli(started) AS started_ms,
    toUnixTimestamp64Milli(ended) AS ended_ms
FROM
(
    SELECT
        incident_id,
        argMax(
            tuple(
                revision, event_id, status, group, labels, severity, peak_score, started, detected, ended,
                title, reason, series, members, merged_into
            ),
            revision
        ) AS newest
    FROM incidents
    GROUP BY incident_id
);

-- Verdicts of people on anomalies (schemas.control.Label); the newest of each anomaly under labels_latest.
CREATE TABLE IF NOT EXISTS labels
(
    anomaly_id String CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC'),
    command_id String CODEC(ZSTD(1)),
    series String CODEC(ZSTD(1)),
    verdict LowCardinality(String) COMMENT 'true, false, expected',
    started DateTime64(3, 'UTC') COMMENT 'of the anomaly',
    ended Nullable(DateTime64(3, 'UTC')),
    detectors Array(LowCardinality(String)) COMMENT 'those that spoke',
    policy LowCardinality(String) COMMENT 'in force for the series, empty for the default',
    by String,
    why String
)
ENGINE = ReplacingMergeTree
ORDER BY (anomaly_id, at, command_id);

CREATE OR REPLACE VIEW labels_latest AS
SELECT
    anomaly_id,
    newest.1 AS at,
    newest.2 AS series,
    newest.3 AS verdict,
    newest.4 AS started,
    newest.5 AS ended,
    newest.6 AS detectors,
    newest.7 AS policy,
    newest.8 AS by,
    newest.9 AS why
FROM
(
    SELECT
        anomaly_id,
        argMax(
            tuple(at, series, verdict, started, ended, detectors, policy, by, why), tuple(at, command_id)
        ) AS newest
    FROM labels
    GROUP BY anomaly_id
);

-- Mutes and their ends (schemas.control.Mute, Unmute); the newest command of each under mutes_latest.
CREATE TABLE IF NOT EXISTS mutes
(
    mute_id String CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC'),
    command_id String CODEC(ZSTD(1)),
    lifted UInt8 COMMENT '1 for an unmute',
    matcher String CODEC(ZSTD(1)),
    started Nullable(DateTime64(3, 'UTC')),
    ended Nullable(DateTime64(3, 'UTC')) COMMENT 'NULL until it is lifted',
    repeat String COMMENT 'RFC 5545 recurrence rule, empty for once',
    timezone LowCardinality(String),
    learn UInt8,
    origin LowCardinality(String) COMMENT 'person, calendar, change',
    by String,
    why String
)
ENGINE = ReplacingMergeTree
ORDER BY (mute_id, at, command_id);

CREATE OR REPLACE VIEW mutes_latest AS
SELECT
    mute_id,
    newest.1 AS at,
    newest.2 AS lifted,
    newest.3 AS matcher,
    newest.4 AS started,
    newest.5 AS ended,
    newest.6 AS repeat,
    newest.7 AS timezone,
    newest.8 AS learn,
    newest.9 AS origin,
    newest.10 AS by,
    newest.11 AS why
FROM
(
    SELECT
        mute_id,
        argMax(
            tuple(at, lifted, matcher, started, ended, repeat, timezone, learn, origin, by, why),
            tuple(at, command_id)
        ) AS newest
    FROM mutes
    GROUP BY mute_id
);

-- What was done to services (schemas.control.Change), for annotations and mutes. Read with FINAL.
CREATE TABLE IF NOT EXISTS changes
(
    change_id String CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC'),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    kind LowCardinality(String),
    title String,
    by String,
    url String,
    mute_minutes Nullable(UInt32)
)
ENGINE = ReplacingMergeTree
ORDER BY (change_id, at);

-- Precision of each detector and policy by the verdicts of the month in which the anomaly began: expected
-- ones were right to find.
CREATE OR REPLACE VIEW detector_quality AS
SELECT
    toStartOfMonth(l.started) AS month,
    detector,
    l.policy AS policy,
    count() AS labelled,
    countIf(l.verdict = 'false') AS false_alarms,
    countIf(l.verdict != 'false') / count() AS precision
FROM labels_latest AS l
ARRAY JOIN l.detectors AS detector
GROUP BY month, detector, policy;
