-- Requests that were tried again or sent again: what they went through before their outcome, and where a
-- dead letter's last attempt was taken from. Only such requests have a row; all others were answered at once.

CREATE TABLE ml_learning.decision_histories (
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    request_offset bigint NOT NULL,
    revision smallint NOT NULL,
    content_hash bigint NOT NULL,
    decision_id text NOT NULL,
    attempts integer NOT NULL,
    first_reason text,
    first_field text,
    taken_topic_id integer,
    taken_offset bigint,
    redriven integer NOT NULL,
    first_topic_id integer,
    first_partition integer,
    first_offset bigint,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (topic_id, partition, request_offset, revision, content_hash)
);
COMMENT ON TABLE ml_learning.decision_histories IS
    'Outcomes whose request was tried again (attempts > 1) or sent again from the dead letters (redriven > 0).';
COMMENT ON COLUMN ml_learning.decision_histories.first_reason IS
    'Why the first attempt failed; the error''s text may quote the input and stays in Kafka.';
COMMENT ON COLUMN ml_learning.decision_histories.taken_offset IS
    'Place in the delay topic that the last attempt was taken from, in the partition of the request; NULL: none.';
COMMENT ON COLUMN ml_learning.decision_histories.first_offset IS
    'Where the request lay when it was first sent; NULL: it was sent once.';
-- The ledger of a delay topic counts what was taken from a range of it.
CREATE INDEX decision_histories_taken ON ml_learning.decision_histories (taken_topic_id, partition, taken_offset)
WHERE taken_topic_id IS NOT NULL;
SELECT ml_learning.append_only('ml_learning.decision_histories');

ALTER TABLE ml_learning.dead_letters
    ADD COLUMN taken_topic_id integer,
    ADD COLUMN taken_offset bigint;
COMMENT ON COLUMN ml_learning.dead_letters.taken_offset IS
    'Place in the delay topic that the last attempt was taken from, in the partition of the request; NULL: none.';
CREATE INDEX dead_letters_taken ON ml_learning.dead_letters (taken_topic_id, partition, taken_offset)
WHERE taken_topic_id IS NOT NULL;

CREATE OR REPLACE VIEW ml_learning.decisions AS
SELECT
    d.*,
    t.cluster, t.topic,
    c.unit,
    ml_learning.as_jsonb(c.input) AS input,
    coalesce(h.attempts, 1) AS attempts,
    h.first_reason,
    coalesce(h.redriven, 0) AS redriven
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
    AND h.decision_id = d.decision_id;
