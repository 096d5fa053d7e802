-- What the panels show. Grafana's words: $agent (the agent's name), $__timeFrom() and $__timeTo() (the window), $__interval
-- (width of a step, one minute or more). Each query gives time, metric and value; of a distribution, x instead of time.
-- All read aggregates, never the audit: the views of steps, whose rows add up, by the minute or, for steps of an hour and
-- more, by the hour.

-- name: decisions_by_source
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, metric,
    sum(n) / extract(epoch FROM '$__interval'::interval) AS value
FROM ml_learning.decision_steps
CROSS JOIN LATERAL (VALUES
    ('model', by_ml), ('rules', decisions - by_ml - fallbacks), ('rules in the model''s place', fallbacks)
) AS part (metric, n)
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: accuracy
SELECT time, metric, value
FROM (
    SELECT
        date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm,
        sum(decisions)::double precision AS n,
        coalesce(sum(decisions) FILTER (WHERE served = label), 0)::double precision AS hits
    FROM ml_learning.decision_label_steps
    WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
        AND moment >= $__timeFrom() AND moment < $__timeTo()
    GROUP BY 1, 2
) AS labelled
CROSS JOIN LATERAL (VALUES
    (arm, hits / n),
    (arm || ' low', ml_learning.wilson(hits, n, -1)),
    (arm || ' high', ml_learning.wilson(hits, n, 1))
) AS part (metric, value)
WHERE n > 0
ORDER BY 1, 2

-- name: expected_accuracy
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm || ' expected' AS metric,
    sum(right_expected) / sum(decisions) AS value
FROM ml_learning.decision_expected_steps
WHERE answer = 'served' AND width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: label_coverage
SELECT time, 'labelled' AS metric, coalesce(labels, 0) / decisions::double precision AS value
FROM (
    SELECT date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, sum(decisions) AS decisions
    FROM ml_learning.decision_steps
    WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
        AND moment >= $__timeFrom() AND moment < $__timeTo()
    GROUP BY 1
    HAVING sum(decisions) > 0
) AS decided
LEFT JOIN (
    SELECT date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, sum(decisions) AS labels
    FROM ml_learning.decision_label_steps
    WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
        AND moment >= $__timeFrom() AND moment < $__timeTo()
    GROUP BY 1
) AS labelled USING (time)
ORDER BY 1

-- name: latency
SELECT time, metric, value
FROM (
    SELECT time, array_agg(bucket) AS buckets, array_agg(decisions) AS counts
    FROM (
        SELECT
            date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, bucket,
            sum(decisions)::bigint AS decisions
        FROM ml_learning.decision_latency_steps
        WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
            AND moment >= $__timeFrom() AND moment < $__timeTo()
        GROUP BY 1, 2
    ) AS counted
    GROUP BY 1
) AS histogram
CROSS JOIN LATERAL (VALUES
    ('p50', ml_learning.latency_quantile_ms(buckets, counts, 0.50)),
    ('p95', ml_learning.latency_quantile_ms(buckets, counts, 0.95)),
    ('p99', ml_learning.latency_quantile_ms(buckets, counts, 0.99))
) AS part (metric, value)
ORDER BY 1, 2

-- name: satisfaction
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm AS metric, sum(points) / sum(weight) AS value
FROM ml_learning.decision_satisfaction_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: confidence
SELECT band / 50.0 AS x, arm AS metric, sum(decisions) / sum(sum(decisions)) OVER (PARTITION BY arm) AS value
FROM ml_learning.decision_confidence_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: fallbacks
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, 'fallback: ' || reason AS metric,
    sum(decisions) / extract(epoch FROM '$__interval'::interval) AS value
FROM ml_learning.decision_fallback_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: agreement
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm AS metric,
    sum(agreements) / sum(both_answered)::double precision AS value
FROM ml_learning.decision_agreement_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
HAVING sum(both_answered) > 0
ORDER BY 1, 2

-- name: stage
SELECT time, metric, value
FROM (
    SELECT
        date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time,
        max(flag_percentage) AS wanted,
        100 * coalesce(sum(decisions) FILTER (WHERE arm = 'candidate'), 0) / sum(decisions)::double precision AS given
    FROM ml_learning.decision_flag_steps
    WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
        AND moment >= $__timeFrom() AND moment < $__timeTo()
    GROUP BY 1
) AS split
CROSS JOIN LATERAL (VALUES ('stage', wanted), ('given to the candidate', given)) AS part (metric, value)
ORDER BY 1, 2

-- name: stage_changes
-- When each state of the flag was seen first: Grafana draws these as annotations.
SELECT
    min(minute) AS time,
    'version ' || flag_version || ': ' || flag_percentage || ' %' AS text
FROM ml_learning.decision_flag_minutes
WHERE agent_name = '$agent' AND minute >= $__timeFrom() AND minute < $__timeTo()
GROUP BY flag_version, flag_percentage
ORDER BY 1, 2

-- name: success
SELECT time, metric, value
FROM (
    SELECT
        date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm,
        sum(decisions)::double precision AS n,
        sum(decisions * ml_learning.success_of(label, served, positive, needless, missed)) AS total
    FROM ml_learning.decision_label_steps
    JOIN ml_learning.agent_measures_now USING (agent_name)
    WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
        AND moment >= $__timeFrom() AND moment < $__timeTo()
    GROUP BY 1, 2
) AS labelled
CROSS JOIN LATERAL (VALUES
    (arm, total / n),
    (arm || ' low', ml_learning.wilson(total, n, -1)),
    (arm || ' high', ml_learning.wilson(total, n, 1))
) AS part (metric, value)
WHERE n > 0
ORDER BY 1, 2

-- name: success_until_now
-- Over everything from the window's start up to each step: the evidence as it grows, with its interval.
SELECT time, metric, value
FROM (
    SELECT
        time, arm,
        sum(n) OVER so_far AS n, sum(total) OVER so_far AS total
    FROM (
        SELECT
            date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm,
            sum(decisions)::double precision AS n,
        sum(decisions * ml_learning.success_of(label, served, positive, needless, missed)) AS total
        FROM ml_learning.decision_label_steps
        JOIN ml_learning.agent_measures_now USING (agent_name)
        WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
            AND moment >= $__timeFrom() AND moment < $__timeTo()
        GROUP BY 1, 2
    ) AS labelled
    WINDOW so_far AS (PARTITION BY arm ORDER BY time)
) AS evidence
CROSS JOIN LATERAL (VALUES
    (arm, total / n),
    (arm || ' low', ml_learning.wilson(total, n, -1)),
    (arm || ' high', ml_learning.wilson(total, n, 1))
) AS part (metric, value)
WHERE n > 0
ORDER BY 1, 2

-- name: labels_until_now
SELECT time, arm AS metric, sum(n) OVER (PARTITION BY arm ORDER BY time) AS value
FROM (
    SELECT date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm, sum(decisions) AS n
    FROM ml_learning.decision_label_steps
    WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
        AND moment >= $__timeFrom() AND moment < $__timeTo()
    GROUP BY 1, 2
    HAVING sum(decisions) > 0
) AS labelled
ORDER BY 1, 2

-- name: complaints
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm || ': ' || kind AS metric, sum(n) AS value
FROM ml_learning.decision_truth_steps
CROSS JOIN LATERAL (VALUES ('complaints', complaints), ('corrections', corrections)) AS part (kind, n)
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: violations
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm || ': ' || kind AS metric, sum(n) AS value
FROM ml_learning.decision_truth_steps
CROSS JOIN LATERAL (VALUES
    ('safety violations', safety_violations), ('critical errors', critical_errors)
) AS part (kind, n)
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
ORDER BY 1, 2

-- name: completion_time
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm AS metric, sum(task_sum_s) / sum(tasks) AS value
FROM ml_learning.decision_truth_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
HAVING sum(tasks) > 0
ORDER BY 1, 2

-- name: tokens
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm AS metric, sum(token_sum) / sum(token_tasks) AS value
FROM ml_learning.decision_truth_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
HAVING sum(token_tasks) > 0
ORDER BY 1, 2

-- name: tool_efficiency
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm AS metric,
    sum(tool_calls_correct) / sum(tool_calls) AS value
FROM ml_learning.decision_truth_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
HAVING sum(tool_calls) > 0
ORDER BY 1, 2

-- name: cost
SELECT
    date_bin('$__interval'::interval, moment, '2000-01-01T00:00Z') AS time, arm AS metric, sum(cost_sum) / sum(cost_tasks) AS value
FROM ml_learning.decision_truth_steps
WHERE width = ml_learning.width_for('$__interval') AND agent_name = '$agent'
    AND moment >= $__timeFrom() AND moment < $__timeTo()
GROUP BY 1, 2
HAVING sum(cost_tasks) > 0
ORDER BY 1, 2
