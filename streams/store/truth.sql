-- Queries of truths.py: all but `due` and `waiting_counts` run in the transaction of a batch.

-- name: lock
-- Outcomes, shadow answers and feedback of a partition take turns: each would else look for what the other has not
-- committed yet, and neither find it. In order, so that two that need several never wait in a ring.
SELECT pg_advisory_xact_lock(hashtext('pointsman truth'), wanted)
FROM (SELECT DISTINCT unnest(%s::integer[]) AS wanted ORDER BY wanted) AS in_order

-- name: partitions
SELECT DISTINCT decided.partition
FROM unnest(%s::text[], %s::text[]) AS told (decision_id, agent_name)
JOIN ml_learning.agent_decisions AS decided USING (decision_id, agent_name)

-- name: add_truths
INSERT INTO ml_learning.decision_truths (decision_id, agent_name, told, look_at)
SELECT decision_id, agent_name, '{}', statement_timestamp() + make_interval(secs => %s)
FROM unnest(%s::text[], %s::text[]) AS told (decision_id, agent_name)
ORDER BY decision_id, agent_name
ON CONFLICT DO NOTHING

-- name: hold
SELECT decision_id, agent_name, told, minute, arm, shard, asked_at, served, rules, ml
FROM ml_learning.decision_truths
WHERE (decision_id, agent_name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
ORDER BY decision_id, agent_name
FOR UPDATE

-- name: find
SELECT DISTINCT ON (decided.decision_id, decided.agent_name)
    decided.decision_id, decided.agent_name,
    ml_learning.minute_of(decided.created_at), decided.arm, decided.partition,
    coalesce(decided.requested_at, decided.created_at),
    left(decided.prediction, 100), left(decided.rules_prediction, 100), left(decided.ml_prediction, 100)
FROM unnest(%s::text[], %s::text[]) AS told (decision_id, agent_name)
JOIN ml_learning.answered_decisions AS decided USING (decision_id, agent_name)
ORDER BY decided.decision_id, decided.agent_name,
    decided.created_at, decided.topic_id, decided.partition, decided.request_offset

-- name: keep
UPDATE ml_learning.decision_truths AS truth
SET told = new.told::jsonb, minute = new.minute, arm = new.arm, shard = new.shard, asked_at = new.asked_at,
    served = new.served, rules = new.rules, ml = new.ml,
    look_at = CASE WHEN new.minute IS NULL THEN truth.look_at END
FROM unnest(
    %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::integer[], %s::timestamptz[],
    %s::text[], %s::text[], %s::text[]
) AS new (decision_id, agent_name, told, minute, arm, shard, asked_at, served, rules, ml)
WHERE truth.decision_id = new.decision_id AND truth.agent_name = new.agent_name

-- name: nothing_waits
-- A row where no decision at all is waited for.
SELECT 1 WHERE NOT EXISTS (SELECT FROM ml_learning.decision_truths WHERE minute IS NULL)

-- name: waiting
SELECT decision_id, agent_name FROM ml_learning.decision_truths
WHERE minute IS NULL AND decision_id = ANY(%s::text[])

-- name: unanswered
SELECT truth.decision_id, truth.agent_name
FROM unnest(%s::text[], %s::text[]) AS answered (decision_id, agent_name)
JOIN ml_learning.decision_truths AS truth USING (decision_id, agent_name)
WHERE truth.minute IS NOT NULL AND truth.ml IS NULL

-- name: add_truth_minutes
INSERT INTO ml_learning.decision_truth_shards AS stored (
    agent_name, minute, arm, shard,
    decisions, ratings, rating_sum_e6, comments, accepted, edited, reverted, ignored, corrections, complaints,
    critical_errors, safety_violations, tasks, task_sum_ms, token_tasks, token_sum, tool_tasks, tool_calls,
    tool_calls_correct, cost_tasks, cost_sum_e6
)
SELECT
    a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s,
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21
FROM unnest(
    %s::text[], %s::integer[], %s::text[], %s::integer[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::numeric[],
    %s::bigint[], %s::numeric[], %s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[], %s::numeric[]
) AS added (
    a, m, r, s, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21
)
ON CONFLICT (agent_name, minute, arm, shard) DO UPDATE SET
    decisions = stored.decisions + excluded.decisions,
    ratings = stored.ratings + excluded.ratings,
    rating_sum_e6 = stored.rating_sum_e6 + excluded.rating_sum_e6,
    comments = stored.comments + excluded.comments,
    accepted = stored.accepted + excluded.accepted,
    edited = stored.edited + excluded.edited,
    reverted = stored.reverted + excluded.reverted,
    ignored = stored.ignored + excluded.ignored,
    corrections = stored.corrections + excluded.corrections,
    complaints = stored.complaints + excluded.complaints,
    critical_errors = stored.critical_errors + excluded.critical_errors,
    safety_violations = stored.safety_violations + excluded.safety_violations,
    tasks = stored.tasks + excluded.tasks,
    task_sum_ms = stored.task_sum_ms + excluded.task_sum_ms,
    token_tasks = stored.token_tasks + excluded.token_tasks,
    token_sum = stored.token_sum + excluded.token_sum,
    tool_tasks = stored.tool_tasks + excluded.tool_tasks,
    tool_calls = stored.tool_calls + excluded.tool_calls,
    tool_calls_correct = stored.tool_calls_correct + excluded.tool_calls_correct,
    cost_tasks = stored.cost_tasks + excluded.cost_tasks,
    cost_sum_e6 = stored.cost_sum_e6 + excluded.cost_sum_e6

-- name: add_labels
INSERT INTO ml_learning.decision_label_shards AS stored (
    agent_name, minute, arm, shard, label, served, rules, ml, decisions
)
SELECT a, '2000-01-01T00:00Z'::timestamptz + make_interval(mins => m), r, s, l, v, u, k, n
FROM unnest(
    %s::text[], %s::integer[], %s::text[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[]
) AS added (a, m, r, s, l, v, u, k, n)
ON CONFLICT (agent_name, minute, arm, shard, label, served, rules, ml) DO UPDATE
SET decisions = stored.decisions + excluded.decisions

-- name: add_agreements
-- Of a shadow answer (its decider is given) only where it is the first one; of an outcome (none is given) whichever came.
-- Looked up one by one: a join of whole batches was planned as one of whole tables, and took seconds.
INSERT INTO ml_learning.decision_shadow_shards AS stored (agent_name, minute, arm, shard, answers, agreements)
SELECT
    decided.agent_name, ml_learning.minute_of(decided.created_at), decided.arm, answered.partition,
    count(*), count(*) FILTER (WHERE shadow.prediction = decided.rules_prediction)
FROM unnest(%s::text[], %s::integer[], %s::integer[], %s::bigint[], %s::text[])
    AS answered (decision_id, topic_id, partition, request_offset, decider)
CROSS JOIN LATERAL (
    SELECT s.decider, s.prediction
    FROM ml_learning.decision_shadows AS s
    WHERE s.topic_id = answered.topic_id
        AND s.partition = answered.partition
        AND s.request_offset = answered.request_offset
        AND s.decision_id = answered.decision_id
    ORDER BY s.known_at, s.answered_at
    LIMIT 1
) AS shadow
CROSS JOIN LATERAL (
    SELECT d.agent_name, d.created_at, d.arm, d.rules_prediction
    FROM ml_learning.agent_decisions AS d
    WHERE d.decision_id = answered.decision_id
        AND d.topic_id = answered.topic_id
        AND d.partition = answered.partition
        AND d.request_offset = answered.request_offset
        AND d.status = 'final'
        AND d.ml_decider IS NULL
    LIMIT 1
) AS decided
WHERE answered.decider IS NULL OR answered.decider = shadow.decider
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
ON CONFLICT (agent_name, minute, arm, shard) DO UPDATE SET
    answers = stored.answers + excluded.answers,
    agreements = stored.agreements + excluded.agreements

-- name: due
SELECT decision_id, agent_name FROM ml_learning.decision_truths
WHERE look_at <= statement_timestamp()
ORDER BY look_at
LIMIT %s

-- name: later
-- After as long as it has waited already, so that what never had a decision costs less and less.
UPDATE ml_learning.decision_truths
SET look_at = CASE
    WHEN known_at < statement_timestamp() - make_interval(secs => %(give_up_s)s) THEN NULL
    ELSE statement_timestamp() + least(
        greatest(statement_timestamp() - known_at, make_interval(secs => %(first_s)s)), interval '1 hour'
    )
END
WHERE minute IS NULL AND (decision_id, agent_name) IN (SELECT * FROM unnest(%(ids)s::text[], %(agents)s::text[]))

-- name: waiting_counts
SELECT
    count(*) FILTER (WHERE look_at IS NOT NULL) AS waiting,
    count(*) FILTER (WHERE look_at IS NULL) AS given_up
FROM ml_learning.decision_truths
WHERE minute IS NULL
