-- Queries of export.py.

-- name: in_one_form
-- Whatever server and locale say, a file reads the same.
SET client_encoding = 'UTF8';
SET DateStyle = 'ISO'

-- name: pieces
-- Minutes that cut a window into pieces of some thousands of decisions, by the counts that there are of each minute.
SELECT min(minute)
FROM (
    SELECT minute, div(sum(decisions) OVER (ORDER BY minute) - decisions, %(most)s) AS piece
    FROM (
        SELECT minute, sum(decisions + pending) AS decisions
        FROM ml_learning.decision_minute_shards
        WHERE minute > %(since)s AND minute < %(before)s
            AND (%(agent)s::text IS NULL OR agent_name = %(agent)s)
        GROUP BY minute
    ) AS minutes
) AS cut
GROUP BY piece
ORDER BY 1

-- name: decisions
-- Everything about the decisions of a piece, in order; where a moment is given, as far as it was known then. Texts of JSON
-- are as received (input) or as stored.
SELECT
    d.decision_id, d.agent_name, d.created_at, d.requested_at, d.known_at,
    d.status, d.revision, d.success, d.source, d.arm, d.prediction, d.confidence, d.reason, d.action, d.needs_review,
    d.fallback_reason,
    d.rules_decider, d.rules_prediction, d.rules_score, d.rules_confidence, d.rules_reason,
    d.ml_decider, d.ml_prediction, d.ml_score, d.ml_confidence, d.ml_reason,
    d.flag_name, d.flag_percentage, d.flag_version,
    d.pointsman_version, d.features_version, d.rules_version, d.ml_version,
    d.total_ms, d.features_ms, d.model_ms,
    d.features::text AS features,
    c.unit,
    ml_learning.as_text(c.input) AS input,
    CASE WHEN ml_learning.as_text(c.input) IS NULL THEN encode(c.input, 'base64') END AS input_base64,
    coalesce(h.attempts, 1) AS attempts, h.first_reason, coalesce(h.redriven, 0) AS redriven,
    t.cluster, t.topic, d.topic_id, d.partition, d.request_offset, d.trace_id, d.content_hash,
    encode(d.commitment, 'hex') AS commitment, encode(c.salt, 'hex') AS salt,
    s.answers::text AS shadows,
    f.events::text AS feedback
FROM ml_learning.agent_decisions AS d
LEFT JOIN ml_learning.kafka_topics AS t ON t.id = d.topic_id
LEFT JOIN ml_learning.decision_contents AS c
    ON c.topic_id = d.topic_id
    AND c.partition = d.partition
    AND c.request_offset = d.request_offset
    AND c.revision = d.revision
    AND c.decision_id = d.decision_id
LEFT JOIN ml_learning.decision_histories AS h
    ON h.topic_id = d.topic_id
    AND h.partition = d.partition
    AND h.request_offset = d.request_offset
    AND h.revision = d.revision
    AND h.decision_id = d.decision_id
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'decider', shadow.decider, 'prediction', shadow.prediction, 'score', shadow.score,
        'confidence', shadow.confidence, 'reason', shadow.reason, 'answered_at', shadow.answered_at,
        'known_at', shadow.known_at
    ) ORDER BY shadow.known_at, shadow.answered_at, shadow.decider), '[]') AS answers
    FROM ml_learning.decision_shadows AS shadow
    WHERE shadow.topic_id = d.topic_id AND shadow.partition = d.partition
        AND shadow.request_offset = d.request_offset AND shadow.decision_id = d.decision_id
        AND (%(known_at)s::timestamptz IS NULL OR shadow.known_at <= %(known_at)s)
) AS s
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'event_id', told.event_id, 'kind', told.kind,
        'value', coalesce(
            to_jsonb(told.value_text), to_jsonb(told.value_number), to_jsonb(told.value_time),
            ml_learning.as_jsonb(content.content) -> told.kind
        ),
        'sender', ml_learning.as_jsonb(content.content) -> 'sender',
        'authorised', told.authorised, 'observed_at', told.observed_at, 'known_at', told.known_at,
        'commitment', encode(told.commitment, 'hex')
    ) ORDER BY told.known_at, told.seq), '[]') AS events
    FROM ml_learning.decision_feedback AS told
    LEFT JOIN ml_learning.feedback_contents AS content USING (decision_id, event_id)
    WHERE told.decision_id = d.decision_id AND told.agent_name = d.agent_name
        AND (%(known_at)s::timestamptz IS NULL OR told.known_at <= %(known_at)s)
) AS f
WHERE d.created_at >= %(since)s AND d.created_at < %(before)s
    AND (%(agent)s::text IS NULL OR d.agent_name = %(agent)s)
    AND (%(known_at)s::timestamptz IS NULL OR d.known_at <= %(known_at)s)
ORDER BY d.created_at, t.cluster, t.topic, d.partition, d.request_offset, d.revision, d.decision_id
