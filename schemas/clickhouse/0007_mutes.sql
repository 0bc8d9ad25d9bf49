-- A mute stays readable after it was lifted: what it muted until then it muted.
ALTER TABLE mutes ADD COLUMN IF NOT EXISTS excepted Array(DateTime64(3, 'UTC')) COMMENT 'starts of repetitions left out';

CREATE OR REPLACE VIEW mutes_latest AS
SELECT
    mute_id,
    newest.1 AS at,
    toUInt8(lift >= newest.1) AS lifted,
    newest.2 AS matcher,
    newest.3 AS started,
    newest.4 AS ended,
    newest.5 AS repeat,
    newest.6 AS timezone,
    newest.7 AS learn,
    newest.8 AS origin,
    newest.9 AS by,
    newest.10 AS why,
    newest.11 AS excepted,
    if(lift >= newest.1, lift, NULL) AS lifted_at
FROM
(
    SELECT
        mute_id,
        argMaxIf(
            tuple(at, matcher, started, ended, repeat, timezone, learn, origin, by, why, excepted),
            tuple(at, command_id), m.lifted = 0
        ) AS newest,
        maxIf(at, m.lifted = 1) AS lift
    FROM mutes AS m
    GROUP BY mute_id
    HAVING countIf(m.lifted = 0) > 0
);
