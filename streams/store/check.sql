-- Queries of check.py: each returns what should not be. Aggregates stay when the audit's rows expire, so both are compared
-- from ml_learning.audit_since() on. Of what was told before it no row is left, though its decision may have come later.

-- name: ledger_gaps
-- The ranges of one lane and partition must follow each other, without hole and without overlap.
SELECT t.cluster, t.topic, l.partition, l.lane, l.previous_end, l.start_offset
FROM (
    SELECT
        lane, topic_id, partition, start_offset,
        max(end_offset) OVER (
            PARTITION BY lane, topic_id, partition ORDER BY start_offset, end_offset
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS previous_end
    FROM ml_learning.lane_ledger
    WHERE known_at > statement_timestamp() - make_interval(secs => %(within_s)s)
) AS l
JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
WHERE l.previous_end <> l.start_offset
ORDER BY t.cluster, t.topic, l.partition, l.start_offset

-- name: ledger_counts
-- A request has its first outcome (final, or pending) where its range says so: in the range of the requests if its
-- first attempt answered it, else in that of the delay topic that the last one was taken from. Young ranges are left
-- out: ledgers and outcomes come through different topics.
SELECT
    t.cluster, t.topic, l.partition, l.lane, l.start_offset, l.end_offset,
    l.outcomes + l.pending AS outcomes_expected, o.found - w.found + r.found AS outcomes_found,
    l.dead_letters AS dead_letters_expected, d.found AS dead_letters_found,
    l.requests - l.outcomes - l.pending - l.dead_letters - l.duplicates - l.retrying AS unaccounted
FROM ml_learning.lane_ledger AS l
JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
CROSS JOIN LATERAL (
    SELECT count(DISTINCT (p.request_offset, p.content_hash)) AS found
    FROM ml_learning.decision_places AS p
    WHERE p.topic_id = l.topic_id AND p.partition = l.partition
        AND p.request_offset >= l.start_offset AND p.request_offset < l.end_offset
) AS o
CROSS JOIN LATERAL (
    SELECT count(DISTINCT (h.request_offset, h.content_hash)) AS found
    FROM ml_learning.decision_histories AS h
    WHERE h.topic_id = l.topic_id AND h.partition = l.partition AND h.taken_topic_id IS NOT NULL
        AND h.request_offset >= l.start_offset AND h.request_offset < l.end_offset
) AS w
CROSS JOIN LATERAL (
    SELECT count(DISTINCT (h.taken_offset, h.content_hash)) AS found
    FROM ml_learning.decision_histories AS h
    WHERE h.taken_topic_id = l.topic_id AND h.partition = l.partition
        AND h.taken_offset >= l.start_offset AND h.taken_offset < l.end_offset
) AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS found
    FROM (
        SELECT 1 FROM ml_learning.dead_letters AS p
        WHERE p.topic_id = l.topic_id AND p.partition = l.partition AND p.taken_topic_id IS NULL
            AND p.request_offset >= l.start_offset AND p.request_offset < l.end_offset
        UNION ALL
        SELECT 1 FROM ml_learning.dead_letters AS p
        WHERE p.taken_topic_id = l.topic_id AND p.partition = l.partition
            AND p.taken_offset >= l.start_offset AND p.taken_offset < l.end_offset
    ) AS either
) AS d
WHERE l.known_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
    AND l.known_at > statement_timestamp() - make_interval(secs => %(within_s)s)
    AND l.known_at >= (SELECT ml_learning.audit_since())
    AND (
        o.found - w.found + r.found <> l.outcomes + l.pending
        OR d.found <> l.dead_letters
        OR l.requests <> l.outcomes + l.pending + l.dead_letters + l.duplicates + l.retrying
    )
ORDER BY t.cluster, t.topic, l.partition, l.start_offset

-- name: minutes
SELECT agent_name, minute, arm, to_jsonb(a) AS counted, to_jsonb(b) AS audited
FROM ml_learning.decision_minutes AS a
FULL JOIN ml_learning.decision_minutes_from_audit AS b USING (agent_name, minute, arm)
WHERE minute >= (SELECT ml_learning.audit_since()) AND (
    a.decisions, a.by_ml, a.fallbacks, a.failures, a.validations, a.escalations, a.reviews, a.both_answered,
    a.agreements, a.confidence_sum, a.latency_sum_ms, a.pending
) IS DISTINCT FROM (
    b.decisions, b.by_ml, b.fallbacks, b.failures, b.validations, b.escalations, b.reviews, b.both_answered,
    b.agreements, b.confidence_sum, b.latency_sum_ms, b.pending
)
ORDER BY agent_name, minute, arm

-- name: fallbacks
SELECT agent_name, minute, arm, reason, a.decisions AS counted, b.decisions AS audited
FROM ml_learning.decision_fallback_minutes AS a
FULL JOIN (
    SELECT agent_name, ml_learning.minute_of(created_at) AS minute, arm, fallback_reason AS reason, count(*) AS decisions
    FROM ml_learning.agent_decisions
    WHERE status = 'final' AND fallback_reason IS NOT NULL
    GROUP BY 1, 2, 3, 4
) AS b USING (agent_name, minute, arm, reason)
WHERE minute >= (SELECT ml_learning.audit_since()) AND a.decisions IS DISTINCT FROM b.decisions
ORDER BY agent_name, minute, arm, reason

-- name: latency
SELECT agent_name, minute, arm, bucket, a.decisions AS counted, b.decisions AS audited
FROM ml_learning.decision_latency_buckets AS a
FULL JOIN (
    SELECT
        agent_name, ml_learning.minute_of(created_at) AS minute, arm,
        ml_learning.latency_bucket(total_ms) AS bucket, count(*) AS decisions
    FROM ml_learning.agent_decisions
    WHERE status = 'final'
    GROUP BY 1, 2, 3, 4
) AS b USING (agent_name, minute, arm, bucket)
WHERE minute >= (SELECT ml_learning.audit_since()) AND a.decisions IS DISTINCT FROM b.decisions
ORDER BY agent_name, minute, arm, bucket

-- name: truths
SELECT agent_name, minute, arm, to_jsonb(a) AS counted, to_jsonb(b) AS audited
FROM ml_learning.decision_truth_minutes AS a
FULL JOIN ml_learning.decision_truth_minutes_from_audit AS b USING (agent_name, minute, arm)
WHERE minute >= (SELECT ml_learning.audit_since()) AND minute NOT IN (
    SELECT t.minute FROM ml_learning.decision_truths AS t
    WHERE t.minute IS NOT NULL AND t.known_at < (SELECT ml_learning.audit_since())
) AND (
    a.decisions, a.ratings, a.rating_sum, a.comments, a.accepted, a.edited, a.reverted, a.ignored, a.corrections,
    a.complaints, a.critical_errors, a.safety_violations, a.tasks, a.task_sum_s, a.token_tasks, a.token_sum,
    a.tool_tasks, a.tool_calls, a.tool_calls_correct, a.cost_tasks, a.cost_sum
) IS DISTINCT FROM (
    b.decisions, b.ratings, b.rating_sum, b.comments, b.accepted, b.edited, b.reverted, b.ignored, b.corrections,
    b.complaints, b.critical_errors, b.safety_violations, b.tasks, b.task_sum_s, b.token_tasks, b.token_sum,
    b.tool_tasks, b.tool_calls, b.tool_calls_correct, b.cost_tasks, b.cost_sum
)
ORDER BY agent_name, minute, arm

-- name: labels
SELECT agent_name, minute, arm, label, served, rules, said,
    a.decisions AS counted, b.decisions AS audited
FROM (SELECT *, coalesce(ml, '') AS said FROM ml_learning.decision_label_minutes) AS a
FULL JOIN (SELECT *, coalesce(ml, '') AS said FROM ml_learning.decision_label_minutes_from_audit) AS b
    USING (agent_name, minute, arm, label, served, rules, said)
WHERE minute >= (SELECT ml_learning.audit_since()) AND minute NOT IN (
    SELECT t.minute FROM ml_learning.decision_truths AS t
    WHERE t.minute IS NOT NULL AND t.known_at < (SELECT ml_learning.audit_since())
) AND a.decisions IS DISTINCT FROM b.decisions
ORDER BY agent_name, minute, arm, label, served, rules, said

-- name: scores
SELECT agent_name, minute, arm, answer, said, to_jsonb(a) AS counted, to_jsonb(b) AS audited
FROM ml_learning.decision_score_minutes AS a
FULL JOIN ml_learning.decision_score_minutes_from_audit AS b USING (agent_name, minute, arm, answer, said)
WHERE minute >= (SELECT ml_learning.audit_since()) AND (a.decisions, a.score_sum) IS DISTINCT FROM (b.decisions, b.score_sum)
ORDER BY agent_name, minute, arm, answer, said

-- name: confidences
SELECT agent_name, minute, arm, band, a.decisions AS counted, b.decisions AS audited
FROM ml_learning.decision_confidence_minutes AS a
FULL JOIN (
    SELECT
        agent_name, ml_learning.minute_of(created_at) AS minute, arm,
        ml_learning.confidence_band(confidence) AS band, count(*) AS decisions
    FROM ml_learning.agent_decisions
    WHERE status = 'final'
    GROUP BY 1, 2, 3, 4
) AS b USING (agent_name, minute, arm, band)
WHERE minute >= (SELECT ml_learning.audit_since()) AND a.decisions IS DISTINCT FROM b.decisions
ORDER BY agent_name, minute, arm, band

-- name: flags
SELECT agent_name, minute, arm, flag_version, flag_percentage, a.decisions AS counted, b.decisions AS audited
FROM ml_learning.decision_flag_minutes AS a
FULL JOIN (
    SELECT
        agent_name, ml_learning.minute_of(created_at) AS minute, arm, flag_version, flag_percentage, count(*) AS decisions
    FROM ml_learning.agent_decisions
    WHERE status = 'final'
    GROUP BY 1, 2, 3, 4, 5
) AS b USING (agent_name, minute, arm, flag_version, flag_percentage)
WHERE minute >= (SELECT ml_learning.audit_since()) AND a.decisions IS DISTINCT FROM b.decisions
ORDER BY agent_name, minute, arm, flag_version, flag_percentage

-- name: agreements
SELECT agent_name, minute, arm, to_jsonb(a) AS counted, to_jsonb(b) AS audited
FROM (SELECT * FROM ml_learning.decision_agreement_minutes WHERE both_answered <> 0) AS a
FULL JOIN (
    SELECT
        agent_name, ml_learning.minute_of(created_at) AS minute, arm, count(*) AS both_answered,
        count(*) FILTER (WHERE ml_prediction = rules_prediction) AS agreements,
        count(*) FILTER (WHERE ml_in_shadow) AS in_shadow
    FROM ml_learning.answered_decisions
    WHERE ml_prediction IS NOT NULL
    GROUP BY 1, 2, 3
) AS b USING (agent_name, minute, arm)
WHERE minute >= (SELECT ml_learning.audit_since()) AND (a.both_answered, a.agreements, a.in_shadow) IS DISTINCT FROM (b.both_answered, b.agreements, b.in_shadow)
ORDER BY agent_name, minute, arm
