-- Queries of digests.py and verify.py. What is digested stands here and not in the database: who changes rows there
-- could change its views and functions as well.

-- name: take_turns
-- One digest after another: each has the one before in it.
SELECT pg_advisory_xact_lock(hashtext('pointsman audit digest'))

-- name: in_utf8
SET client_encoding = 'UTF8'

-- name: entries
SELECT seq, day, revision, form, tables, why, previous, digest, known_at FROM ml_learning.audit_digests ORDER BY seq

-- name: last_entry
SELECT seq, day, revision, form, tables, why, previous, digest, known_at FROM ml_learning.audit_digests
ORDER BY seq DESC LIMIT 1

-- name: last_day
SELECT max(day) FROM ml_learning.audit_digests

-- name: now
SELECT statement_timestamp()

-- name: first_day
-- The day of the oldest row.
SELECT (min(known_at) AT TIME ZONE 'UTC')::date
FROM (
    SELECT min(known_at) AS known_at FROM ml_learning.agent_decisions
    UNION ALL SELECT min(known_at) FROM ml_learning.decision_shadows
    UNION ALL SELECT min(known_at) FROM ml_learning.decision_feedback
    UNION ALL SELECT min(known_at) FROM ml_learning.decision_histories
    UNION ALL SELECT min(known_at) FROM ml_learning.dead_letters
    UNION ALL SELECT min(known_at) FROM ml_learning.lane_ledger
    UNION ALL SELECT min(known_at) FROM ml_learning.audit_deletions
) AS oldest

-- name: open_since
-- The oldest transaction that may still bring rows of a day that is over. Where the role may not see the sessions of
-- others, the grace alone has to do.
SELECT min(begun)
FROM (
    SELECT xact_start AS begun FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
) AS transactions

-- name: day_1
-- Form 1. A row's leaf is SHA-256 of its columns in PostgreSQL's binary form (record_send: number of columns, then type,
-- length and bytes of each), topics by their names. Leaves that begin with the same two bytes are hashed together, in
-- order, and the hashes of these once more: so no server needs memory for a day's rows, and no order of rows matters.
-- A column that comes later needs another form; this one stays, for the days that were digested by it.
SELECT
    table_name,
    sum(rows)::bigint AS rows,
    pg_catalog.sha256(string_agg(digest, ''::bytea ORDER BY prefix)) AS digest
FROM (
    SELECT
        table_name, substr(leaf, 1, 2) AS prefix, count(*) AS rows,
        pg_catalog.sha256(string_agg(leaf, ''::bytea ORDER BY leaf)) AS digest
    FROM (
        SELECT 'agent_decisions' AS table_name, pg_catalog.sha256(pg_catalog.record_send(ROW(
            d.created_at, d.requested_at, d.known_at, d.request_offset, t.cluster, t.topic, d.partition,
            d.flag_version, d.revision, d.success, d.needs_review, d.confidence, d.flag_percentage,
            d.rules_score, d.rules_confidence, d.ml_score, d.ml_confidence, d.total_ms, d.features_ms, d.model_ms,
            d.decision_id, d.agent_name, d.status, d.source, d.arm, d.prediction, d.reason, d.action,
            d.fallback_reason, d.rules_decider, d.rules_prediction, d.rules_reason, d.ml_decider, d.ml_prediction,
            d.ml_reason, d.flag_name, d.pointsman_version, d.features_version, d.rules_version, d.ml_version,
            d.trace_id, d.content_hash, d.commitment, d.features
        ))) AS leaf
        FROM ml_learning.agent_decisions AS d
        LEFT JOIN ml_learning.kafka_topics AS t ON t.id = d.topic_id
        WHERE d.known_at >= %(since)s AND d.known_at < %(before)s
        UNION ALL
        SELECT 'decision_shadows', pg_catalog.sha256(pg_catalog.record_send(ROW(
            s.answered_at, s.known_at, s.request_offset, t.cluster, t.topic, s.partition, s.score, s.confidence,
            s.decision_id, s.agent_name, s.decider, s.prediction, s.reason
        )))
        FROM ml_learning.decision_shadows AS s
        LEFT JOIN ml_learning.kafka_topics AS t ON t.id = s.topic_id
        WHERE s.known_at >= %(since)s AND s.known_at < %(before)s
        UNION ALL
        SELECT 'decision_feedback', pg_catalog.sha256(pg_catalog.record_send(ROW(
            f.seq, f.known_at, f.observed_at, f.decision_id, f.agent_name, f.event_id, f.kind, f.value_text,
            f.value_number, f.value_time, f.commitment, f.authorised
        )))
        FROM ml_learning.decision_feedback AS f
        WHERE f.known_at >= %(since)s AND f.known_at < %(before)s
        UNION ALL
        SELECT 'decision_histories', pg_catalog.sha256(pg_catalog.record_send(ROW(
            t.cluster, t.topic, h.partition, h.request_offset, h.revision, h.content_hash, h.decision_id, h.attempts,
            h.first_reason, h.first_field, taken.cluster, taken.topic, h.taken_offset, h.redriven,
            origin.cluster, origin.topic, h.first_partition, h.first_offset, h.known_at
        )))
        FROM ml_learning.decision_histories AS h
        LEFT JOIN ml_learning.kafka_topics AS t ON t.id = h.topic_id
        LEFT JOIN ml_learning.kafka_topics AS taken ON taken.id = h.taken_topic_id
        LEFT JOIN ml_learning.kafka_topics AS origin ON origin.id = h.first_topic_id
        WHERE h.known_at >= %(since)s AND h.known_at < %(before)s
        UNION ALL
        SELECT 'dead_letters', pg_catalog.sha256(pg_catalog.record_send(ROW(
            t.cluster, t.topic, l.partition, l.request_offset, l.attempt, l.reason, l.field, l.expected, l.known_at,
            taken.cluster, taken.topic, l.taken_offset
        )))
        FROM ml_learning.dead_letters AS l
        LEFT JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
        LEFT JOIN ml_learning.kafka_topics AS taken ON taken.id = l.taken_topic_id
        WHERE l.known_at >= %(since)s AND l.known_at < %(before)s
        UNION ALL
        SELECT 'lane_ledger', pg_catalog.sha256(pg_catalog.record_send(ROW(
            l.lane, t.cluster, t.topic, l.partition, l.start_offset, l.end_offset, l.requests, l.outcomes, l.pending,
            l.dead_letters, l.duplicates, l.retrying, l.known_at
        )))
        FROM ml_learning.lane_ledger AS l
        LEFT JOIN ml_learning.kafka_topics AS t ON t.id = l.topic_id
        WHERE l.known_at >= %(since)s AND l.known_at < %(before)s
        UNION ALL
        SELECT 'audit_deletions', pg_catalog.sha256(pg_catalog.record_send(ROW(
            d.seq, d.known_at, d.kind, d.day, d.retention_days, d.salt, d.subject, d.deleted, d.deleted_by, d.login
        )))
        FROM ml_learning.audit_deletions AS d
        WHERE d.known_at >= %(since)s AND d.known_at < %(before)s
    ) AS leaves
    GROUP BY table_name, substr(leaf, 1, 2)
) AS parts
GROUP BY table_name

-- name: add
INSERT INTO ml_learning.audit_digests (seq, day, revision, form, tables, why, previous, digest, known_at)
VALUES (%s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s)

-- name: expiries
SELECT day, known_at, deleted_by, retention_days FROM ml_learning.audit_deletions WHERE kind = 'audit' ORDER BY day

-- name: older_rows
-- Tables with rows of before a moment.
SELECT name
FROM (
    SELECT 'agent_decisions' AS name, EXISTS (SELECT FROM ml_learning.agent_decisions WHERE known_at < %(before)s) AS found
    UNION ALL
    SELECT 'decision_shadows', EXISTS (SELECT FROM ml_learning.decision_shadows WHERE known_at < %(before)s)
    UNION ALL
    SELECT 'decision_feedback', EXISTS (SELECT FROM ml_learning.decision_feedback WHERE known_at < %(before)s)
    UNION ALL
    SELECT 'decision_histories', EXISTS (SELECT FROM ml_learning.decision_histories WHERE known_at < %(before)s)
    UNION ALL
    SELECT 'dead_letters', EXISTS (SELECT FROM ml_learning.dead_letters WHERE known_at < %(before)s)
    UNION ALL
    SELECT 'lane_ledger', EXISTS (SELECT FROM ml_learning.lane_ledger WHERE known_at < %(before)s)
    UNION ALL
    SELECT 'audit_deletions', EXISTS (SELECT FROM ml_learning.audit_deletions WHERE known_at < %(before)s)
) AS tables
WHERE found
ORDER BY name

-- name: contents
-- Contents that are there, and those of them that no row of the audit is committed to. The commitment is worked out
-- here and not by the database's own function, as said above.
SELECT name, count(*) AS rows, count(*) FILTER (WHERE NOT fits) AS strange, min(id) FILTER (WHERE NOT fits) AS example
FROM (
    SELECT 'decision_contents' AS name, c.decision_id AS id, EXISTS (
        SELECT FROM ml_learning.agent_decisions AS d
        WHERE d.decision_id = c.decision_id AND d.topic_id = c.topic_id AND d.partition = c.partition
            AND d.request_offset = c.request_offset AND d.revision = c.revision
            AND d.commitment = pg_catalog.sha256(
                c.salt || convert_to(coalesce(c.unit, ''), 'UTF8') || '\x00'::bytea || c.input
            )
    ) AS fits
    FROM ml_learning.decision_contents AS c
    WHERE c.created_at >= %(since)s AND c.created_at < %(before)s
    UNION ALL
    SELECT 'feedback_contents', c.decision_id, EXISTS (
        SELECT FROM ml_learning.decision_feedback AS f
        WHERE f.decision_id = c.decision_id AND f.event_id = c.event_id
            AND f.commitment = pg_catalog.sha256(
                c.salt || convert_to(coalesce(c.unit, ''), 'UTF8') || '\x00'::bytea || c.content
            )
    )
    FROM ml_learning.feedback_contents AS c
    WHERE c.known_at >= %(since)s AND c.known_at < %(before)s
) AS contents
GROUP BY name
ORDER BY name
