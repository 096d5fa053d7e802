-- What people read: one wide row a decision, and the decisions whose truth is known.

CREATE FUNCTION ml_learning.as_jsonb(content bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN convert_from(content, 'UTF8')::jsonb;
EXCEPTION
    -- Producers may send what jsonb cannot hold, as a zero character; its bytes stay readable in the table.
    WHEN data_exception OR character_not_in_repertoire OR untranslatable_character THEN
        RETURN NULL;
END $$;
COMMENT ON FUNCTION ml_learning.as_jsonb IS 'JSON bytes as jsonb; NULL where jsonb cannot hold them.';

-- The last label of each decision. A view for a past day filters decision_feedback by known_at the same way.
CREATE VIEW ml_learning.decision_labels AS
SELECT DISTINCT ON (agent_name, decision_id)
    agent_name, decision_id, value_text AS label, observed_at, known_at
FROM ml_learning.decision_feedback
WHERE kind = 'label'
ORDER BY agent_name, decision_id, known_at DESC, seq DESC;

-- Final outcomes with the model's answer, whether it was part of the outcome or came later as a shadow.
CREATE VIEW ml_learning.answered_decisions AS
SELECT
    d.decision_id, d.agent_name, d.created_at, d.requested_at, d.source, d.arm, d.prediction, d.confidence,
    d.action, d.fallback_reason, d.topic_id, d.partition, d.request_offset,
    d.rules_decider, d.rules_prediction, d.rules_score, d.rules_confidence,
    coalesce(d.ml_decider, s.decider) AS ml_decider,
    coalesce(d.ml_prediction, s.prediction) AS ml_prediction,
    coalesce(d.ml_score, s.score) AS ml_score,
    coalesce(d.ml_confidence, s.confidence) AS ml_confidence,
    d.ml_decider IS NULL AND s.decider IS NOT NULL AS ml_in_shadow
FROM ml_learning.agent_decisions AS d
LEFT JOIN LATERAL (
    SELECT shadow.decider, shadow.prediction, shadow.score, shadow.confidence
    FROM ml_learning.decision_shadows AS shadow
    WHERE d.ml_decider IS NULL
        AND shadow.topic_id = d.topic_id
        AND shadow.partition = d.partition
        AND shadow.request_offset = d.request_offset
        AND shadow.decision_id = d.decision_id
    ORDER BY shadow.known_at, shadow.answered_at
    LIMIT 1
) AS s ON true
WHERE d.status = 'final';

CREATE VIEW ml_learning.labelled_decisions AS
SELECT
    d.*,
    l.label, l.observed_at AS label_observed_at, l.known_at AS label_known_at,
    d.prediction = l.label AS served_correct,
    d.rules_prediction = l.label AS rules_correct,
    d.ml_prediction = l.label AS ml_correct
FROM ml_learning.decision_labels AS l
JOIN ml_learning.answered_decisions AS d USING (agent_name, decision_id);
COMMENT ON VIEW ml_learning.labelled_decisions IS
    'Decisions whose truth is known, by the label known last, with the answers of both arms.';

CREATE VIEW ml_learning.decisions AS
SELECT
    d.*,
    t.cluster, t.topic,
    c.unit,
    ml_learning.as_jsonb(c.input) AS input
FROM ml_learning.agent_decisions AS d
LEFT JOIN ml_learning.kafka_topics AS t ON t.id = d.topic_id
LEFT JOIN ml_learning.decision_contents AS c
    ON c.topic_id = d.topic_id
    AND c.partition = d.partition
    AND c.request_offset = d.request_offset
    AND c.revision = d.revision
    AND c.decision_id = d.decision_id;
COMMENT ON VIEW ml_learning.decisions IS
    'Everything about a decision in one row; unit and input are NULL once they were deleted.';

SELECT ml_learning.allow('SELECT', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.decision_labels', 'ml_learning.answered_decisions', 'ml_learning.labelled_decisions',
    'ml_learning.decisions'
]::regclass[]) AS name;
