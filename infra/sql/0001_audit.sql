-- The audit: what was decided, with what, on what input, and what was learned later.
-- Append-only from the first row. What a person could be known by lies in tables of its own (…_contents),
-- so that it can be deleted while the decision and its commitment stand.

-- Roles are the server's, not the database's: another database may have made them already, perhaps at this
-- very moment. Where the migrating role may not make roles, the tables work without; triggers still guard them.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['pointsman_service', 'pointsman_privacy'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;  -- made meanwhile: all that was wanted
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role % is missing and may not be created by %: privileges are not narrowed',
                    wanted, current_user;
        END;
    END LOOP;
END $$;

CREATE FUNCTION ml_learning.allow(privileges text, relation regclass, grantee text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = grantee) THEN
        EXECUTE format('GRANT %s ON %s TO %I', privileges, relation, grantee);
    END IF;
END $$;
COMMENT ON FUNCTION ml_learning.allow IS 'GRANT for a role that may not exist.';

DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN SELECT rolname FROM pg_roles WHERE rolname IN ('pointsman_service', 'pointsman_privacy') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA ml_learning TO %I', grantee);
    END LOOP;
END $$;

CREATE FUNCTION ml_learning.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Write a new row; the latest known_at counts.';
END $$;

CREATE FUNCTION ml_learning.append_only(relation regclass, deletable boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Row triggers rather than statement triggers: a hypertable hands them on to its chunks.
    EXECUTE format(
        'CREATE TRIGGER append_only BEFORE %s ON %s FOR EACH ROW EXECUTE FUNCTION ml_learning.refuse_change()',
        CASE WHEN deletable THEN 'UPDATE' ELSE 'UPDATE OR DELETE' END, relation);
    EXECUTE format(
        'CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION ml_learning.refuse_change()', relation);
    PERFORM ml_learning.allow('SELECT, INSERT', relation, 'pointsman_service');
    IF deletable THEN
        PERFORM ml_learning.allow('SELECT, DELETE', relation, 'pointsman_privacy');
    END IF;
END $$;
COMMENT ON FUNCTION ml_learning.append_only IS
    'Makes a table append-only: triggers for everyone, SELECT and INSERT for the service; deletable: pointsman_privacy may delete.';

-- Topics by number: a place costs 16 bytes instead of a text in every row.
CREATE TABLE ml_learning.kafka_topics (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster text NOT NULL,
    topic text NOT NULL,
    UNIQUE (cluster, topic)
);
COMMENT ON TABLE ml_learning.kafka_topics IS 'Topics of each cluster, by the number that places use.';
SELECT ml_learning.append_only('ml_learning.kafka_topics');

-- The guard: a request is written once. Unique keys without the time cannot stand on a hypertable, so they
-- stand here. The hash is part of the key because a topic that was made anew counts its offsets from 0 again.
CREATE TABLE ml_learning.decision_places (
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    request_offset bigint NOT NULL,
    revision smallint NOT NULL,
    content_hash bigint NOT NULL,
    PRIMARY KEY (topic_id, partition, request_offset, revision, content_hash)
);
COMMENT ON TABLE ml_learning.decision_places IS
    'Requests whose outcome stands in agent_decisions; content_hash: the outcome''s, as a number.';
SELECT ml_learning.append_only('ml_learning.decision_places');

CREATE TABLE ml_learning.agent_decisions (
    created_at timestamptz NOT NULL,
    requested_at timestamptz,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    request_offset bigint NOT NULL,
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    flag_version bigint NOT NULL,
    revision smallint NOT NULL,
    success boolean NOT NULL,
    needs_review boolean NOT NULL,
    confidence double precision NOT NULL,
    flag_percentage double precision NOT NULL,
    rules_score double precision NOT NULL,
    rules_confidence double precision NOT NULL,
    ml_score double precision,
    ml_confidence double precision,
    total_ms double precision NOT NULL,
    features_ms double precision NOT NULL,
    model_ms double precision,
    decision_id text NOT NULL,
    agent_name text NOT NULL,
    status text NOT NULL,
    source text NOT NULL,
    arm text NOT NULL,
    prediction text NOT NULL,
    reason text NOT NULL,
    action text NOT NULL,
    fallback_reason text,
    rules_decider text NOT NULL,
    rules_prediction text NOT NULL,
    rules_reason text NOT NULL,
    ml_decider text,
    ml_prediction text,
    ml_reason text,
    flag_name text NOT NULL,
    pointsman_version text NOT NULL,
    features_version text NOT NULL,
    rules_version text NOT NULL,
    ml_version text,
    trace_id text,
    content_hash text NOT NULL,
    commitment bytea NOT NULL,
    features jsonb NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE ml_learning.agent_decisions IS
    'One row an outcome (final, or pending with revision 0), append-only. Input and unit: decision_contents.';
COMMENT ON COLUMN ml_learning.agent_decisions.created_at IS 'Wall clock of the decision.';
COMMENT ON COLUMN ml_learning.agent_decisions.requested_at IS 'The event''s own time, from the request.';
COMMENT ON COLUMN ml_learning.agent_decisions.known_at IS
    'When this row was written. Not clock_timestamp(): a volatile default makes COPY insert row by row.';
COMMENT ON COLUMN ml_learning.agent_decisions.commitment IS
    'SHA-256 of salt, unit, a zero byte and input: ml_learning.commitment() over decision_contents.';
CREATE INDEX agent_decisions_decision_id ON ml_learning.agent_decisions (decision_id);
-- Rows come in the order of time, so a block range index finds any hour, and costs nothing to write.
CREATE INDEX agent_decisions_created_at ON ml_learning.agent_decisions USING brin (created_at) WITH (pages_per_range = 32);
SELECT ml_learning.append_only('ml_learning.agent_decisions');

CREATE TABLE ml_learning.decision_contents (
    created_at timestamptz NOT NULL,
    request_offset bigint NOT NULL,
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    revision smallint NOT NULL,
    decision_id text NOT NULL,
    unit text,
    salt bytea NOT NULL,
    input bytea NOT NULL
);
COMMENT ON TABLE ml_learning.decision_contents IS
    'What a person could be known by, apart, so that it can be deleted. input: the JSON as received, byte for byte.';
-- By place and not by id: places rise, so this index grows at its right edge only.
CREATE INDEX decision_contents_place ON ml_learning.decision_contents (topic_id, partition, request_offset);
SELECT ml_learning.append_only('ml_learning.decision_contents', deletable => true);

CREATE TABLE ml_learning.shadow_places (
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    request_offset bigint NOT NULL,
    decider text NOT NULL,
    decision_id text NOT NULL,
    PRIMARY KEY (topic_id, partition, request_offset, decider, decision_id)
);
COMMENT ON TABLE ml_learning.shadow_places IS 'The guard of decision_shadows: one answer a request and decider.';
SELECT ml_learning.append_only('ml_learning.shadow_places');

CREATE TABLE ml_learning.decision_shadows (
    answered_at timestamptz NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    request_offset bigint NOT NULL,
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    score double precision NOT NULL,
    confidence double precision NOT NULL,
    decision_id text NOT NULL,
    agent_name text NOT NULL,
    decider text NOT NULL,
    prediction text NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE ml_learning.decision_shadows IS 'Answers that were not served, append-only.';
CREATE INDEX decision_shadows_place ON ml_learning.decision_shadows (topic_id, partition, request_offset);
SELECT ml_learning.append_only('ml_learning.decision_shadows');

CREATE TABLE ml_learning.feedback_events (
    decision_id text NOT NULL,
    event_id text NOT NULL,
    PRIMARY KEY (decision_id, event_id)
);
COMMENT ON TABLE ml_learning.feedback_events IS
    'The guard of decision_feedback: the same event counts once. With the decision in its key, because senders that number their events from 1 for each decision are common.';
SELECT ml_learning.append_only('ml_learning.feedback_events');

CREATE TABLE ml_learning.decision_feedback (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    observed_at timestamptz NOT NULL,
    decision_id text NOT NULL,
    agent_name text NOT NULL,
    event_id text NOT NULL,
    kind text NOT NULL,
    value_text text,
    value_number double precision,
    value_time timestamptz,
    commitment bytea NOT NULL
);
COMMENT ON TABLE ml_learning.decision_feedback IS
    'One row an event and kind, append-only; the latest (known_at, seq) of a kind counts. Free text, unit and sender: feedback_contents.';
COMMENT ON COLUMN ml_learning.decision_feedback.seq IS 'Order of arrival within one known_at.';
CREATE INDEX decision_feedback_decision ON ml_learning.decision_feedback (decision_id, kind);
CREATE INDEX decision_feedback_known_at ON ml_learning.decision_feedback USING brin (known_at);
SELECT ml_learning.append_only('ml_learning.decision_feedback');

CREATE TABLE ml_learning.feedback_contents (
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    decision_id text NOT NULL,
    event_id text NOT NULL,
    unit text,
    salt bytea NOT NULL,
    content bytea NOT NULL
);
COMMENT ON TABLE ml_learning.feedback_contents IS
    'What a person could be known by in a feedback event; content: JSON with sender and the free texts by kind.';
CREATE INDEX feedback_contents_decision ON ml_learning.feedback_contents (decision_id);
SELECT ml_learning.append_only('ml_learning.feedback_contents', deletable => true);

CREATE TABLE ml_learning.lane_ledger (
    lane text NOT NULL,
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    requests bigint NOT NULL,
    outcomes bigint NOT NULL,
    pending bigint NOT NULL,
    dead_letters bigint NOT NULL,
    duplicates bigint NOT NULL,
    retrying bigint NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (lane, topic_id, partition, start_offset, end_offset)
);
COMMENT ON TABLE ml_learning.lane_ledger IS
    'What became of the requests from start_offset up to, without, end_offset. The law: requests = outcomes + pending + dead_letters + duplicates + retrying.';
SELECT ml_learning.append_only('ml_learning.lane_ledger');

CREATE TABLE ml_learning.dead_letters (
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    request_offset bigint NOT NULL,
    attempt integer NOT NULL,
    reason text NOT NULL,
    field text NOT NULL,
    expected text NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (topic_id, partition, request_offset, attempt)
);
COMMENT ON TABLE ml_learning.dead_letters IS 'Messages that were refused: where they lay and why. Their bytes stay in Kafka.';
SELECT ml_learning.append_only('ml_learning.dead_letters');

-- Where each sink stands: changes in the transaction that writes the rows, and only from the batch's start.
CREATE TABLE ml_learning.sink_offsets (
    lane text NOT NULL,
    cluster text NOT NULL,
    topic text NOT NULL,
    topic_generation text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (lane, cluster, topic, topic_generation, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.sink_offsets IS 'The next offset that each sink will read.';
COMMENT ON COLUMN ml_learning.sink_offsets.topic_generation IS
    'Kafka''s id of the topic where it is known, else empty: a topic made anew starts anew.';
SELECT ml_learning.allow('SELECT, INSERT, UPDATE', 'ml_learning.sink_offsets', 'pointsman_service');
SELECT ml_learning.allow('SELECT', 'ml_learning.schema_migrations', 'pointsman_service');

CREATE FUNCTION ml_learning.commitment(salt bytea, unit text, content bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(salt || convert_to(coalesce(unit, ''), 'UTF8') || '\x00'::bytea || content);
COMMENT ON FUNCTION ml_learning.commitment IS
    'What commits a row to its content. A unit is never empty and holds no zero byte, so no two contents share it.';
