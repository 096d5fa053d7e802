-- What the sink leaves of so many decisions between two times: by minute, two arms and partition.

-- name: minutes
INSERT INTO ml_learning.decision_minute_shards
SELECT
    %(agent)s, minute, arm, shard, n, CASE WHEN arm = 'candidate' THEN n ELSE 0 END, 0, 0, n / 5, n / 4, n / 4, n, n / 2,
    (n * 700000)::bigint, (n * 30000)::bigint, 0
FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 minute', interval '1 minute') AS minute
CROSS JOIN (VALUES ('candidate'), ('control')) AS arms (arm)
CROSS JOIN generate_series(0, %(partitions)s - 1) AS shard
CROSS JOIN LATERAL (
    SELECT greatest(1, %(decisions)s / (2 * %(partitions)s) / (extract(epoch FROM %(end)s::timestamptz - %(start)s::timestamptz) / 60))::bigint AS n
) AS each

-- name: latency
INSERT INTO ml_learning.decision_latency_shards
SELECT agent_name, minute, arm, shard, 380 + bucket, 1 + decisions / 60
FROM ml_learning.decision_minute_shards
CROSS JOIN generate_series(0, 59) AS bucket
WHERE minute >= %(start)s AND minute < %(end)s AND bucket < decisions

-- name: fallbacks
INSERT INTO ml_learning.decision_fallback_shards
SELECT agent_name, minute, arm, shard, reason, 1
FROM ml_learning.decision_minute_shards
CROSS JOIN (VALUES ('timeout'), ('model_error')) AS reasons (reason)
WHERE minute >= %(start)s AND minute < %(end)s AND arm = 'candidate'

-- name: scores
INSERT INTO ml_learning.decision_score_shards
SELECT agent_name, minute, arm, shard, answer, said, (1 + decisions) / 2, (1 + decisions) * 200000
FROM ml_learning.decision_minute_shards
CROSS JOIN (VALUES ('served'), ('rules'), ('ml')) AS answers (answer)
CROSS JOIN (VALUES ('docs_needed'), ('docs_not_needed')) AS words (said)
WHERE minute >= %(start)s AND minute < %(end)s

-- name: confidence
INSERT INTO ml_learning.decision_confidence_shards
SELECT agent_name, minute, arm, shard, 25 + band, 1 + decisions / 25
FROM ml_learning.decision_minute_shards
CROSS JOIN generate_series(0, 24) AS band
WHERE minute >= %(start)s AND minute < %(end)s AND band < decisions

-- name: flags
INSERT INTO ml_learning.decision_flag_shards
SELECT agent_name, minute, arm, shard, 3, 50, decisions FROM ml_learning.decision_minute_shards
WHERE minute >= %(start)s AND minute < %(end)s

-- name: shadows
INSERT INTO ml_learning.decision_shadow_shards
SELECT agent_name, minute, arm, shard, 2, 1 FROM ml_learning.decision_minute_shards WHERE minute >= %(start)s AND minute < %(end)s AND arm = 'control'

-- name: labels
INSERT INTO ml_learning.decision_label_shards
SELECT agent_name, minute, arm, shard, label, served, rules, 'docs_needed', 1 + decisions / 40
FROM ml_learning.decision_minute_shards
CROSS JOIN (VALUES ('docs_needed'), ('docs_not_needed')) AS labels (label)
CROSS JOIN (VALUES ('docs_needed'), ('docs_not_needed')) AS answers (served)
CROSS JOIN (VALUES ('docs_needed'), ('docs_not_needed')) AS others (rules)
WHERE minute >= %(start)s AND minute < %(end)s

-- name: truths
INSERT INTO ml_learning.decision_truth_shards
SELECT
    agent_name, minute, arm, shard, decisions / 2, decisions / 10, decisions * 400000, 0, decisions / 10, decisions / 20,
    decisions / 50, decisions / 20, decisions / 100, decisions / 100, 0, 0, decisions / 10, decisions * 100, decisions / 10,
    decisions * 50, decisions / 10, decisions, decisions / 2, decisions / 10, decisions * 1000
FROM ml_learning.decision_minute_shards
WHERE minute >= %(start)s AND minute < %(end)s

-- name: measures
INSERT INTO ml_learning.agent_measures (agent_name, positive, needless, missed) VALUES (%(agent)s, 'docs_needed', 1, 2.5)

-- name: weights
INSERT INTO ml_learning.satisfaction_weights (signal, points, weight)
VALUES ('rating', NULL, 1), ('accepted', 4, 0.25), ('edited', 3, 0.25), ('reverted', 1, 0.5)
