-- The drift watch: sampled decisions counted into the bins of a model's reference, hour by hour; and what came of the
-- comparison. Counts of all features lie in one array: one row a batch to write, and to add to, in the place of fifty.

CREATE TABLE ml_learning.drift_counts (
    agent_name text NOT NULL,
    model text NOT NULL,
    reference text NOT NULL,
    hour timestamptz NOT NULL,
    shard integer NOT NULL,
    counts integer[] NOT NULL,
    PRIMARY KEY (agent_name, model, reference, hour, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.drift_counts IS
    'Sampled decisions by model, hour and partition, in the bins of the reference in the model''s card, feature after feature.';
COMMENT ON COLUMN ml_learning.drift_counts.reference IS 'Digest of the reference: counts of other bins are never added.';

CREATE TABLE ml_learning.drift (
    agent_name text NOT NULL,
    feature text NOT NULL,
    window_end timestamptz NOT NULL,
    model text NOT NULL,
    reference text NOT NULL,
    window_hours integer NOT NULL,
    n bigint NOT NULL,
    effect double precision,
    p double precision,
    verdict text NOT NULL CHECK (verdict IN ('stable', 'drifted', 'too_few')),
    edges double precision[] NOT NULL,
    expected bigint[] NOT NULL,
    counts bigint[] NOT NULL,
    known_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (agent_name, feature, window_end, model, reference)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.drift IS
    'How the decisions of a window stood to the training part: one row a feature and hour, which changes until its hour is over.';
COMMENT ON COLUMN ml_learning.drift.effect IS 'Population stability index.';
COMMENT ON COLUMN ml_learning.drift.p IS
    'By chi-square, corrected for the number of features; too small where decisions have to do with each other.';
COMMENT ON COLUMN ml_learning.drift.edges IS
    'Bin 1 holds what is up to the first edge, the last one what is above the last. expected: of the training part.';

CREATE VIEW ml_learning.drift_now AS
SELECT DISTINCT ON (agent_name, feature)
    agent_name, feature, verdict, effect, p, n, window_end, window_hours, model, edges, expected, counts
FROM ml_learning.drift
ORDER BY agent_name, feature, window_end DESC, known_at DESC;
COMMENT ON VIEW ml_learning.drift_now IS 'The latest row of each agent and feature.';

SELECT ml_learning.allow('SELECT, INSERT, UPDATE, DELETE', name, 'pointsman_service')
FROM unnest(ARRAY['ml_learning.drift_counts', 'ml_learning.drift']::regclass[]) AS name;
SELECT ml_learning.allow('SELECT', 'ml_learning.drift_now', 'pointsman_service');
