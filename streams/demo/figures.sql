-- Queries of the demo. `since` and `run` (what its ids begin with) keep other decisions out.

-- name: positions
SELECT topic, partition, next_offset
FROM ml_learning.sink_offsets
WHERE lane = 'sink' AND cluster = %(cluster)s
ORDER BY changed_at

-- name: stored
SELECT
    (
        SELECT count(*) FROM ml_learning.agent_decisions
        WHERE created_at >= %(since)s AND starts_with(decision_id, %(run)s)
    ) AS rows,
    (
        SELECT count(*) FROM ml_learning.decision_feedback
        WHERE known_at >= %(since)s AND starts_with(decision_id, %(run)s)
    ) AS feedback,
    (
        SELECT count(*) FROM ml_learning.answered_decisions
        WHERE created_at >= %(since)s AND starts_with(decision_id, %(run)s) AND ml_decider IS NOT NULL
    ) AS answered_by_model,
    (
        SELECT coalesce(sum(l.requests), 0)::bigint
        FROM ml_learning.lane_ledger AS l
        JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
        WHERE l.known_at >= %(since)s AND t.cluster = %(cluster)s AND t.topic = %(requests)s
    ) AS in_ledger

-- name: ledger
SELECT
    coalesce(sum(l.requests), 0)::bigint AS requests,
    coalesce(sum(l.outcomes), 0)::bigint AS outcomes,
    coalesce(sum(l.pending), 0)::bigint AS pending,
    coalesce(sum(l.dead_letters), 0)::bigint AS dead_letters,
    coalesce(sum(l.duplicates), 0)::bigint AS duplicates,
    coalesce(sum(l.retrying), 0)::bigint AS retrying,
    coalesce(sum(
        l.requests - l.outcomes - l.pending - l.dead_letters - l.duplicates - l.retrying
    ), 0)::bigint AS difference
FROM ml_learning.lane_ledger AS l
JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
WHERE l.known_at >= %(since)s AND t.cluster = %(cluster)s AND t.topic = %(requests)s

-- name: sides
-- One row for each source and arm, and one with both NULL for all.
SELECT
    source, arm,
    count(*) AS decisions,
    count(DISTINCT decision_id) AS ids,
    count(fallback_reason) AS fallbacks,
    count(*) FILTER (WHERE action = 'validate') AS validations,
    count(*) FILTER (WHERE action = 'escalate') AS escalations,
    percentile_disc(0.50) WITHIN GROUP (ORDER BY total_ms) AS p50_ms,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY total_ms) AS p95_ms,
    percentile_disc(0.99) WITHIN GROUP (ORDER BY total_ms) AS p99_ms
FROM ml_learning.agent_decisions
WHERE created_at >= %(since)s AND starts_with(decision_id, %(run)s)
GROUP BY GROUPING SETS ((source, arm), ())
ORDER BY source, arm

-- name: features
SELECT decision_id, features
FROM ml_learning.agent_decisions
WHERE created_at >= %(since)s AND starts_with(decision_id, %(run)s)

-- name: fallbacks
SELECT fallback_reason AS name, count(*) AS decisions
FROM ml_learning.agent_decisions
WHERE created_at >= %(since)s AND starts_with(decision_id, %(run)s) AND fallback_reason IS NOT NULL
GROUP BY 1
ORDER BY 2 DESC, 1

-- name: signals
SELECT value_text AS name, count(*) AS decisions
FROM ml_learning.decision_feedback
WHERE known_at >= %(since)s AND starts_with(decision_id, %(run)s) AND kind = 'signal'
GROUP BY 1
ORDER BY 2 DESC, 1
