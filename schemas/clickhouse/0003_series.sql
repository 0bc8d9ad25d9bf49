-- The series that were seen. The sink writes a series again about once an hour of its event time, to keep
-- last_seen; rows of one id melt into one (read through series_latest).
CREATE TABLE IF NOT EXISTS series
(
    series_id UInt64 COMMENT 'xxHash64 of series',
    series SimpleAggregateFunction(any, String) COMMENT 'canonical text',
    metric SimpleAggregateFunction(any, String),
    labels SimpleAggregateFunction(any, Map(String, String)),
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')) COMMENT 'event time',
    last_seen SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'event time, to about an hour'
)
ENGINE = AggregatingMergeTree
ORDER BY series_id;
