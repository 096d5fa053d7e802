-- What figures are made of beyond counts: what an error costs an agent, what a signal says of satisfaction, how probable
-- each answer was, how sure, and under which state of its flag. Success, satisfaction and the accuracy to expect over any
-- window come from sums of these.

-- Append-only, so that it can be told which costs and weights stood behind the figures of a past day.
CREATE TABLE ml_learning.agent_measures (
    agent_name text NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    positive text NOT NULL,
    needless double precision NOT NULL CHECK (needless >= 0),
    missed double precision NOT NULL CHECK (missed >= 0),
    PRIMARY KEY (agent_name, known_at)
);
COMMENT ON TABLE ml_learning.agent_measures IS
    'What the two kinds of error cost each agent, from its model''s card; the row known last counts.';
COMMENT ON COLUMN ml_learning.agent_measures.positive IS 'The prediction that scores are probabilities of.';
SELECT ml_learning.append_only('ml_learning.agent_measures');

CREATE TABLE ml_learning.satisfaction_weights (
    signal text NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    points double precision CHECK (points BETWEEN 1 AND 5),
    weight double precision NOT NULL CHECK (weight >= 0),
    PRIMARY KEY (signal, known_at)
);
COMMENT ON TABLE ml_learning.satisfaction_weights IS
    'Points (1 to 5) and weight of each signal of satisfaction, from the settings; the row known last counts. A rating has its own points.';
SELECT ml_learning.append_only('ml_learning.satisfaction_weights');

CREATE VIEW ml_learning.agent_measures_now AS
SELECT DISTINCT ON (agent_name) agent_name, known_at, positive, needless, missed
FROM ml_learning.agent_measures
ORDER BY agent_name, known_at DESC;

CREATE VIEW ml_learning.satisfaction_weights_now AS
SELECT DISTINCT ON (signal) signal, known_at, points, weight
FROM ml_learning.satisfaction_weights
ORDER BY signal, known_at DESC;

-- Scores of answers by what was said: with them the figures to expect before any truth is known.
CREATE TABLE ml_learning.decision_score_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    answer text NOT NULL,
    said text NOT NULL,
    decisions bigint NOT NULL,
    score_sum_e6 bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard, answer, said)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_score_shards IS
    'Sums of scores of final outcomes, for the answer served, the rules'' and the model''s, by what was said. Read decision_score_minutes.';
SELECT ml_learning.allow('SELECT, INSERT, UPDATE', 'ml_learning.decision_score_shards', 'pointsman_service');

CREATE VIEW ml_learning.decision_score_minutes AS
SELECT
    agent_name, minute, arm, answer, said,
    sum(decisions)::bigint AS decisions,
    sum(score_sum_e6) / 1e6 AS score_sum
FROM ml_learning.decision_score_shards
GROUP BY agent_name, minute, arm, answer, said;
COMMENT ON VIEW ml_learning.decision_score_minutes IS
    'Answers (served, rules, ml) of final outcomes and the sum of their scores, by what was said.';

-- How sure the answers served were, in fifty bands of 0.02.
CREATE TABLE ml_learning.decision_confidence_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    band integer NOT NULL,
    decisions bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard, band)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_confidence_shards IS
    'Final outcomes by confidence: band b holds [b / 50, (b + 1) / 50), the last one 1 as well. Read decision_confidence_minutes.';

-- Which state of the flag split them: what share was wanted, and when it changed.
CREATE TABLE ml_learning.decision_flag_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    flag_version bigint NOT NULL,
    flag_percentage double precision NOT NULL,
    decisions bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard, flag_version, flag_percentage)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_flag_shards IS
    'Final outcomes by the flag''s version and percentage. Read decision_flag_minutes.';
SELECT ml_learning.allow('SELECT, INSERT, UPDATE', name, 'pointsman_service')
FROM unnest(ARRAY['ml_learning.decision_confidence_shards', 'ml_learning.decision_flag_shards']::regclass[]) AS name;

CREATE FUNCTION ml_learning.confidence_band(confidence double precision) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(49, greatest(0, floor(confidence * 50 + 1e-9)))::integer;
COMMENT ON FUNCTION ml_learning.confidence_band IS 'The band of a confidence, as store/minutes.py counts.';

CREATE VIEW ml_learning.decision_confidence_minutes AS
SELECT agent_name, minute, arm, band, band / 50.0::double precision AS confidence_from, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_confidence_shards
GROUP BY agent_name, minute, arm, band;

CREATE VIEW ml_learning.decision_flag_minutes AS
SELECT agent_name, minute, arm, flag_version, flag_percentage, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_flag_shards
GROUP BY agent_name, minute, arm, flag_version, flag_percentage;

-- Answers of the model that came after their outcome: how many, and how many say what the rules say. Those that came with
-- it are counted in decision_minute_shards.
CREATE TABLE ml_learning.decision_shadow_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    answers bigint NOT NULL,
    agreements bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_shadow_shards IS
    'Shadow answers by the minute of the decision; of several for one decision the first. Read decision_agreement_minutes.';
SELECT ml_learning.allow('SELECT, INSERT, UPDATE', 'ml_learning.decision_shadow_shards', 'pointsman_service');

CREATE VIEW ml_learning.decision_agreement_minutes AS
SELECT
    agent_name, minute, arm,
    sum(answers)::bigint AS both_answered,
    sum(agreements)::bigint AS agreements,
    sum(in_shadow)::bigint AS in_shadow
FROM (
    SELECT agent_name, minute, arm, both_answered AS answers, agreements, 0 AS in_shadow
    FROM ml_learning.decision_minute_shards
    UNION ALL
    SELECT agent_name, minute, arm, answers, agreements, answers FROM ml_learning.decision_shadow_shards
) AS either
GROUP BY agent_name, minute, arm;
COMMENT ON VIEW ml_learning.decision_agreement_minutes IS
    'Decisions that both arms answered, at once or in shadow, and those in which they said the same.';

CREATE FUNCTION ml_learning.wilson(right_ double precision, n double precision, side double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 0 THEN least(1, greatest(0, (
    right_ / n + 3.841459 / (2 * n)
    + side * sqrt(greatest(0, 3.841459 * (right_ / n * (1 - right_ / n) / n + 3.841459 / (4 * n * n))))
) / (1 + 3.841459 / n))) END;
COMMENT ON FUNCTION ml_learning.wilson IS
    'An end of Wilson''s 95 % interval (1927) for right_ of n: side -1 the lower one, 1 the upper one. NULL for n = 0.';

CREATE FUNCTION ml_learning.success_of(
    label text, said text, positive text, needless double precision, missed double precision
) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN said IS NULL THEN NULL
    WHEN said = label THEN 1.0
    WHEN said = positive THEN 1 - needless / nullif(greatest(needless, missed), 0)
    WHEN label = positive THEN 1 - missed / nullif(greatest(needless, missed), 0)
    ELSE 0.0
END;
COMMENT ON FUNCTION ml_learning.success_of IS
    'Success of one answer, in [0, 1]: 1 where it was right, else 1 less its error''s cost as a share of the dearer error''s.';

CREATE VIEW ml_learning.decision_success_minutes AS
SELECT
    agent_name, minute, arm,
    sum(decisions)::bigint AS labels,
    sum(decisions * ml_learning.success_of(label, served, positive, needless, missed)) AS served_success,
    sum(decisions * ml_learning.success_of(label, rules, positive, needless, missed)) AS rules_success,
    coalesce(sum(decisions) FILTER (WHERE ml IS NOT NULL), 0)::bigint AS ml_labels,
    coalesce(sum(decisions * ml_learning.success_of(label, ml, positive, needless, missed)), 0) AS ml_success
FROM ml_learning.decision_label_minutes
JOIN ml_learning.agent_measures_now USING (agent_name)
GROUP BY agent_name, minute, arm;
COMMENT ON VIEW ml_learning.decision_success_minutes IS
    'Labels, and the sums of success of the answers served, of the rules'' and of the model''s: divide by labels (ml_labels).';

CREATE VIEW ml_learning.decision_satisfaction_minutes AS
SELECT
    agent_name, minute, arm,
    sum(n)::bigint AS signals,
    sum(n * weight) AS weight,
    sum(weight * CASE WHEN signal = 'rating' THEN rating_sum ELSE n * points END) AS points
FROM ml_learning.decision_truth_minutes
CROSS JOIN LATERAL (VALUES
    ('rating', ratings), ('accepted', accepted), ('edited', edited), ('reverted', reverted), ('ignored', ignored),
    ('correction', corrections), ('complaint', complaints)
) AS told (signal, n)
JOIN ml_learning.satisfaction_weights_now USING (signal)
WHERE n <> 0 AND weight > 0
GROUP BY agent_name, minute, arm;
COMMENT ON VIEW ml_learning.decision_satisfaction_minutes IS
    'Satisfaction over any window is sum(points) / sum(weight), from 1 to 5: the mean of ratings and weighted signals.';

-- Confidence-based performance estimation (Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution
-- performance", there as average confidence; as CBPE in Białek et al. 2024, "Estimating model performance under covariate
-- shift without labels"): where scores are calibrated, a share of `score` of the positive answers is right, and of the
-- negative ones a share of `1 - score`. Drift of the relation between input and truth it cannot see.
CREATE VIEW ml_learning.decision_expected_minutes AS
SELECT
    agent_name, minute, arm, answer,
    sum(decisions)::bigint AS decisions,
    sum(CASE WHEN said = positive THEN score_sum ELSE decisions - score_sum END)::double precision AS right_expected,
    sum(decisions - CASE
        WHEN said = positive THEN (decisions - score_sum) * needless / nullif(greatest(needless, missed), 0)
        ELSE score_sum * missed / nullif(greatest(needless, missed), 0)
    END) AS success_expected
FROM ml_learning.decision_score_minutes
JOIN ml_learning.agent_measures_now USING (agent_name)
GROUP BY agent_name, minute, arm, answer;
COMMENT ON VIEW ml_learning.decision_expected_minutes IS
    'What accuracy and success to expect of all decisions, before labels have come: divide by decisions.';

-- The same straight from the audit: what the aggregates are checked against.
CREATE VIEW ml_learning.decision_score_minutes_from_audit AS
SELECT
    agent_name, ml_learning.minute_of(created_at) AS minute, arm, answer, said,
    count(*) AS decisions,
    sum(round(score * 1000000)::bigint) / 1e6 AS score_sum
FROM ml_learning.agent_decisions
CROSS JOIN LATERAL (VALUES
    ('served', prediction, CASE WHEN source = 'ml' THEN coalesce(ml_score, rules_score) ELSE rules_score END),
    ('rules', rules_prediction, rules_score),
    ('ml', ml_prediction, ml_score)
) AS answered (answer, whole, score)
CROSS JOIN LATERAL (SELECT left(whole, 100) AS said) AS short
WHERE status = 'final' AND whole IS NOT NULL
GROUP BY 1, 2, 3, 4, 5;

SELECT ml_learning.allow('SELECT', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.agent_measures_now', 'ml_learning.satisfaction_weights_now', 'ml_learning.decision_score_minutes',
    'ml_learning.decision_success_minutes', 'ml_learning.decision_satisfaction_minutes',
    'ml_learning.decision_expected_minutes', 'ml_learning.decision_score_minutes_from_audit',
    'ml_learning.decision_confidence_minutes', 'ml_learning.decision_flag_minutes',
    'ml_learning.decision_agreement_minutes'
]::regclass[]) AS name;

-- What was decided before this migration. Reads the whole audit some times: minutes for ten million rows.
INSERT INTO ml_learning.decision_score_shards (agent_name, minute, arm, shard, answer, said, decisions, score_sum_e6)
SELECT
    agent_name, ml_learning.minute_of(created_at), arm, partition, answer, left(whole, 100),
    count(*), sum(round(score * 1000000)::bigint)
FROM ml_learning.agent_decisions
CROSS JOIN LATERAL (VALUES
    ('served', prediction, CASE WHEN source = 'ml' THEN coalesce(ml_score, rules_score) ELSE rules_score END),
    ('rules', rules_prediction, rules_score),
    ('ml', ml_prediction, ml_score)
) AS answered (answer, whole, score)
WHERE status = 'final' AND whole IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO ml_learning.decision_confidence_shards (agent_name, minute, arm, shard, band, decisions)
SELECT agent_name, ml_learning.minute_of(created_at), arm, partition, ml_learning.confidence_band(confidence), count(*)
FROM ml_learning.agent_decisions
WHERE status = 'final'
GROUP BY 1, 2, 3, 4, 5;

INSERT INTO ml_learning.decision_flag_shards (agent_name, minute, arm, shard, flag_version, flag_percentage, decisions)
SELECT agent_name, ml_learning.minute_of(created_at), arm, partition, flag_version, flag_percentage, count(*)
FROM ml_learning.agent_decisions
WHERE status = 'final'
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO ml_learning.decision_shadow_shards (agent_name, minute, arm, shard, answers, agreements)
SELECT
    agent_name, ml_learning.minute_of(created_at), arm, partition,
    count(*), count(*) FILTER (WHERE ml_prediction = rules_prediction)
FROM ml_learning.answered_decisions
WHERE ml_in_shadow
GROUP BY 1, 2, 3, 4;
