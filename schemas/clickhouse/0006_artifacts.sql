-- Manifests of fitted models (schemas.artifact.Manifest) with their shadow reports, written by the trainers.
-- Read with FINAL. What serves is on the topic tocsin.artifacts.
CREATE TABLE IF NOT EXISTS artifacts
(
    detector LowCardinality(String),
    series String CODEC(ZSTD(1)),
    trained_to DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'end of the history, outside',
    artifact_id String CODEC(ZSTD(1)),
    version UInt32 COMMENT 'of the detector',
    trained_from DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sha256 String,
    size UInt64 COMMENT 'bytes of the payload',
    params String CODEC(ZSTD(1)) COMMENT 'JSON',
    report String CODEC(ZSTD(1)) COMMENT 'JSON: the shadow report',
    fitted DateTime DEFAULT now()
)
ENGINE = ReplacingMergeTree
ORDER BY (detector, series, trained_to, artifact_id);
