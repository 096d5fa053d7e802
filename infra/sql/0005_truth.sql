-- What is learned later, by decision and by the minute of the decision: labels, ratings, signals, what a task took.
-- decision_feedback stays the audit; what stands here is derived from it and may change.

-- A violation or a critical error counts only where it was signed by a source that may report one.
ALTER TABLE ml_learning.decision_feedback ADD COLUMN authorised boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ml_learning.decision_feedback.authorised IS
    'Whether the event was signed with a key of the deployment. Of safety_violation and critical_error others do not count.';

CREATE TABLE ml_learning.decision_truths (
    decision_id text NOT NULL,
    agent_name text NOT NULL,
    told jsonb NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    look_at timestamptz,
    minute timestamptz,
    arm text,
    shard integer,
    asked_at timestamptz,
    served text,
    rules text,
    ml text,
    PRIMARY KEY (decision_id, agent_name)
) WITH (fillfactor = 70);
COMMENT ON TABLE ml_learning.decision_truths IS
    'Decisions of which something was learned later: the last value of each kind, and where it is counted.';
COMMENT ON COLUMN ml_learning.decision_truths.told IS
    'Kind to its last value that counts; of free texts only that there is one.';
COMMENT ON COLUMN ml_learning.decision_truths.look_at IS
    'When to look for the decision again; NULL once it was found (minute is set), or given up (minute is not).';
COMMENT ON COLUMN ml_learning.decision_truths.asked_at IS 'When the decision was requested, else made: a task begins there.';
CREATE INDEX decision_truths_waiting ON ml_learning.decision_truths (decision_id) WHERE minute IS NULL;
CREATE INDEX decision_truths_look_at ON ml_learning.decision_truths (look_at) WHERE look_at IS NOT NULL;
SELECT ml_learning.allow('SELECT, INSERT, UPDATE', 'ml_learning.decision_truths', 'pointsman_service');

-- Sums of what senders say are numeric: ten of the largest costs would be too many for a bigint, and hold a sink up.
CREATE TABLE ml_learning.decision_truth_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    decisions bigint NOT NULL,
    ratings bigint NOT NULL,
    rating_sum_e6 bigint NOT NULL,
    comments bigint NOT NULL,
    accepted bigint NOT NULL,
    edited bigint NOT NULL,
    reverted bigint NOT NULL,
    ignored bigint NOT NULL,
    corrections bigint NOT NULL,
    complaints bigint NOT NULL,
    critical_errors bigint NOT NULL,
    safety_violations bigint NOT NULL,
    tasks bigint NOT NULL,
    task_sum_ms numeric NOT NULL,
    token_tasks bigint NOT NULL,
    token_sum numeric NOT NULL,
    tool_tasks bigint NOT NULL,
    tool_calls numeric NOT NULL,
    tool_calls_correct numeric NOT NULL,
    cost_tasks bigint NOT NULL,
    cost_sum_e6 numeric NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_truth_shards IS
    'What was learned of decisions, by the minute of the decision, assigned arm and shard. Read decision_truth_minutes.';

CREATE TABLE ml_learning.decision_label_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    label text NOT NULL,
    served text NOT NULL,
    rules text NOT NULL,
    ml text NOT NULL,
    decisions bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard, label, served, rules, ml)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_label_shards IS
    'Labelled decisions by truth and by what each arm said; ml is empty where the model gave no answer. Read decision_label_minutes.';
SELECT ml_learning.allow('SELECT, INSERT, UPDATE', name, 'pointsman_service')
FROM unnest(ARRAY['ml_learning.decision_truth_shards', 'ml_learning.decision_label_shards']::regclass[]) AS name;

CREATE VIEW ml_learning.decision_truth_minutes AS
SELECT
    agent_name, minute, arm,
    sum(decisions)::bigint AS decisions,
    sum(ratings)::bigint AS ratings,
    sum(rating_sum_e6) / 1e6 AS rating_sum,
    sum(comments)::bigint AS comments,
    sum(accepted)::bigint AS accepted,
    sum(edited)::bigint AS edited,
    sum(reverted)::bigint AS reverted,
    sum(ignored)::bigint AS ignored,
    sum(corrections)::bigint AS corrections,
    sum(complaints)::bigint AS complaints,
    sum(critical_errors)::bigint AS critical_errors,
    sum(safety_violations)::bigint AS safety_violations,
    sum(tasks)::bigint AS tasks,
    sum(task_sum_ms) / 1e3 AS task_sum_s,
    sum(token_tasks)::bigint AS token_tasks,
    sum(token_sum) AS token_sum,
    sum(tool_tasks)::bigint AS tool_tasks,
    sum(tool_calls) AS tool_calls,
    sum(tool_calls_correct) AS tool_calls_correct,
    sum(cost_tasks)::bigint AS cost_tasks,
    sum(cost_sum_e6) / 1e6 AS cost_sum
FROM ml_learning.decision_truth_shards
GROUP BY agent_name, minute, arm
HAVING sum(decisions) <> 0;
COMMENT ON VIEW ml_learning.decision_truth_minutes IS
    'What was learned later, by agent, minute of the decision and assigned arm; the last event of a kind counts.';

CREATE VIEW ml_learning.decision_label_minutes AS
SELECT
    agent_name, minute, arm, label, served, rules, nullif(ml, '') AS ml, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_label_shards
GROUP BY agent_name, minute, arm, label, served, rules, ml
HAVING sum(decisions) <> 0;
COMMENT ON VIEW ml_learning.decision_label_minutes IS
    'Labelled decisions by truth and by what each arm said: accuracy, balanced accuracy and pairs over any window.';

CREATE VIEW ml_learning.decision_accuracy_minutes AS
SELECT
    agent_name, minute, arm,
    sum(decisions)::bigint AS labels,
    coalesce(sum(decisions) FILTER (WHERE served = label), 0)::bigint AS served_correct,
    coalesce(sum(decisions) FILTER (WHERE rules = label), 0)::bigint AS rules_correct,
    coalesce(sum(decisions) FILTER (WHERE ml IS NOT NULL), 0)::bigint AS ml_labels,
    coalesce(sum(decisions) FILTER (WHERE ml = label), 0)::bigint AS ml_correct
FROM ml_learning.decision_label_minutes
GROUP BY agent_name, minute, arm;
COMMENT ON VIEW ml_learning.decision_accuracy_minutes IS
    'Labels, and how many of the answers served, of the rules'' and of the model''s were right.';

-- The same straight from the audit: what the aggregates are checked against.
CREATE VIEW ml_learning.decision_told AS
SELECT decision_id, agent_name, jsonb_object_agg(kind, value) AS told
FROM (
    SELECT DISTINCT ON (decision_id, agent_name, kind)
        decision_id, agent_name, kind,
        coalesce(to_jsonb(value_text), to_jsonb(value_number), to_jsonb(value_time), 'true'::jsonb) AS value
    FROM ml_learning.decision_feedback
    WHERE authorised OR kind NOT IN ('critical_error', 'safety_violation')
    ORDER BY decision_id, agent_name, kind, known_at DESC, seq DESC
) AS last
GROUP BY decision_id, agent_name;
COMMENT ON VIEW ml_learning.decision_told IS 'The last value of each kind that counts, from the audit.';

CREATE VIEW ml_learning.told_decisions AS
SELECT DISTINCT ON (t.decision_id, t.agent_name)
    t.decision_id, t.agent_name, t.told,
    ml_learning.minute_of(d.created_at) AS minute, d.arm, d.partition AS shard,
    coalesce(d.requested_at, d.created_at) AS asked_at,
    -- As long as a label may be; longer ones would not fit a key.
    left(d.prediction, 100) AS served, left(d.rules_prediction, 100) AS rules, left(d.ml_prediction, 100) AS ml
FROM ml_learning.decision_told AS t
JOIN ml_learning.answered_decisions AS d USING (agent_name, decision_id)
ORDER BY t.decision_id, t.agent_name, d.created_at, d.topic_id, d.partition, d.request_offset;

CREATE VIEW ml_learning.decision_truth_minutes_from_audit AS
SELECT
    agent_name, minute, arm,
    count(*) AS decisions,
    count(*) FILTER (WHERE told ? 'rating') AS ratings,
    coalesce(sum(round((told ->> 'rating')::double precision * 1000000)::bigint), 0) / 1e6 AS rating_sum,
    count(*) FILTER (WHERE told ? 'comment') AS comments,
    count(*) FILTER (WHERE told ->> 'signal' = 'accepted') AS accepted,
    count(*) FILTER (WHERE told ->> 'signal' = 'edited') AS edited,
    count(*) FILTER (WHERE told ->> 'signal' = 'reverted') AS reverted,
    count(*) FILTER (WHERE told ->> 'signal' = 'ignored') AS ignored,
    count(*) FILTER (WHERE told ? 'correction') AS corrections,
    count(*) FILTER (WHERE told ? 'complaint') AS complaints,
    count(*) FILTER (WHERE told ? 'critical_error') AS critical_errors,
    count(*) FILTER (WHERE told ? 'safety_violation') AS safety_violations,
    count(task_ms) AS tasks,
    coalesce(sum(task_ms), 0) / 1e3 AS task_sum_s,
    count(*) FILTER (WHERE told ? 'tokens') AS token_tasks,
    coalesce(sum((told ->> 'tokens')::numeric), 0) AS token_sum,
    count(*) FILTER (WHERE told ?& ARRAY['tool_calls', 'tool_calls_correct']) AS tool_tasks,
    coalesce(sum((told ->> 'tool_calls')::numeric) FILTER (WHERE told ? 'tool_calls_correct'), 0) AS tool_calls,
    coalesce(sum((told ->> 'tool_calls_correct')::numeric) FILTER (WHERE told ? 'tool_calls'), 0) AS tool_calls_correct,
    count(*) FILTER (WHERE told ? 'cost') AS cost_tasks,
    coalesce(sum(round((told ->> 'cost')::double precision * 1000000)::bigint), 0) / 1e6 AS cost_sum
FROM (
    SELECT
        *,
        CASE
            WHEN told ? 'task_duration_s' THEN round((told ->> 'task_duration_s')::double precision * 1000)::bigint::numeric
            WHEN told ? 'task_completed_at' THEN greatest(
                0, floor(extract(epoch FROM (told ->> 'task_completed_at')::timestamptz - asked_at) * 1000)
            )
        END AS task_ms
    FROM ml_learning.told_decisions
) AS told
GROUP BY agent_name, minute, arm;

CREATE VIEW ml_learning.decision_label_minutes_from_audit AS
SELECT agent_name, minute, arm, told ->> 'label' AS label, served, rules, ml, count(*) AS decisions
FROM ml_learning.told_decisions
WHERE told ? 'label'
GROUP BY 1, 2, 3, 4, 5, 6, 7;

SELECT ml_learning.allow('SELECT', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.decision_truth_minutes', 'ml_learning.decision_label_minutes', 'ml_learning.decision_accuracy_minutes',
    'ml_learning.decision_told', 'ml_learning.told_decisions', 'ml_learning.decision_truth_minutes_from_audit',
    'ml_learning.decision_label_minutes_from_audit'
]::regclass[]) AS name;

-- What was learned before this migration waits like what comes before its decision: the next sweep counts it.
INSERT INTO ml_learning.decision_truths (decision_id, agent_name, told, look_at)
SELECT decision_id, agent_name, told, statement_timestamp() FROM ml_learning.decision_told;
