-- Questions that an auditor asks, for psql or any other client. Each stands alone; what to ask about is set before:
--   \set since '2026-11-01T00:00Z'  \set before '2026-12-01T00:00Z'  \set agent documentation-keeper
--   \set decision demo1a2b-0123456789  \set moment '2026-11-15T12:00Z'
-- Windows are of the moment of the decision, from since up to, without, before.

-- name: who_decided
-- Who or what decided this, with which versions, under which flag, and how sure of it.
SELECT
    decision_id, agent_name, created_at, status, revision, arm, source, prediction, confidence, action,
    needs_review, fallback_reason, pointsman_version, features_version, rules_version, ml_version,
    flag_name, flag_percentage, flag_version
FROM ml_learning.decisions
WHERE decision_id = :'decision'
ORDER BY created_at, revision;

-- name: on_what_input
-- On what input, and with which features. Unit and input are NULL once they were deleted.
SELECT decision_id, unit, input, features, cluster, topic, partition, request_offset, trace_id, content_hash
FROM ml_learning.decisions
WHERE decision_id = :'decision'
ORDER BY created_at, revision;

-- name: both_answers
-- What the rules and what the model said, whether it was served or not.
SELECT
    decision_id, source, prediction, rules_decider, rules_prediction, rules_score, rules_confidence,
    ml_decider, ml_prediction, ml_score, ml_confidence, ml_in_shadow
FROM ml_learning.answered_decisions
WHERE decision_id = :'decision';

-- name: what_was_known_when
-- What was known of this decision at a moment: the last word of each kind by then, and when it came.
SELECT DISTINCT ON (kind)
    kind, value_text, value_number, value_time, observed_at, known_at, authorised, event_id
FROM ml_learning.decision_feedback
WHERE decision_id = :'decision' AND known_at <= :'moment'
ORDER BY kind, known_at DESC, seq DESC;

-- name: labels_as_of
-- How many decisions of the window were known to be right at a moment, by arm and by who answered.
SELECT
    d.arm, d.source, count(*) AS labelled, count(*) FILTER (WHERE d.prediction = l.label) AS right_answers
FROM ml_learning.answered_decisions AS d
JOIN (
    SELECT DISTINCT ON (agent_name, decision_id) agent_name, decision_id, value_text AS label
    FROM ml_learning.decision_feedback
    WHERE kind = 'label' AND known_at <= :'moment'
    ORDER BY agent_name, decision_id, known_at DESC, seq DESC
) AS l USING (agent_name, decision_id)
WHERE d.agent_name = :'agent' AND d.created_at >= :'since' AND d.created_at < :'before'
GROUP BY d.arm, d.source
ORDER BY d.arm, d.source;

-- name: changed_after_the_fact
-- Everything that was said of decisions more than once, in the order in which it became known.
SELECT decision_id, kind, value_text, value_number, value_time, known_at, observed_at, event_id, times
FROM (
    SELECT *, count(*) OVER (PARTITION BY agent_name, decision_id, kind) AS times
    FROM ml_learning.decision_feedback
    WHERE agent_name = :'agent'
) AS told
WHERE times > 1
ORDER BY decision_id, kind, known_at, seq;

-- name: truth_before_its_decision
-- What was told of a decision before that was written: a label that was known beforehand proves nothing.
SELECT f.decision_id, f.kind, f.observed_at, f.known_at, d.created_at
FROM ml_learning.decision_feedback AS f
JOIN ml_learning.agent_decisions AS d USING (agent_name, decision_id)
WHERE d.agent_name = :'agent' AND d.created_at >= :'since' AND d.created_at < :'before'
    AND f.observed_at < d.created_at
ORDER BY d.created_at, f.decision_id, f.known_at, f.seq;

-- name: without_truth
-- Decisions whose truth is not known.
SELECT d.decision_id, d.created_at, d.source, d.prediction, d.confidence
FROM ml_learning.agent_decisions AS d
WHERE d.agent_name = :'agent' AND d.created_at >= :'since' AND d.created_at < :'before' AND d.status = 'final'
    AND NOT EXISTS (
        SELECT FROM ml_learning.decision_feedback AS f
        WHERE f.decision_id = d.decision_id AND f.agent_name = d.agent_name AND f.kind = 'label'
    )
ORDER BY d.created_at, d.decision_id;

-- name: never_finished
-- Pending outcomes that no final one followed.
SELECT p.decision_id, p.created_at, p.prediction, p.confidence
FROM ml_learning.agent_decisions AS p
WHERE p.agent_name = :'agent' AND p.created_at >= :'since' AND p.created_at < :'before'
    AND p.status = 'pending_approval'
    AND NOT EXISTS (
        SELECT FROM ml_learning.agent_decisions AS f
        WHERE f.decision_id = p.decision_id AND f.agent_name = p.agent_name AND f.status = 'final'
    )
ORDER BY p.created_at, p.decision_id;

-- name: refused
-- Requests that got no outcome, and why.
SELECT t.topic, l.partition, l.request_offset, l.attempt, l.reason, l.field, l.expected, l.known_at
FROM ml_learning.dead_letters AS l
LEFT JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
WHERE l.known_at >= :'since' AND l.known_at < :'before'
ORDER BY l.known_at, t.topic, l.partition, l.request_offset;

-- name: overridden
-- Answers that people did not leave as they were: corrected, edited or reverted, or found wrong.
SELECT d.decision_id, d.created_at, d.source, d.prediction, f.kind, f.value_text, f.known_at
FROM ml_learning.agent_decisions AS d
JOIN ml_learning.decision_feedback AS f USING (agent_name, decision_id)
WHERE d.agent_name = :'agent' AND d.created_at >= :'since' AND d.created_at < :'before' AND d.status = 'final'
    AND (
        f.kind = 'correction'
        OR (f.kind = 'signal' AND f.value_text IN ('edited', 'reverted'))
        OR (f.kind = 'label' AND f.value_text <> d.prediction)
    )
ORDER BY d.created_at, d.decision_id, f.known_at, f.seq;

-- name: model_overruled
-- Decisions that the rules answered although the model was to: why, and what the model had said if it did.
SELECT decision_id, created_at, fallback_reason, prediction, ml_decider, ml_prediction
FROM ml_learning.answered_decisions
WHERE agent_name = :'agent' AND created_at >= :'since' AND created_at < :'before' AND fallback_reason IS NOT NULL
ORDER BY created_at, decision_id;

-- name: disagreements
-- Decisions on which rules and model said different things, and which of them the truth bore out.
SELECT d.decision_id, d.created_at, d.source, d.rules_prediction, d.ml_prediction, d.label
FROM ml_learning.labelled_decisions AS d
WHERE d.agent_name = :'agent' AND d.created_at >= :'since' AND d.created_at < :'before'
    AND d.ml_prediction <> d.rules_prediction
ORDER BY d.created_at, d.decision_id;

-- name: violations
-- Critical errors and safety violations, and whether they were signed by who may report them. The words lie in
-- feedback_contents, unless they were deleted.
SELECT f.decision_id, f.kind, f.authorised, f.observed_at, f.known_at, d.source, d.prediction, d.ml_version
FROM ml_learning.decision_feedback AS f
LEFT JOIN ml_learning.agent_decisions AS d USING (agent_name, decision_id)
WHERE f.agent_name = :'agent' AND f.kind IN ('critical_error', 'safety_violation')
ORDER BY f.known_at, f.seq;

-- name: by_version
-- How many decisions each version of model, rules and features made, from when to when.
SELECT
    agent_name, source, ml_version, rules_version, features_version, pointsman_version,
    count(*) AS decisions, min(created_at) AS first_at, max(created_at) AS last_at
FROM ml_learning.agent_decisions
WHERE created_at >= :'since' AND created_at < :'before'
GROUP BY agent_name, source, ml_version, rules_version, features_version, pointsman_version
ORDER BY agent_name, first_at;

-- name: flags_over_time
-- Which share of traffic the flag gave to the model, as the decisions themselves carry it.
SELECT flag_name, flag_version, flag_percentage, count(*) AS decisions, min(created_at) AS first_at, max(created_at) AS last_at
FROM ml_learning.agent_decisions
WHERE agent_name = :'agent' AND created_at >= :'since' AND created_at < :'before'
GROUP BY flag_name, flag_version, flag_percentage
ORDER BY first_at;

-- name: reviews_due
-- Decisions that a person was to look at.
SELECT decision_id, created_at, action, prediction, confidence
FROM ml_learning.agent_decisions
WHERE agent_name = :'agent' AND created_at >= :'since' AND created_at < :'before' AND needs_review
ORDER BY confidence, decision_id;

-- name: tried_again
-- Decisions that were not answered at once: how often they were tried or sent again, and why.
SELECT decision_id, created_at, attempts, first_reason, redriven
FROM ml_learning.decisions
WHERE agent_name = :'agent' AND created_at >= :'since' AND created_at < :'before' AND (attempts > 1 OR redriven > 0)
ORDER BY created_at, decision_id;

-- name: all_accounted_for
-- What became of the requests, by lane and partition: requests are outcomes, dead letters, repeats or still tried again.
SELECT
    l.lane, t.topic, l.partition, min(l.start_offset) AS start_offset, max(l.end_offset) AS end_offset,
    sum(l.requests) AS requests, sum(l.outcomes) AS outcomes, sum(l.pending) AS pending,
    sum(l.dead_letters) AS dead_letters, sum(l.duplicates) AS duplicates, sum(l.retrying) AS retrying,
    sum(l.requests - l.outcomes - l.pending - l.dead_letters - l.duplicates - l.retrying) AS unaccounted
FROM ml_learning.lane_ledger AS l
JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
WHERE l.known_at >= :'since' AND l.known_at < :'before'
GROUP BY l.lane, t.topic, l.partition
ORDER BY l.lane, t.topic, l.partition;

-- name: digests
-- The digests, in the order in which they were made; `pointsman audit verify` computes them again.
SELECT seq, day, revision, why, known_at, encode(digest, 'hex') AS digest, encode(previous, 'hex') AS previous, tables
FROM ml_learning.audit_digests
ORDER BY seq;

-- name: deletions
-- What was deleted, by whom, when: by age (audit, contents), or on request (unit, decision).
SELECT known_at, kind, day, retention_days, deleted, deleted_by, login
FROM ml_learning.audit_deletions
ORDER BY seq;

-- name: was_it_forgotten
-- Whether the contents of a unit were deleted on request: who knows the unit can tell. \set unit 'repo-1'
SELECT known_at, kind, deleted, deleted_by
FROM ml_learning.audit_deletions
WHERE kind = 'unit' AND subject = ml_learning.commitment(salt, :'unit', '')
ORDER BY seq;

-- name: without_content
-- Decisions whose unit and input are gone.
SELECT d.decision_id, d.created_at
FROM ml_learning.agent_decisions AS d
WHERE d.agent_name = :'agent' AND d.created_at >= :'since' AND d.created_at < :'before'
    AND NOT EXISTS (
        SELECT FROM ml_learning.decision_contents AS c
        WHERE c.topic_id = d.topic_id AND c.partition = d.partition AND c.request_offset = d.request_offset
            AND c.revision = d.revision AND c.decision_id = d.decision_id
    )
ORDER BY d.created_at, d.decision_id;
