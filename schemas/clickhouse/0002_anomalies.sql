-- Every revision of every anomaly (schemas.event.AnomalyEvent). One row for each event_id under FINAL; the
-- newest revision of each anomaly under the view anomalies_latest.
--
-- Metric, series and start are the same in all revisions of an anomaly, so they may lead the key: panels
-- filter by them, and a filter is pushed below the view's GROUP BY only for its keys.
CREATE TABLE IF NOT EXISTS anomalies
(
    metric LowCardinality(String),
    series_id UInt64 COMMENT 'xxHash64 of series',
    started DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    anomaly_id String CODEC(ZSTD(1)),
    revision UInt32,
    series String CODEC(ZSTD(1)) COMMENT 'canonical text',
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    event_id String CODEC(ZSTD(1)) COMMENT 'hash of series, start and revision',
    status LowCardinality(String) COMMENT 'open, update, close',
    kind LowCardinality(String) COMMENT 'spike, dip, shift, drift, spread, pattern, silence, flat',
    severity LowCardinality(String) COMMENT 'info, warning, critical: from peak_score',
    direction LowCardinality(String) COMMENT 'above, below, both',
    score Float64 COMMENT '1.0 is the alert threshold',
    peak_score Float64,
    actual Nullable(Float64),
    expected Nullable(Float64),
    lower Nullable(Float64),
    upper Nullable(Float64),
    detected DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    ended Nullable(DateTime64(3, 'UTC')),
    samples UInt32 COMMENT 'of the episode so far',
    detectors Array(Tuple(name String, version UInt32, score Float64, artifact String))
        COMMENT 'those that spoke; artifact is empty where there is none',
    reason String CODEC(ZSTD(1)) COMMENT 'in words',
    muted_by Nullable(String),
    stored Date DEFAULT today() COMMENT 'day of arrival, from which the TTL counts'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(started)
ORDER BY (metric, series_id, started, anomaly_id, revision)
SETTINGS ttl_only_drop_parts = 1;
