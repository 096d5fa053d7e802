-- Queries of rollup.py. Names in braces are filled in there: {shards} and {sums} are tables, {keys} and {counts} lists of
-- columns that both have besides agent_name, time and arm.

-- name: alone
SELECT pg_try_advisory_xact_lock(hashtext('pointsman roll-up'))

-- name: has_chunks
SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL

-- name: compressed_until
-- No row of a compressed chunk can be locked, nor needs to be merged: its rows were, but for what came later still.
SELECT coalesce(max(range_end)::text, '-infinity')
FROM timescaledb_information.chunks
WHERE hypertable_schema = 'ml_learning' AND hypertable_name = '{shards}' AND is_compressed

-- name: span
-- The oldest shards that are not merged: from when to when.
SELECT count(*), min(minute), max(minute)
FROM (
    SELECT minute FROM ml_learning.{shards}
    WHERE shard >= 0 AND minute >= %(since)s
        AND minute < statement_timestamp() - make_interval(secs => %(after_s)s)
    ORDER BY minute
    LIMIT %(most)s
) AS oldest

-- name: merge
-- A row that a writer holds is left for the next time: so this waits for none. What a writer adds meanwhile to a row that
-- is taken here waits for the end of this, and begins the row anew.
WITH taken AS MATERIALIZED (
    SELECT agent_name, minute, arm, shard{keys}
    FROM ml_learning.{shards}
    WHERE shard >= 0 AND minute >= %(since)s AND minute <= %(until)s
    ORDER BY minute
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM ml_learning.{shards} AS stored
    USING taken
    WHERE {same} AND stored.minute >= %(since)s AND stored.minute <= %(until)s
    RETURNING stored.*
),
merged AS (
    INSERT INTO ml_learning.{shards} AS stored (agent_name, minute, arm, shard{keys}, {counts})
    SELECT agent_name, minute, arm, -1{keys}, {summed} FROM gone
    GROUP BY agent_name, minute, arm{keys}
    ON CONFLICT (agent_name, minute, arm, shard{keys}) DO UPDATE SET {added}
),
kept AS (
    INSERT INTO ml_learning.{sums} AS stored (agent_name, hour, arm{keys}, {counts})
    SELECT agent_name, ml_learning.hour_of(minute), arm{keys}, {summed} FROM gone
    GROUP BY agent_name, ml_learning.hour_of(minute), arm{keys}
    ON CONFLICT (agent_name, hour, arm{keys}) DO UPDATE SET {added}
)
SELECT count(*) FROM gone

-- name: forget
-- Hours follow their minutes, which the edition's retention has dropped.
DELETE FROM ml_learning.{sums} AS stored
WHERE hour < statement_timestamp() - make_interval(days => %(days)s)
    AND NOT EXISTS (
        SELECT FROM ml_learning.{shards} AS shard
        WHERE shard.agent_name = stored.agent_name
            AND shard.minute >= stored.hour AND shard.minute < stored.hour + interval '1 hour'
    )

-- name: differences
-- The hours that are kept must be the sums of the merged minutes.
SELECT agent_name, hour AS minute, arm{keys}, a.counts AS counted, b.counts AS audited
FROM (SELECT agent_name, hour, arm{keys}, ARRAY[{counts}]::numeric[] AS counts FROM ml_learning.{sums}) AS a
FULL JOIN (
    SELECT agent_name, ml_learning.hour_of(minute) AS hour, arm{keys}, ARRAY[{summed}]::numeric[] AS counts
    FROM ml_learning.{shards}
    WHERE shard < 0
    GROUP BY agent_name, ml_learning.hour_of(minute), arm{keys}
) AS b USING (agent_name, hour, arm{keys})
WHERE a.counts IS DISTINCT FROM b.counts
ORDER BY agent_name, hour, arm{keys}
