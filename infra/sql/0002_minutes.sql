-- Aggregates per minute of created_at. Each row belongs to one partition of the requests (the shard), so that
-- writers of different partitions never wait for each other; the views add the shards up.
-- Sums are integers: addition in any order gives the same, so they equal the audit's to the last digit.

CREATE TABLE ml_learning.decision_minute_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    decisions bigint NOT NULL,
    by_ml bigint NOT NULL,
    fallbacks bigint NOT NULL,
    failures bigint NOT NULL,
    validations bigint NOT NULL,
    escalations bigint NOT NULL,
    reviews bigint NOT NULL,
    both_answered bigint NOT NULL,
    agreements bigint NOT NULL,
    confidence_sum_e6 bigint NOT NULL,
    latency_sum_us bigint NOT NULL,
    pending bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_minute_shards IS
    'Final outcomes by minute, assigned arm and shard; pending counts apart. Read decision_minutes.';

CREATE TABLE ml_learning.decision_fallback_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    reason text NOT NULL,
    decisions bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard, reason)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_fallback_shards IS 'Fallbacks by reason. Read decision_fallback_minutes.';

CREATE TABLE ml_learning.decision_latency_shards (
    agent_name text NOT NULL,
    minute timestamptz NOT NULL,
    arm text NOT NULL,
    shard integer NOT NULL,
    bucket integer NOT NULL,
    decisions bigint NOT NULL,
    PRIMARY KEY (agent_name, minute, arm, shard, bucket)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_learning.decision_latency_shards IS
    'Histogram of the total latency: bucket 0 holds all up to 0.01 ms, bucket b holds (0.01 * 1.02^(b-1), 0.01 * 1.02^b] ms.';

SELECT ml_learning.allow('SELECT, INSERT, UPDATE', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.decision_minute_shards', 'ml_learning.decision_fallback_shards', 'ml_learning.decision_latency_shards'
]::regclass[]) AS name;

CREATE FUNCTION ml_learning.minute_of(moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_bin('1 minute', moment, '2000-01-01T00:00Z');

CREATE FUNCTION ml_learning.latency_bucket(milliseconds double precision) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN milliseconds <= 0.01 THEN 0
    ELSE ceil(ln(milliseconds / 0.01) / ln(1.02::double precision) - 1e-9)::integer
END;
COMMENT ON FUNCTION ml_learning.latency_bucket IS 'The bucket of a latency in ms, as schemas/latency.py counts.';

CREATE FUNCTION ml_learning.latency_ms(bucket integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN bucket <= 0 THEN 0.01::double precision
    ELSE 2 * (0.01 * exp(bucket * ln(1.02::double precision))) / 2.02
END;
COMMENT ON FUNCTION ml_learning.latency_ms IS 'The latency that stands for a bucket, at most 1 % from any in it.';

CREATE FUNCTION ml_learning.latency_quantile_ms(buckets integer[], counts bigint[], q double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT ml_learning.latency_ms(min(bucket))
    FROM (
        SELECT bucket, sum(n) OVER (ORDER BY bucket) AS seen, sum(n) OVER () AS total
        FROM unnest(buckets, counts) AS histogram (bucket, n)
    ) AS ranked
    WHERE seen >= greatest(1, ceil(q * total::double precision))
$$;
COMMENT ON FUNCTION ml_learning.latency_quantile_ms IS
    'Quantile in ms of a histogram given as two arrays; the same bucket may occur many times. NULL if empty.';

CREATE VIEW ml_learning.decision_minutes AS
SELECT
    agent_name, minute, arm,
    sum(decisions)::bigint AS decisions,
    sum(by_ml)::bigint AS by_ml,
    sum(fallbacks)::bigint AS fallbacks,
    sum(failures)::bigint AS failures,
    sum(validations)::bigint AS validations,
    sum(escalations)::bigint AS escalations,
    sum(reviews)::bigint AS reviews,
    sum(both_answered)::bigint AS both_answered,
    sum(agreements)::bigint AS agreements,
    sum(confidence_sum_e6) / 1e6 AS confidence_sum,
    sum(latency_sum_us) / 1e3 AS latency_sum_ms,
    sum(pending)::bigint AS pending
FROM ml_learning.decision_minute_shards
GROUP BY agent_name, minute, arm;
COMMENT ON VIEW ml_learning.decision_minutes IS 'Final outcomes by agent, minute of the decision and assigned arm.';

CREATE VIEW ml_learning.decision_fallback_minutes AS
SELECT agent_name, minute, arm, reason, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_fallback_shards
GROUP BY agent_name, minute, arm, reason;

CREATE VIEW ml_learning.decision_latency_buckets AS
SELECT agent_name, minute, arm, bucket, sum(decisions)::bigint AS decisions
FROM ml_learning.decision_latency_shards
GROUP BY agent_name, minute, arm, bucket;
COMMENT ON VIEW ml_learning.decision_latency_buckets IS
    'For a window: latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.95). Quantiles do not add up; these do.';

CREATE VIEW ml_learning.decision_latency_minutes AS
SELECT
    agent_name, minute, arm,
    sum(decisions)::bigint AS decisions,
    ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.50) AS p50_ms,
    ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.95) AS p95_ms,
    ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), 0.99) AS p99_ms
FROM ml_learning.decision_latency_shards
GROUP BY agent_name, minute, arm;

-- The same numbers straight from the audit: what the aggregates are checked against.
CREATE VIEW ml_learning.decision_minutes_from_audit AS
SELECT
    agent_name,
    ml_learning.minute_of(created_at) AS minute,
    arm,
    count(*) FILTER (WHERE final) AS decisions,
    count(*) FILTER (WHERE final AND source = 'ml') AS by_ml,
    count(*) FILTER (WHERE final AND fallback_reason IS NOT NULL) AS fallbacks,
    count(*) FILTER (WHERE final AND NOT success) AS failures,
    count(*) FILTER (WHERE final AND action = 'validate') AS validations,
    count(*) FILTER (WHERE final AND action = 'escalate') AS escalations,
    count(*) FILTER (WHERE final AND needs_review) AS reviews,
    count(*) FILTER (WHERE final AND ml_prediction IS NOT NULL) AS both_answered,
    count(*) FILTER (WHERE final AND ml_prediction = rules_prediction) AS agreements,
    coalesce(sum(round(confidence * 1000000)::bigint) FILTER (WHERE final), 0) / 1e6 AS confidence_sum,
    coalesce(sum(round(total_ms * 1000)::bigint) FILTER (WHERE final), 0) / 1e3 AS latency_sum_ms,
    count(*) FILTER (WHERE NOT final) AS pending
FROM (SELECT *, status = 'final' AS final FROM ml_learning.agent_decisions) AS decision
GROUP BY 1, 2, 3;

SELECT ml_learning.allow('SELECT', name, 'pointsman_service')
FROM unnest(ARRAY[
    'ml_learning.decision_minutes', 'ml_learning.decision_fallback_minutes', 'ml_learning.decision_latency_buckets',
    'ml_learning.decision_latency_minutes', 'ml_learning.decision_minutes_from_audit'
]::regclass[]) AS name;
