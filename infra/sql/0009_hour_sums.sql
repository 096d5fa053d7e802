-- Figures by the hour that are kept, not added up anew each time, on every edition: the sink's worker merges the shards of
-- minutes that are over into one row (shard -1), and adds what it merged to the table by the hour, in one statement. What
-- comes later, such as a late label, is a shard again until it is merged in turn; so the hours are the kept sums and the
-- shards that are not merged yet, at any moment to the last one (store/rollup.py).

DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT * FROM (VALUES
            ('decision_minute_shards', 'decision_hour_sums', ''),
            ('decision_fallback_shards', 'decision_fallback_hour_sums', ', reason'),
            ('decision_latency_shards', 'decision_latency_hour_sums', ', bucket'),
            ('decision_truth_shards', 'decision_truth_hour_sums', ''),
            ('decision_label_shards', 'decision_label_hour_sums', ', label, served, rules, ml'),
            ('decision_score_shards', 'decision_score_hour_sums', ', answer, said'),
            ('decision_confidence_shards', 'decision_confidence_hour_sums', ', band'),
            ('decision_flag_shards', 'decision_flag_hour_sums', ', flag_version, flag_percentage'),
            ('decision_shadow_shards', 'decision_shadow_hour_sums', '')
        ) AS wanted (shards, sums, keys)
    LOOP
        EXECUTE format('CREATE TABLE ml_learning.%I (LIKE ml_learning.%I)', made.sums, made.shards);
        EXECUTE format('ALTER TABLE ml_learning.%I RENAME COLUMN minute TO hour', made.sums);
        EXECUTE format('ALTER TABLE ml_learning.%I DROP COLUMN shard', made.sums);
        EXECUTE format(
            'ALTER TABLE ml_learning.%I ADD PRIMARY KEY (agent_name, hour, arm%s), SET (fillfactor = 70)',
            made.sums, made.keys
        );
        EXECUTE format(
            'COMMENT ON TABLE ml_learning.%I IS %L', made.sums,
            made.shards || ' by the hour, as far as its shards are merged (shard -1).'
        );
        -- What is not merged: the last minutes, and what came late.
        EXECUTE format(
            'CREATE INDEX %I ON ml_learning.%I (minute) WHERE shard >= 0', made.shards || '_unmerged', made.shards
        );
        PERFORM ml_learning.allow(
            'SELECT, INSERT, UPDATE, DELETE', format('ml_learning.%I', made.sums)::regclass, 'pointsman_service'
        );
        PERFORM ml_learning.allow('DELETE', format('ml_learning.%I', made.shards)::regclass, 'pointsman_service');
    END LOOP;
END $$;

CREATE OR REPLACE VIEW ml_learning.decision_hours AS
SELECT
    agent_name, hour, arm,
    sum(decisions)::bigint AS decisions,
    sum(by_ml)::bigint AS by_ml,
    sum(fallbacks)::bigint AS fallbacks,
    sum(failures)::bigint AS failures,
    sum(validations)::bigint AS validations,
    sum(escalations)::bigint AS escalations,
    sum(reviews)::bigint AS reviews,
    sum(both_answered)::bigint AS both_answered,
    sum(agreements)::bigint AS agreements,
    sum(confidence_sum_e6) / 1e6 AS confidence_sum,
    sum(latency_sum_us) / 1e3 AS latency_sum_ms,
    sum(pending)::bigint AS pending
FROM (
    SELECT
        agent_name, hour, arm, decisions, by_ml, fallbacks, failures, validations, escalations, reviews,
        both_answered, agreements, confidence_sum_e6, latency_sum_us, pending
    FROM ml_learning.decision_hour_sums
    UNION ALL
    SELECT
        agent_name, ml_learning.hour_of(minute), arm, decisions, by_ml, fallbacks, failures, validations, escalations,
        reviews, both_answered, agreements, confidence_sum_e6, latency_sum_us, pending
    FROM ml_learning.decision_minute_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm;

CREATE OR REPLACE VIEW ml_learning.decision_fallback_hours AS
SELECT agent_name, hour, arm, reason, sum(decisions)::bigint AS decisions
FROM (
    SELECT agent_name, hour, arm, reason, decisions FROM ml_learning.decision_fallback_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, reason, decisions
    FROM ml_learning.decision_fallback_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm, reason;

CREATE OR REPLACE VIEW ml_learning.decision_latency_hour_buckets AS
SELECT agent_name, hour, arm, bucket, sum(decisions)::bigint AS decisions
FROM (
    SELECT agent_name, hour, arm, bucket, decisions FROM ml_learning.decision_latency_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, bucket, decisions
    FROM ml_learning.decision_latency_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm, bucket;

CREATE OR REPLACE VIEW ml_learning.decision_truth_hours AS
SELECT
    agent_name, hour, arm,
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
FROM (
    SELECT
        agent_name, hour, arm, decisions, ratings, rating_sum_e6, comments, accepted, edited, reverted, ignored,
        corrections, complaints, critical_errors, safety_violations, tasks, task_sum_ms, token_tasks, token_sum,
        tool_tasks, tool_calls, tool_calls_correct, cost_tasks, cost_sum_e6
    FROM ml_learning.decision_truth_hour_sums
    UNION ALL
    SELECT
        agent_name, ml_learning.hour_of(minute), arm, decisions, ratings, rating_sum_e6, comments, accepted, edited,
        reverted, ignored, corrections, complaints, critical_errors, safety_violations, tasks, task_sum_ms, token_tasks,
        token_sum, tool_tasks, tool_calls, tool_calls_correct, cost_tasks, cost_sum_e6
    FROM ml_learning.decision_truth_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm
HAVING sum(decisions) <> 0;

CREATE OR REPLACE VIEW ml_learning.decision_label_hours AS
SELECT agent_name, hour, arm, label, served, rules, nullif(ml, '') AS ml, sum(decisions)::bigint AS decisions
FROM (
    SELECT agent_name, hour, arm, label, served, rules, ml, decisions FROM ml_learning.decision_label_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, label, served, rules, ml, decisions
    FROM ml_learning.decision_label_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm, label, served, rules, either.ml
HAVING sum(decisions) <> 0;

CREATE VIEW ml_learning.decision_score_hours AS
SELECT
    agent_name, hour, arm, answer, said,
    sum(decisions)::bigint AS decisions,
    sum(score_sum_e6) / 1e6 AS score_sum
FROM (
    SELECT agent_name, hour, arm, answer, said, decisions, score_sum_e6 FROM ml_learning.decision_score_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, answer, said, decisions, score_sum_e6
    FROM ml_learning.decision_score_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm, answer, said;
COMMENT ON VIEW ml_learning.decision_score_hours IS 'decision_score_minutes by the hour.';

CREATE VIEW ml_learning.decision_confidence_hours AS
SELECT
    agent_name, hour, arm, band, band / 50.0::double precision AS confidence_from, sum(decisions)::bigint AS decisions
FROM (
    SELECT agent_name, hour, arm, band, decisions FROM ml_learning.decision_confidence_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, band, decisions
    FROM ml_learning.decision_confidence_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm, band;
COMMENT ON VIEW ml_learning.decision_confidence_hours IS 'decision_confidence_minutes by the hour.';

CREATE VIEW ml_learning.decision_flag_hours AS
SELECT agent_name, hour, arm, flag_version, flag_percentage, sum(decisions)::bigint AS decisions
FROM (
    SELECT agent_name, hour, arm, flag_version, flag_percentage, decisions FROM ml_learning.decision_flag_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, flag_version, flag_percentage, decisions
    FROM ml_learning.decision_flag_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm, flag_version, flag_percentage;
COMMENT ON VIEW ml_learning.decision_flag_hours IS 'decision_flag_minutes by the hour.';

CREATE VIEW ml_learning.decision_agreement_hours AS
SELECT
    agent_name, hour, arm,
    sum(answers)::bigint AS both_answered,
    sum(agreements)::bigint AS agreements,
    sum(in_shadow)::bigint AS in_shadow
FROM (
    SELECT agent_name, hour, arm, both_answered AS answers, agreements, 0 AS in_shadow FROM ml_learning.decision_hours
    UNION ALL
    SELECT agent_name, hour, arm, answers, agreements, answers FROM ml_learning.decision_shadow_hour_sums
    UNION ALL
    SELECT agent_name, ml_learning.hour_of(minute), arm, answers, agreements, answers
    FROM ml_learning.decision_shadow_shards
    WHERE shard >= 0
) AS either
GROUP BY agent_name, hour, arm;
COMMENT ON VIEW ml_learning.decision_agreement_hours IS 'decision_agreement_minutes by the hour.';

-- What panels read: rows that add up (several may be of one moment), by the minute or by the hour. With
-- `width = ml_learning.width_for(step)` the planner leaves the other kind out.
CREATE FUNCTION ml_learning.width_for(step interval) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN step < interval '1 hour' THEN interval '1 minute' ELSE interval '1 hour' END;
COMMENT ON FUNCTION ml_learning.width_for IS 'Which rows steps of this width are made of: hours, for steps of an hour or more.';

CREATE VIEW ml_learning.decision_steps AS
SELECT
    interval '1 minute' AS width, agent_name, minute AS moment, arm, decisions, by_ml, fallbacks, both_answered, agreements
FROM ml_learning.decision_minute_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, decisions, by_ml, fallbacks, both_answered, agreements
FROM ml_learning.decision_hours;

CREATE VIEW ml_learning.decision_fallback_steps AS
SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, reason, decisions
FROM ml_learning.decision_fallback_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, reason, decisions FROM ml_learning.decision_fallback_hours;

CREATE VIEW ml_learning.decision_latency_steps AS
SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, bucket, decisions
FROM ml_learning.decision_latency_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, bucket, decisions FROM ml_learning.decision_latency_hour_buckets;

CREATE VIEW ml_learning.decision_label_steps AS
SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, label, served, decisions
FROM ml_learning.decision_label_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, label, served, decisions FROM ml_learning.decision_label_hours;

CREATE VIEW ml_learning.decision_confidence_steps AS
SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, band, decisions
FROM ml_learning.decision_confidence_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, band, decisions FROM ml_learning.decision_confidence_hours;

CREATE VIEW ml_learning.decision_flag_steps AS
SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, flag_version, flag_percentage, decisions
FROM ml_learning.decision_flag_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, flag_version, flag_percentage, decisions
FROM ml_learning.decision_flag_hours;

CREATE VIEW ml_learning.decision_agreement_steps AS
SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, both_answered, agreements
FROM ml_learning.decision_minute_shards
UNION ALL
SELECT interval '1 minute', agent_name, minute, arm, answers, agreements FROM ml_learning.decision_shadow_shards
UNION ALL
SELECT interval '1 hour', agent_name, hour, arm, both_answered, agreements FROM ml_learning.decision_agreement_hours;

CREATE VIEW ml_learning.decision_truth_steps AS
SELECT
    interval '1 minute' AS width, agent_name, minute AS moment, arm, decisions, ratings, rating_sum, accepted, edited,
    reverted, ignored, corrections, complaints, critical_errors, safety_violations, tasks, task_sum_s, token_tasks,
    token_sum, tool_calls, tool_calls_correct, cost_tasks, cost_sum
FROM ml_learning.decision_truth_minutes
UNION ALL
SELECT
    interval '1 hour', agent_name, hour, arm, decisions, ratings, rating_sum, accepted, edited,
    reverted, ignored, corrections, complaints, critical_errors, safety_violations, tasks, task_sum_s, token_tasks,
    token_sum, tool_calls, tool_calls_correct, cost_tasks, cost_sum
FROM ml_learning.decision_truth_hours;

CREATE VIEW ml_learning.decision_satisfaction_steps AS
SELECT
    width, agent_name, moment, arm,
    n * weight AS weight,
    weight * CASE WHEN signal = 'rating' THEN rating_sum ELSE n * points END AS points
FROM ml_learning.decision_truth_steps
CROSS JOIN LATERAL (VALUES
    ('rating', ratings), ('accepted', accepted), ('edited', edited), ('reverted', reverted), ('ignored', ignored),
    ('correction', corrections), ('complaint', complaints)
) AS told (signal, n)
JOIN ml_learning.satisfaction_weights_now USING (signal)
WHERE n <> 0 AND weight > 0;
COMMENT ON VIEW ml_learning.decision_satisfaction_steps IS
    'Satisfaction over any window is sum(points) / sum(weight), from 1 to 5: see decision_satisfaction_minutes.';

CREATE VIEW ml_learning.decision_expected_steps AS
SELECT
    width, agent_name, moment, arm, answer, decisions,
    (CASE WHEN said = positive THEN score_sum ELSE decisions - score_sum END)::double precision AS right_expected
FROM (
    SELECT interval '1 minute' AS width, agent_name, minute AS moment, arm, answer, said, decisions, score_sum
    FROM ml_learning.decision_score_minutes
    UNION ALL
    SELECT interval '1 hour', agent_name, hour, arm, answer, said, decisions, score_sum
    FROM ml_learning.decision_score_hours
) AS scores
JOIN ml_learning.agent_measures_now USING (agent_name);
COMMENT ON VIEW ml_learning.decision_expected_steps IS
    'What accuracy to expect, before labels have come: see decision_expected_minutes.';

SELECT ml_learning.allow('SELECT', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.decision_score_hours', 'ml_learning.decision_confidence_hours', 'ml_learning.decision_flag_hours',
    'ml_learning.decision_agreement_hours', 'ml_learning.decision_steps', 'ml_learning.decision_fallback_steps',
    'ml_learning.decision_latency_steps', 'ml_learning.decision_label_steps', 'ml_learning.decision_confidence_steps',
    'ml_learning.decision_flag_steps', 'ml_learning.decision_agreement_steps', 'ml_learning.decision_truth_steps',
    'ml_learning.decision_satisfaction_steps', 'ml_learning.decision_expected_steps'
]::regclass[]) AS name;
