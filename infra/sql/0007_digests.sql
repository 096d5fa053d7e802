-- Daily digests over the audit, and what may leave it: by age, once a digest stands for it, and by request of a person.

CREATE TABLE ml_learning.audit_digests (
    seq bigint PRIMARY KEY,
    day date NOT NULL,
    revision integer NOT NULL,
    form smallint NOT NULL,
    tables jsonb NOT NULL,
    why text NOT NULL,
    previous bytea NOT NULL,
    digest bytea NOT NULL,
    known_at timestamptz NOT NULL,
    UNIQUE (day, revision)
);
COMMENT ON TABLE ml_learning.audit_digests IS
    'One row a UTC day and revision, each with the digest of the row before: what the audit''s tables held when the day was over.';
COMMENT ON COLUMN ml_learning.audit_digests.form IS 'Which columns are digested, and how: the query day_1 for form 1, and so on.';
COMMENT ON COLUMN ml_learning.audit_digests.tables IS 'Table to its rows of that day, by known_at, and the SHA-256 over them.';
COMMENT ON COLUMN ml_learning.audit_digests.why IS 'Of a revision after the first: why the rows are others.';
SELECT ml_learning.append_only('ml_learning.audit_digests');

CREATE TABLE ml_learning.audit_deletions (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    kind text NOT NULL CHECK (kind IN ('audit', 'contents', 'unit', 'decision')),
    day date,
    retention_days integer,
    salt bytea,
    subject bytea,
    deleted jsonb NOT NULL,
    deleted_by text NOT NULL,
    login text NOT NULL DEFAULT session_user,
    CHECK ((kind IN ('audit', 'contents')) = (day IS NOT NULL)),
    CHECK ((kind IN ('unit', 'decision')) = (salt IS NOT NULL AND subject IS NOT NULL))
);
COMMENT ON TABLE ml_learning.audit_deletions IS
    'What was deleted, append-only. audit: all rows of a day may go, from this moment on; contents: those up to a day went; unit, decision: contents went by request.';
COMMENT ON COLUMN ml_learning.audit_deletions.subject IS
    'SHA-256 of salt, unit or decision id, and a zero byte: who knows the unit can tell that it was asked for, nobody else.';
COMMENT ON COLUMN ml_learning.audit_deletions.deleted IS 'Table to the number of rows.';
CREATE UNIQUE INDEX audit_deletions_day ON ml_learning.audit_deletions (day) WHERE kind = 'audit';
SELECT ml_learning.append_only('ml_learning.audit_deletions');

-- The service neither deletes nor says that something may be deleted.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pointsman_service') THEN
        REVOKE INSERT ON ml_learning.audit_deletions FROM pointsman_service;
    END IF;
END $$;

CREATE FUNCTION ml_learning.only_digested_days() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind = 'audit' AND NOT EXISTS (SELECT FROM ml_learning.audit_digests WHERE day = NEW.day) THEN
        RAISE EXCEPTION 'the audit of % has no digest, so it stays', NEW.day
            USING ERRCODE = 'insufficient_privilege', HINT = 'Run `pointsman audit digest` first.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_digested_days BEFORE INSERT ON ml_learning.audit_deletions
FOR EACH ROW EXECUTE FUNCTION ml_learning.only_digested_days();

-- As before, but for rows of a day whose expiry stands in audit_deletions, and for guards of rows that are gone.
-- So not even the owner can delete a row without a record of it, unless it takes the triggers away. And it names the table
-- that people know, not the chunk of a hypertable.
CREATE OR REPLACE FUNCTION ml_learning.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    written date;
    expired boolean := false;
    refused text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        CASE TG_TABLE_NAME
            WHEN 'audit_digests', 'audit_deletions' THEN
                NULL;
            WHEN 'feedback_events' THEN
                expired := NOT EXISTS (
                    SELECT FROM ml_learning.decision_feedback AS f
                    WHERE f.decision_id = OLD.decision_id AND f.event_id = OLD.event_id
                );
            WHEN 'shadow_places' THEN
                expired := NOT EXISTS (
                    SELECT FROM ml_learning.decision_shadows AS s
                    WHERE s.topic_id = OLD.topic_id AND s.partition = OLD.partition
                        AND s.request_offset = OLD.request_offset
                        AND s.decider = OLD.decider AND s.decision_id = OLD.decision_id
                );
            ELSE
                BEGIN
                    written := (OLD.known_at AT TIME ZONE 'UTC')::date;
                EXCEPTION
                    WHEN undefined_column THEN
                        written := NULL;  -- a table that says no day keeps its rows
                END;
                expired := EXISTS (
                    SELECT FROM ml_learning.audit_deletions AS d WHERE d.kind = 'audit' AND d.day = written
                );
        END CASE;
        IF expired THEN
            RETURN OLD;
        END IF;
    END IF;
    SELECT format('%s.%s', s.nspname, c.relname) INTO refused
    FROM pg_class AS c
    JOIN pg_namespace AS s ON s.oid = c.relnamespace
    WHERE c.oid = coalesce((SELECT inhparent FROM pg_inherits WHERE inhrelid = TG_RELID LIMIT 1), TG_RELID);
    RAISE EXCEPTION '% is append-only: % is refused', refused, TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Write a new row; the latest known_at counts.';
END $$;

CREATE FUNCTION ml_learning.audit_since() RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (
    SELECT coalesce((max(day) + 2)::timestamp AT TIME ZONE 'UTC', '-infinity'::timestamptz)
    FROM ml_learning.audit_deletions
    WHERE kind = 'audit'
);
COMMENT ON FUNCTION ml_learning.audit_since IS
    'From when on the audit is whole: a day behind the last one that was deleted by age, for what belongs together may be written a while apart.';

-- A block with EXCEPTION is a subtransaction, which a parallel query cannot begin: a scan of many decisions failed.
ALTER FUNCTION ml_learning.as_jsonb(bytea) PARALLEL UNSAFE;

CREATE FUNCTION ml_learning.as_text(content bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS $$
BEGIN
    RETURN convert_from(content, 'UTF8');
EXCEPTION
    WHEN data_exception OR character_not_in_repertoire OR untranslatable_character THEN
        RETURN NULL;
END $$;
COMMENT ON FUNCTION ml_learning.as_text IS 'UTF-8 bytes as text, as they are; NULL where they are none.';

-- Rows are written in the order of known_at: a day is found by its blocks, and writing costs nothing.
CREATE INDEX agent_decisions_known_at ON ml_learning.agent_decisions USING brin (known_at) WITH (pages_per_range = 32);
CREATE INDEX decision_shadows_known_at ON ml_learning.decision_shadows USING brin (known_at) WITH (pages_per_range = 32);
CREATE INDEX decision_histories_known_at ON ml_learning.decision_histories USING brin (known_at);
CREATE INDEX lane_ledger_known_at ON ml_learning.lane_ledger USING brin (known_at);
CREATE INDEX dead_letters_known_at ON ml_learning.dead_letters USING brin (known_at);
CREATE INDEX decision_contents_created_at ON ml_learning.decision_contents USING brin (created_at) WITH (pages_per_range = 32);
CREATE INDEX feedback_contents_known_at ON ml_learning.feedback_contents USING brin (known_at);

SELECT ml_learning.allow('SELECT, DELETE', name, 'pointsman_privacy')
FROM unnest(ARRAY[
    'ml_learning.agent_decisions', 'ml_learning.decision_shadows', 'ml_learning.decision_feedback',
    'ml_learning.decision_histories', 'ml_learning.lane_ledger', 'ml_learning.dead_letters',
    'ml_learning.feedback_events', 'ml_learning.shadow_places'
]::regclass[]) AS name;
SELECT ml_learning.allow('SELECT', name, 'pointsman_privacy')
FROM unnest(ARRAY['ml_learning.audit_digests', 'ml_learning.kafka_topics']::regclass[]) AS name;
SELECT ml_learning.allow('SELECT, INSERT', 'ml_learning.audit_deletions', 'pointsman_privacy');
