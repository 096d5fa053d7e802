-- Queries of read.py.

-- name: decision
-- The one decided last: an id may come again after the window in which duplicates are known.
SELECT * FROM ml_learning.decisions WHERE decision_id = %s ORDER BY created_at DESC, revision DESC

-- name: decision_input
-- As received; no row once it was deleted.
SELECT input FROM ml_learning.decision_contents
WHERE topic_id = %s AND partition = %s AND request_offset = %s AND revision = %s AND decision_id = %s

-- name: decision_shadows
SELECT decider, prediction, score, confidence, reason, answered_at, known_at
FROM ml_learning.decision_shadows
WHERE topic_id = %s AND partition = %s AND request_offset = %s AND decision_id = %s
ORDER BY known_at, answered_at

-- name: decision_feedback
SELECT
    f.event_id, f.kind, coalesce(f.value_text, ml_learning.as_jsonb(c.content) ->> f.kind) AS value_text,
    f.value_number, f.value_time, ml_learning.as_jsonb(c.content) ->> 'sender' AS sender, f.observed_at, f.known_at,
    f.authorised, c.content IS NOT NULL AS content_kept
FROM ml_learning.decision_feedback AS f
LEFT JOIN ml_learning.feedback_contents AS c USING (decision_id, event_id)
WHERE f.decision_id = %s AND f.agent_name = %s
ORDER BY f.known_at, f.seq

-- name: summary
SELECT
    arm,
    coalesce(sum(decisions), 0)::bigint AS decisions,
    coalesce(sum(by_ml), 0)::bigint AS by_ml,
    coalesce(sum(fallbacks), 0)::bigint AS fallbacks,
    coalesce(sum(failures), 0)::bigint AS failures,
    coalesce(sum(validations), 0)::bigint AS validations,
    coalesce(sum(escalations), 0)::bigint AS escalations,
    coalesce(sum(both_answered), 0)::bigint AS both_answered,
    coalesce(sum(agreements), 0)::bigint AS agreements,
    coalesce(sum(pending), 0)::bigint AS pending,
    (sum(confidence_sum) / nullif(sum(decisions), 0))::double precision AS confidence_mean,
    (sum(latency_sum_ms) / nullif(sum(decisions), 0))::double precision AS latency_mean_ms
FROM ml_learning.decision_minutes
WHERE agent_name = %(agent)s AND minute >= %(since)s
GROUP BY arm
ORDER BY arm

-- name: fallbacks
SELECT reason, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_fallback_minutes
WHERE agent_name = %(agent)s AND minute >= %(since)s
GROUP BY reason
ORDER BY decisions DESC, reason

-- name: latency
-- One row an arm, and one with arm NULL for both.
SELECT
    arm,
    ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.50) AS p50_ms,
    ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.95) AS p95_ms,
    ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.99) AS p99_ms
FROM (
    SELECT arm, bucket, sum(decisions)::bigint AS decisions
    FROM ml_learning.decision_latency_buckets
    WHERE agent_name = %(agent)s AND minute >= %(since)s
    GROUP BY arm, bucket
) AS histogram
GROUP BY GROUPING SETS ((arm), ())
HAVING count(*) > 0
ORDER BY arm NULLS LAST

-- name: labelled
SELECT decision_id, created_at, label, prediction AS served, rules_prediction AS rules, ml_prediction AS ml,
    source, arm, ml_score, ml_in_shadow
FROM ml_learning.labelled_decisions
WHERE agent_name = %(agent)s AND created_at >= %(since)s
ORDER BY created_at, decision_id
