-- Samples with what the detectors said. One row for each (series_id, ts) under the view telemetry_dedup.
--
-- NaN, not NULL, where there is no score or band: measured on 2 M rows both take the same bytes, and float
-- arrays go from the worker's message into the insert without a mask. The view turns NaN into NULL.
-- ts and series_id cost 0.02 bytes a row together; Gorilla and FPC are worse than ZSTD on real values.
-- Days as partitions: the dashboards' last 24 hours read one or two of them, and old ones are dropped whole.
-- A row that comes twice is replaced. When two samples claim one time, the first that was judged wins over
-- one that came late, that over a gap, and a repetition loses against all.
CREATE TABLE IF NOT EXISTS telemetry
(
    series_id UInt64 CODEC(ZSTD(1)) COMMENT 'xxHash64 of the canonical text of the series',
    ts DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'event time',
    value Float64 CODEC(ZSTD(1)) COMMENT 'NaN is a gap',
    score Float32 CODEC(ZSTD(1)) COMMENT '1.0 is the alert threshold; NaN where there is none',
    level Float32 CODEC(ZSTD(1)) COMMENT 'smoothed score',
    expected Float32 CODEC(ZSTD(1)) COMMENT 'NaN where no detector has it',
    lower Float32 CODEC(ZSTD(1)) COMMENT 'lower end of the band',
    upper Float32 CODEC(ZSTD(1)) COMMENT 'upper end of the band',
    state UInt8 CODEC(ZSTD(1)) COMMENT 'schemas.score.SampleState: 0 scored, 1 warming_up, 2 gap, 3 late, 4 duplicate',
    alert UInt8 CODEC(ZSTD(1)) COMMENT '1 while an anomaly is open on the series',
    stored Date DEFAULT today() CODEC(ZSTD(1)) COMMENT 'day of arrival, from which the TTL counts',
    version UInt8 MATERIALIZED multiIf(state <= 1, 4, state = 3, 3, state = 2, 2, 1) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(ts)
ORDER BY (series_id, ts)
SETTINGS ttl_only_drop_parts = 1;
