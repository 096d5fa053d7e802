-- Figures by the hour, for windows of days and months. Plain views here, over the tables by minute; where the
-- server's edition has continuous aggregates, `pointsman db migrate` puts those beneath the same names and columns.

CREATE FUNCTION ml_learning.hour_of(moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_bin('1 hour', moment, '2000-01-01T00:00Z');

CREATE VIEW ml_learning.decision_hours AS
SELECT
    agent_name, ml_learning.hour_of(minute) AS hour, arm,
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
FROM ml_learning.decision_minute_shards
GROUP BY 1, 2, 3;
COMMENT ON VIEW ml_learning.decision_hours IS 'decision_minutes by the hour.';

CREATE VIEW ml_learning.decision_fallback_hours AS
SELECT agent_name, ml_learning.hour_of(minute) AS hour, arm, reason, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_fallback_shards
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW ml_learning.decision_fallback_hours IS 'decision_fallback_minutes by the hour.';

CREATE VIEW ml_learning.decision_latency_hour_buckets AS
SELECT agent_name, ml_learning.hour_of(minute) AS hour, arm, bucket, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_latency_shards
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW ml_learning.decision_latency_hour_buckets IS
    'decision_latency_buckets by the hour; for a window: latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.95).';

CREATE VIEW ml_learning.decision_truth_hours AS
SELECT
    agent_name, ml_learning.hour_of(minute) AS hour, arm,
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
GROUP BY 1, 2, 3
HAVING sum(decisions) <> 0;
COMMENT ON VIEW ml_learning.decision_truth_hours IS 'decision_truth_minutes by the hour of the decision.';

CREATE VIEW ml_learning.decision_label_hours AS
SELECT
    agent_name, ml_learning.hour_of(minute) AS hour, arm, label, served, rules, nullif(ml, '') AS ml,
    sum(decisions)::bigint AS decisions
FROM ml_learning.decision_label_shards
GROUP BY 1, 2, 3, 4, 5, 6, decision_label_shards.ml
HAVING sum(decisions) <> 0;
COMMENT ON VIEW ml_learning.decision_label_hours IS 'decision_label_minutes by the hour of the decision.';

CREATE VIEW ml_learning.decision_accuracy_hours AS
SELECT
    agent_name, hour, arm,
    sum(decisions)::bigint AS labels,
    coalesce(sum(decisions) FILTER (WHERE served = label), 0)::bigint AS served_correct,
    coalesce(sum(decisions) FILTER (WHERE rules = label), 0)::bigint AS rules_correct,
    coalesce(sum(decisions) FILTER (WHERE ml IS NOT NULL), 0)::bigint AS ml_labels,
    coalesce(sum(decisions) FILTER (WHERE ml = label), 0)::bigint AS ml_correct
FROM ml_learning.decision_label_hours
GROUP BY agent_name, hour, arm;
COMMENT ON VIEW ml_learning.decision_accuracy_hours IS 'decision_accuracy_minutes by the hour of the decision.';

SELECT ml_learning.allow('SELECT', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.decision_hours', 'ml_learning.decision_fallback_hours', 'ml_learning.decision_latency_hour_buckets',
    'ml_learning.decision_truth_hours', 'ml_learning.decision_label_hours', 'ml_learning.decision_accuracy_hours'
]::regclass[]) AS name;
