-- Queries of audit.py and writes.py: everything here runs in the one transaction of a batch,
-- but for the position and the topics.

-- name: position
SELECT next_offset FROM ml_learning.sink_offsets
WHERE lane = %s AND cluster = %s AND topic = %s AND topic_generation = %s AND partition = %s

-- name: as_oneself
-- Ending another session needs the rights that it logged in with, not the service's.
SET LOCAL ROLE NONE

-- name: end_others
-- Ends the transactions that still hold this position: their owner is stalled or its machine is gone.
SELECT pg_terminate_backend(held.pid)
FROM pg_locks AS held
JOIN pg_stat_activity AS session ON session.pid = held.pid
WHERE held.locktype = 'advisory'
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = (hashtext(%s)::bigint & x'ffffffff'::bigint)::oid
    AND held.objid = %s::oid
    AND held.objsubid = 2
    AND held.granted
    AND held.pid <> pg_backend_pid()
    AND pg_has_role(current_user, session.usesysid, 'USAGE')

-- name: advance
-- Compare and set. The advisory lock names the writer to `end_others`; a row's lock would name nobody before
-- the row exists. No row comes back if the stored offset is not the batch's start.
INSERT INTO ml_learning.sink_offsets AS stored (lane, cluster, topic, topic_generation, partition, next_offset)
SELECT %(lane)s, %(cluster)s, %(topic)s, %(generation)s, %(partition)s, %(end)s
FROM pg_advisory_xact_lock(hashtext(%(lock)s), %(partition)s)
ON CONFLICT (lane, cluster, topic, topic_generation, partition) DO UPDATE
SET next_offset = excluded.next_offset, changed_at = statement_timestamp()
WHERE stored.next_offset = %(start)s
RETURNING next_offset

-- name: find_topic
SELECT id FROM ml_learning.kafka_topics WHERE cluster = %s AND topic = %s

-- name: add_topic
INSERT INTO ml_learning.kafka_topics (cluster, topic) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: copy_places
COPY ml_learning.decision_places (topic_id, partition, request_offset, revision, content_hash)
FROM STDIN (FORMAT binary)

-- name: claim_places
INSERT INTO ml_learning.decision_places (topic_id, partition, request_offset, revision, content_hash)
SELECT * FROM unnest(%s::integer[], %s::integer[], %s::bigint[], %s::smallint[], %s::bigint[])
ON CONFLICT DO NOTHING
RETURNING topic_id, partition, request_offset, revision, content_hash

-- name: copy_decisions
COPY ml_learning.agent_decisions (
    created_at, requested_at, request_offset, confidence, total_ms, features_ms, model_ms,
    rules_score, rules_confidence, ml_score, ml_confidence, decision_id,
    topic_id, partition, flag_version, flag_percentage, revision, success, needs_review,
    agent_name, status, source, arm, prediction, action, fallback_reason,
    flag_name, pointsman_version, features_version, rules_version, ml_version,
    reason, rules_decider, rules_prediction, rules_reason, ml_decider, ml_prediction, ml_reason,
    trace_id, content_hash, commitment, features
) FROM STDIN (FORMAT binary)

-- name: copy_contents
COPY ml_learning.decision_contents (
    created_at, request_offset, topic_id, partition, revision, decision_id, unit, salt, input
) FROM STDIN (FORMAT binary)

-- name: add_minutes
INSERT INTO ml_learning.decision_minute_shards AS stored (
    agent_name, minute, arm, shard,
    decisions, by_ml, fallbacks, failures, validations, escalations, reviews,
    both_answered, agreements, confidence_sum_e6, latency_sum_us, pending
)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12
FROM unnest(
    %s::text[], %s::integer[], %s::text[], %s::integer[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]
) AS added (a, m, r, s, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12)
ON CONFLICT (agent_name, minute, arm, shard) DO UPDATE SET
    decisions = stored.decisions + excluded.decisions,
    by_ml = stored.by_ml + excluded.by_ml,
    fallbacks = stored.fallbacks + excluded.fallbacks,
    failures = stored.failures + excluded.failures,
    validations = stored.validations + excluded.validations,
    escalations = stored.escalations + excluded.escalations,
    reviews = stored.reviews + excluded.reviews,
    both_answered = stored.both_answered + excluded.both_answered,
    agreements = stored.agreements + excluded.agreements,
    confidence_sum_e6 = stored.confidence_sum_e6 + excluded.confidence_sum_e6,
    latency_sum_us = stored.latency_sum_us + excluded.latency_sum_us,
    pending = stored.pending + excluded.pending

-- name: add_fallbacks
INSERT INTO ml_learning.decision_fallback_shards AS stored (agent_name, minute, arm, shard, reason, decisions)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, f, n
FROM unnest(%s::text[], %s::integer[], %s::text[], %s::integer[], %s::text[], %s::bigint[]) AS added (a, m, r, s, f, n)
ON CONFLICT (agent_name, minute, arm, shard, reason) DO UPDATE SET decisions = stored.decisions + excluded.decisions

-- name: add_latency
INSERT INTO ml_learning.decision_latency_shards AS stored (agent_name, minute, arm, shard, bucket, decisions)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, b, n
FROM unnest(%s::text[], %s::integer[], %s::text[], %s::integer[], %s::integer[], %s::bigint[]) AS added (a, m, r, s, b, n)
ON CONFLICT (agent_name, minute, arm, shard, bucket) DO UPDATE SET decisions = stored.decisions + excluded.decisions

-- name: add_confidences
INSERT INTO ml_learning.decision_confidence_shards AS stored (agent_name, minute, arm, shard, band, decisions)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, b, n
FROM unnest(%s::text[], %s::integer[], %s::text[], %s::integer[], %s::integer[], %s::bigint[]) AS added (a, m, r, s, b, n)
ON CONFLICT (agent_name, minute, arm, shard, band) DO UPDATE SET decisions = stored.decisions + excluded.decisions

-- name: add_flags
INSERT INTO ml_learning.decision_flag_shards AS stored (
    agent_name, minute, arm, shard, flag_version, flag_percentage, decisions
)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, v, p, n
FROM unnest(
    %s::text[], %s::integer[], %s::text[], %s::integer[], %s::bigint[], %s::double precision[], %s::bigint[]
) AS added (a, m, r, s, v, p, n)
ON CONFLICT (agent_name, minute, arm, shard, flag_version, flag_percentage) DO UPDATE
SET decisions = stored.decisions + excluded.decisions

-- name: add_scores
INSERT INTO ml_learning.decision_score_shards AS stored (
    agent_name, minute, arm, shard, answer, said, decisions, score_sum_e6
)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, w, p, n, e
FROM unnest(
    %s::text[], %s::integer[], %s::text[], %s::integer[], %s::text[], %s::text[], %s::bigint[], %s::bigint[]
) AS added (a, m, r, s, w, p, n, e)
ON CONFLICT (agent_name, minute, arm, shard, answer, said) DO UPDATE SET
    decisions = stored.decisions + excluded.decisions,
    score_sum_e6 = stored.score_sum_e6 + excluded.score_sum_e6

-- name: copy_shadow_places
COPY ml_learning.shadow_places (topic_id, partition, request_offset, decider, decision_id) FROM STDIN (FORMAT binary)

-- name: claim_shadow_places
INSERT INTO ml_learning.shadow_places (topic_id, partition, request_offset, decider, decision_id)
SELECT * FROM unnest(%s::integer[], %s::integer[], %s::bigint[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING
RETURNING topic_id, partition, request_offset, decider, decision_id

-- name: copy_shadows
COPY ml_learning.decision_shadows (
    answered_at, topic_id, partition, request_offset, score, confidence,
    decision_id, agent_name, decider, prediction, reason
) FROM STDIN (FORMAT binary)

-- name: claim_feedback
INSERT INTO ml_learning.feedback_events (decision_id, event_id)
SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT DO NOTHING
RETURNING decision_id, event_id

-- name: copy_feedback
COPY ml_learning.decision_feedback (
    observed_at, decision_id, agent_name, event_id, kind, value_text, value_number, value_time, commitment, authorised
) FROM STDIN (FORMAT binary)

-- name: copy_feedback_contents
COPY ml_learning.feedback_contents (decision_id, event_id, unit, salt, content) FROM STDIN (FORMAT binary)

-- name: add_ledgers
INSERT INTO ml_learning.lane_ledger (
    lane, topic_id, partition, start_offset, end_offset,
    requests, outcomes, pending, dead_letters, duplicates, retrying
)
SELECT * FROM unnest(
    %s::text[], %s::integer[], %s::integer[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]
)
ON CONFLICT DO NOTHING

-- name: add_dead_letters
INSERT INTO ml_learning.dead_letters (
    topic_id, partition, request_offset, attempt, reason, field, expected, taken_topic_id, taken_offset
)
SELECT * FROM unnest(
    %s::integer[], %s::integer[], %s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::integer[],
    %s::bigint[]
)
ON CONFLICT DO NOTHING

-- name: add_history
INSERT INTO ml_learning.decision_histories (
    topic_id, partition, request_offset, revision, content_hash, decision_id, attempts,
    first_reason, first_field, taken_topic_id, taken_offset,
    redriven, first_topic_id, first_partition, first_offset
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
