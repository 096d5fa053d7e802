-- Queries of retention.py. {table} and {moment} are names: of a table, and of the column that says when a row came.

-- name: may_delete
SELECT EXISTS (
    SELECT FROM pg_roles
    WHERE rolname = 'pointsman_privacy'
        AND pg_has_role(current_user, oid, CASE
            WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER'
        END)
)

-- name: delete_as
-- Takes away all rights that deleting does not need, whoever it logged in as.
SET ROLE pointsman_privacy

-- name: today
SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date

-- name: unexpired
-- Days whose rows may go: those with a digest, and the one that a run before this one may have left half done.
SELECT day FROM ml_learning.audit_digests AS d
WHERE d.day < %(before)s AND d.day >= coalesce(
    (SELECT max(day) FROM ml_learning.audit_deletions WHERE kind = 'audit'), '-infinity'
)
GROUP BY day
ORDER BY day

-- name: record
INSERT INTO ml_learning.audit_deletions (kind, day, retention_days, salt, subject, deleted, deleted_by)
VALUES (%(kind)s, %(day)s, %(days)s, %(salt)s, %(subject)s, %(deleted)s::jsonb, %(by)s)
ON CONFLICT DO NOTHING

-- name: slices
-- Moments that cut the rows of a span into pieces of some thousands: no transaction is long, and none looks again at
-- what the one before it left behind. Rows of one moment stay together.
SELECT moment
FROM (
    SELECT {moment} AS moment, row_number() OVER (ORDER BY {moment}) AS number
    FROM {table}
    WHERE {moment} >= %(since)s AND {moment} < %(before)s
) AS rows
WHERE number %% %(most)s = 1
ORDER BY moment

-- name: count_span
SELECT count(*) FROM {table} WHERE {moment} >= %(since)s AND {moment} < %(before)s

-- name: delete_span
DELETE FROM {table} WHERE {moment} >= %(since)s AND {moment} < %(before)s

-- name: contents_of_decisions
-- No content outlives its decision.
DELETE FROM ml_learning.decision_contents AS c
USING ml_learning.agent_decisions AS d
WHERE d.known_at >= %(since)s AND d.known_at < %(before)s
    AND c.topic_id = d.topic_id AND c.partition = d.partition AND c.request_offset = d.request_offset
    AND c.revision = d.revision AND c.decision_id = d.decision_id

-- name: delete_feedback
DELETE FROM ml_learning.decision_feedback WHERE known_at >= %(since)s AND known_at < %(before)s
RETURNING decision_id, event_id

-- name: delete_feedback_events
WITH gone AS (SELECT * FROM unnest(%s::text[], %s::text[]) AS keys (decision_id, event_id)),
contents AS (
    DELETE FROM ml_learning.feedback_contents WHERE (decision_id, event_id) IN (SELECT decision_id, event_id FROM gone)
)
DELETE FROM ml_learning.feedback_events WHERE (decision_id, event_id) IN (SELECT decision_id, event_id FROM gone)

-- name: delete_shadows
DELETE FROM ml_learning.decision_shadows WHERE known_at >= %(since)s AND known_at < %(before)s
RETURNING topic_id, partition, request_offset, decider, decision_id

-- name: delete_shadow_places
DELETE FROM ml_learning.shadow_places
WHERE (topic_id, partition, request_offset, decider, decision_id) IN (
    SELECT * FROM unnest(%s::integer[], %s::integer[], %s::bigint[], %s::text[], %s::text[])
)

-- name: forget_unit
-- Also what was said of the unit's decisions without naming a unit.
WITH decisions AS (
    DELETE FROM ml_learning.decision_contents WHERE unit = %(unit)s RETURNING decision_id
),
told AS (
    DELETE FROM ml_learning.feedback_contents
    WHERE unit = %(unit)s OR (unit IS NULL AND decision_id IN (SELECT decision_id FROM decisions))
    RETURNING decision_id
)
SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM told)

-- name: count_unit
SELECT
    (SELECT count(*) FROM ml_learning.decision_contents WHERE unit = %(unit)s),
    (
        SELECT count(*) FROM ml_learning.feedback_contents
        WHERE unit = %(unit)s OR (unit IS NULL AND decision_id IN (
            SELECT decision_id FROM ml_learning.decision_contents WHERE unit = %(unit)s
        ))
    )

-- name: forget_decision
WITH decisions AS (
    DELETE FROM ml_learning.decision_contents AS c
    USING ml_learning.agent_decisions AS d
    WHERE d.decision_id = %(decision)s
        AND c.topic_id = d.topic_id AND c.partition = d.partition AND c.request_offset = d.request_offset
        AND c.revision = d.revision AND c.decision_id = d.decision_id
    RETURNING c.decision_id
),
told AS (
    DELETE FROM ml_learning.feedback_contents WHERE decision_id = %(decision)s RETURNING decision_id
)
SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM told)

-- name: count_decision
SELECT
    (
        SELECT count(*) FROM ml_learning.decision_contents AS c
        JOIN ml_learning.agent_decisions AS d
            ON c.topic_id = d.topic_id AND c.partition = d.partition AND c.request_offset = d.request_offset
            AND c.revision = d.revision AND c.decision_id = d.decision_id
        WHERE d.decision_id = %(decision)s
    ),
    (SELECT count(*) FROM ml_learning.feedback_contents WHERE decision_id = %(decision)s)
