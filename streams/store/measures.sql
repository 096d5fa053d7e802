-- Queries of measures.py.

-- name: tell_measures
INSERT INTO ml_learning.agent_measures (agent_name, positive, needless, missed)
SELECT told.* FROM unnest(%s::text[], %s::text[], %s::double precision[], %s::double precision[])
    AS told (agent_name, positive, needless, missed)
LEFT JOIN ml_learning.agent_measures_now AS known USING (agent_name)
WHERE (known.positive, known.needless, known.missed) IS DISTINCT FROM (told.positive, told.needless, told.missed)
ON CONFLICT DO NOTHING

-- name: tell_weights
INSERT INTO ml_learning.satisfaction_weights (signal, points, weight)
SELECT told.* FROM unnest(%s::text[], %s::double precision[], %s::double precision[]) AS told (signal, points, weight)
LEFT JOIN ml_learning.satisfaction_weights_now AS known USING (signal)
WHERE (known.points, known.weight) IS DISTINCT FROM (told.points, told.weight)
ON CONFLICT DO NOTHING

-- name: standings
-- Agent by agent and window by window, so that each look goes by the key of the minutes and never through all of them.
SELECT
    agent_name AS agent, decided.arm, name AS window, decided.decisions,
    coalesce(labels, 0) AS labels, success, coalesce(signals, 0) AS signals, satisfaction
FROM unnest(%s::text[], %s::double precision[]) AS wanted (name, seconds)
CROSS JOIN LATERAL (SELECT statement_timestamp() - make_interval(secs => seconds) AS since) AS window_
CROSS JOIN ml_learning.agent_measures_now AS agent
CROSS JOIN LATERAL (
    SELECT arm, sum(decisions)::bigint AS decisions
    FROM ml_learning.decision_minutes AS m
    WHERE m.agent_name = agent.agent_name AND minute >= since
    GROUP BY arm
) AS decided
LEFT JOIN LATERAL (
    SELECT
        arm, sum(labels)::bigint AS labels,
        (sum(served_success) / nullif(sum(labels), 0))::double precision AS success
    FROM ml_learning.decision_success_minutes AS m
    WHERE m.agent_name = agent.agent_name AND minute >= since
    GROUP BY arm
) AS succeeded ON succeeded.arm = decided.arm
LEFT JOIN LATERAL (
    SELECT
        arm, sum(signals)::bigint AS signals,
        (sum(points) / nullif(sum(weight), 0))::double precision AS satisfaction
    FROM ml_learning.decision_satisfaction_minutes AS m
    WHERE m.agent_name = agent.agent_name AND minute >= since
    GROUP BY arm
) AS satisfied ON satisfied.arm = decided.arm
ORDER BY 1, 2, 3
