-- Queries of drift.py.

-- name: add
INSERT INTO ml_learning.drift_counts AS stored (agent_name, model, reference, hour, shard, counts)
SELECT agent, model, reference, '2000-01-01T00:00Z'::timestamptz + make_interval(hours => hour), shard, counts::integer[]
FROM unnest(%s::text[], %s::text[], %s::text[], %s::integer[], %s::integer[], %s::text[])
    AS added (agent, model, reference, hour, shard, counts)
ON CONFLICT (agent_name, model, reference, hour, shard) DO UPDATE SET counts = (
    SELECT array_agg(a + b ORDER BY place)
    FROM unnest(stored.counts, excluded.counts) WITH ORDINALITY AS both_ (a, b, place)
)

-- name: window
-- The hour that is under way and those before it, so many in all.
SELECT ml_learning.hour_of(statement_timestamp()) + interval '1 hour'

-- name: counts
SELECT sum(n)::bigint
FROM ml_learning.drift_counts
CROSS JOIN LATERAL unnest(counts) WITH ORDINALITY AS bins (n, place)
WHERE agent_name = %(agent)s AND model = %(model)s AND reference = %(reference)s
    AND hour >= %(end)s - make_interval(hours => %(hours)s) AND hour < %(end)s
GROUP BY place
ORDER BY place

-- name: keep
-- Also by several workers at once; who looked earlier does not write over who saw more.
INSERT INTO ml_learning.drift AS stored (
    agent_name, model, reference, feature, window_end, window_hours, n, effect, p, verdict, edges, expected, counts
)
VALUES (
    %(agent)s, %(model)s, %(reference)s, %(feature)s, %(end)s, %(hours)s, %(n)s, %(effect)s, %(p)s, %(verdict)s,
    %(edges)s::double precision[], %(expected)s::bigint[], %(counts)s::bigint[]
)
ON CONFLICT (agent_name, feature, window_end, model, reference) DO UPDATE SET
    window_hours = excluded.window_hours, n = excluded.n, effect = excluded.effect, p = excluded.p,
    verdict = excluded.verdict, edges = excluded.edges, expected = excluded.expected, counts = excluded.counts,
    known_at = excluded.known_at
WHERE stored.n <= excluded.n OR stored.window_hours <> excluded.window_hours

-- name: forget_counts
-- Hours that are in no window any more. One that a writer holds is left for the next time.
DELETE FROM ml_learning.drift_counts
WHERE (agent_name, model, reference, hour, shard) IN (
    SELECT agent_name, model, reference, hour, shard
    FROM ml_learning.drift_counts
    WHERE hour < %(end)s - make_interval(hours => %(hours)s + 24)
    FOR UPDATE SKIP LOCKED
)

-- name: forget
DELETE FROM ml_learning.drift WHERE window_end < statement_timestamp() - make_interval(days => %(days)s)
