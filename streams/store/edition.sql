-- Queries of edition.py: what a server has of TimescaleDB, and what is made where its edition allows it.
-- Names in braces are filled in by edition.py; functions of the extension are found by the search path.

-- name: server
-- The setting `timescaledb.disable_load` is there where the library was preloaded: without that, making the
-- extension would end the session.
SELECT
    current_setting('server_version') AS server,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS installed,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available,
    current_setting('timescaledb.disable_load', true) IS NOT NULL AS preloaded,
    coalesce((
        SELECT bool_or(
            (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            OR v.trusted AND has_database_privilege(current_database(), 'CREATE')
        )
        FROM pg_available_extensions AS e
        JOIN pg_available_extension_versions AS v ON v.name = e.name AND v.version = e.default_version
        WHERE e.name = 'timescaledb'
    ), false) AS creatable,
    current_setting('timescaledb.license', true) AS license

-- name: find_functions
SELECT set_config('search_path', format('%I, pg_catalog', space.nspname), true)
FROM pg_extension AS extension
JOIN pg_namespace AS space ON space.oid = extension.extnamespace
WHERE extension.extname = 'timescaledb'

-- name: hypertables
SELECT hypertable_name, compression_enabled
FROM timescaledb_information.hypertables
WHERE hypertable_schema = 'ml_learning'

-- name: views
-- Ours that stand on a continuous aggregate.
SELECT DISTINCT shown.relname
FROM pg_class AS shown
JOIN pg_rewrite AS rule ON rule.ev_class = shown.oid
JOIN pg_depend AS need ON need.classid = 'pg_rewrite'::regclass AND need.objid = rule.oid
JOIN pg_class AS kept ON kept.oid = need.refobjid AND need.refclassid = 'pg_class'::regclass
WHERE shown.relnamespace = 'ml_learning'::regnamespace
    AND kept.relnamespace = shown.relnamespace
    AND kept.relname = shown.relname || '_cagg'

-- name: policies
-- What runs by itself, by the table or view that it is for; that of an aggregate is listed under a table of its own.
SELECT
    coalesce(kept.view_name, job.hypertable_name) AS relation,
    CASE job.proc_name
        WHEN 'policy_refresh_continuous_aggregate' THEN 'refresh'
        WHEN 'policy_retention' THEN 'retention'
        ELSE 'compression'
    END AS kind,
    extract(epoch FROM coalesce(job.config ->> 'compress_after', job.config ->> 'drop_after')::interval)::bigint / 86400
        AS after_days,
    CASE WHEN job.config ->> 'start_offset' IS NULL THEN extract(epoch FROM job.schedule_interval)::bigint END
        AS every_s,
    coalesce(ran.last_run_status = 'Failed', false) AS failing
FROM timescaledb_information.jobs AS job
LEFT JOIN timescaledb_information.job_stats AS ran ON ran.job_id = job.job_id
LEFT JOIN timescaledb_information.continuous_aggregates AS kept
    ON (job.hypertable_schema, job.hypertable_name) IN (
        (kept.materialization_hypertable_schema, kept.materialization_hypertable_name),
        (kept.view_schema, kept.view_name)
    )
WHERE job.proc_name IN (
        'policy_refresh_continuous_aggregate', 'policy_retention', 'policy_compression', 'policy_columnstore'
    )
    AND coalesce(kept.view_schema, job.hypertable_schema) = 'ml_learning'

-- name: create_extension
CREATE EXTENSION timescaledb

-- name: hypertable
-- Writers are stopped at their first statement. One that waited for the table itself would have seen a plain table,
-- and would then write where nobody reads: TimescaleDB looks before it waits.
LOCK TABLE ml_learning.sink_offsets, ml_learning.decision_truths IN EXCLUSIVE MODE;
SELECT create_hypertable(
    'ml_learning.{table}', '{column}', chunk_time_interval => interval '{days} days',
    create_default_indexes => false, migrate_data => true
);

-- name: append_only_hypertable
-- Rows that are there already are moved, and the table then emptied by TRUNCATE, which an append-only table refuses:
-- its trigger is away for the time of this transaction, and the table locked; writers as above.
LOCK TABLE ml_learning.sink_offsets, ml_learning.decision_truths IN EXCLUSIVE MODE;
DROP TRIGGER append_only_whole ON ml_learning.{table};
SELECT create_hypertable(
    'ml_learning.{table}', '{column}', chunk_time_interval => interval '{days} days',
    create_default_indexes => false, migrate_data => true
);
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON ml_learning.{table}
FOR EACH STATEMENT EXECUTE FUNCTION ml_learning.refuse_change();

-- name: add_refresh
-- From the very beginning, for labels come a month and more late; only what was changed is computed again. What is
-- younger than the end is added up when it is asked for.
SELECT add_continuous_aggregate_policy(
    'ml_learning.{table}_cagg', start_offset => NULL, end_offset => interval '2 hours',
    schedule_interval => interval '{seconds} seconds'
);

-- name: remove_refresh
SELECT remove_continuous_aggregate_policy('ml_learning.{table}_cagg');

-- name: enable_compression
-- By agent and arm in the order of time: late truth that changes a minute unpacks some thousand rows, not a chunk.
ALTER TABLE ml_learning.{table} SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'agent_name, arm', timescaledb.compress_orderby = 'minute, shard'
);

-- name: add_compression
SELECT add_compression_policy('ml_learning.{table}', compress_after => interval '{days} days');

-- name: remove_compression
SELECT remove_compression_policy('ml_learning.{table}');

-- name: add_retention
SELECT add_retention_policy('ml_learning.{table}', drop_after => interval '{days} days');

-- name: remove_retention
SELECT remove_retention_policy('ml_learning.{table}');

-- name: decision_hours
CREATE MATERIALIZED VIEW IF NOT EXISTS ml_learning.decision_hours_cagg
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    agent_name, time_bucket('1 hour', minute) AS hour, arm,
    sum(decisions) AS decisions,
    sum(by_ml) AS by_ml,
    sum(fallbacks) AS fallbacks,
    sum(failures) AS failures,
    sum(validations) AS validations,
    sum(escalations) AS escalations,
    sum(reviews) AS reviews,
    sum(both_answered) AS both_answered,
    sum(agreements) AS agreements,
    sum(confidence_sum_e6) AS confidence_sum_e6,
    sum(latency_sum_us) AS latency_sum_us,
    sum(pending) AS pending
FROM ml_learning.decision_minute_shards
GROUP BY agent_name, time_bucket('1 hour', minute), arm
WITH NO DATA;
CREATE INDEX IF NOT EXISTS decision_hours_cagg_agent ON ml_learning.decision_hours_cagg (agent_name, hour);
CREATE OR REPLACE VIEW ml_learning.decision_hours AS
SELECT
    agent_name, hour, arm,
    decisions::bigint AS decisions,
    by_ml::bigint AS by_ml,
    fallbacks::bigint AS fallbacks,
    failures::bigint AS failures,
    validations::bigint AS validations,
    escalations::bigint AS escalations,
    reviews::bigint AS reviews,
    both_answered::bigint AS both_answered,
    agreements::bigint AS agreements,
    confidence_sum_e6 / 1e6 AS confidence_sum,
    latency_sum_us / 1e3 AS latency_sum_ms,
    pending::bigint AS pending
FROM ml_learning.decision_hours_cagg;

-- name: decision_fallback_hours
CREATE MATERIALIZED VIEW IF NOT EXISTS ml_learning.decision_fallback_hours_cagg
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    agent_name, time_bucket('1 hour', minute) AS hour, arm, reason,
    sum(decisions) AS decisions
FROM ml_learning.decision_fallback_shards
GROUP BY agent_name, time_bucket('1 hour', minute), arm, reason
WITH NO DATA;
CREATE INDEX IF NOT EXISTS decision_fallback_hours_cagg_agent ON ml_learning.decision_fallback_hours_cagg (agent_name, hour);
CREATE OR REPLACE VIEW ml_learning.decision_fallback_hours AS
SELECT
    agent_name, hour, arm, reason,
    decisions::bigint AS decisions
FROM ml_learning.decision_fallback_hours_cagg;

-- name: decision_latency_hour_buckets
CREATE MATERIALIZED VIEW IF NOT EXISTS ml_learning.decision_latency_hour_buckets_cagg
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    agent_name, time_bucket('1 hour', minute) AS hour, arm, bucket,
    sum(decisions) AS decisions
FROM ml_learning.decision_latency_shards
GROUP BY agent_name, time_bucket('1 hour', minute), arm, bucket
WITH NO DATA;
CREATE INDEX IF NOT EXISTS decision_latency_hour_buckets_cagg_agent ON ml_learning.decision_latency_hour_buckets_cagg (agent_name, hour);
CREATE OR REPLACE VIEW ml_learning.decision_latency_hour_buckets AS
SELECT
    agent_name, hour, arm, bucket,
    decisions::bigint AS decisions
FROM ml_learning.decision_latency_hour_buckets_cagg;

-- name: decision_truth_hours
CREATE MATERIALIZED VIEW IF NOT EXISTS ml_learning.decision_truth_hours_cagg
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    agent_name, time_bucket('1 hour', minute) AS hour, arm,
    sum(decisions) AS decisions,
    sum(ratings) AS ratings,
    sum(rating_sum_e6) AS rating_sum_e6,
    sum(comments) AS comments,
    sum(accepted) AS accepted,
    sum(edited) AS edited,
    sum(reverted) AS reverted,
    sum(ignored) AS ignored,
    sum(corrections) AS corrections,
    sum(complaints) AS complaints,
    sum(critical_errors) AS critical_errors,
    sum(safety_violations) AS safety_violations,
    sum(tasks) AS tasks,
    sum(task_sum_ms) AS task_sum_ms,
    sum(token_tasks) AS token_tasks,
    sum(token_sum) AS token_sum,
    sum(tool_tasks) AS tool_tasks,
    sum(tool_calls) AS tool_calls,
    sum(tool_calls_correct) AS tool_calls_correct,
    sum(cost_tasks) AS cost_tasks,
    sum(cost_sum_e6) AS cost_sum_e6
FROM ml_learning.decision_truth_shards
GROUP BY agent_name, time_bucket('1 hour', minute), arm
WITH NO DATA;
CREATE INDEX IF NOT EXISTS decision_truth_hours_cagg_agent ON ml_learning.decision_truth_hours_cagg (agent_name, hour);
CREATE OR REPLACE VIEW ml_learning.decision_truth_hours AS
SELECT
    agent_name, hour, arm,
    decisions::bigint AS decisions,
    ratings::bigint AS ratings,
    rating_sum_e6 / 1e6 AS rating_sum,
    comments::bigint AS comments,
    accepted::bigint AS accepted,
    edited::bigint AS edited,
    reverted::bigint AS reverted,
    ignored::bigint AS ignored,
    corrections::bigint AS corrections,
    complaints::bigint AS complaints,
    critical_errors::bigint AS critical_errors,
    safety_violations::bigint AS safety_violations,
    tasks::bigint AS tasks,
    task_sum_ms / 1e3 AS task_sum_s,
    token_tasks::bigint AS token_tasks,
    token_sum,
    tool_tasks::bigint AS tool_tasks,
    tool_calls,
    tool_calls_correct,
    cost_tasks::bigint AS cost_tasks,
    cost_sum_e6 / 1e6 AS cost_sum
FROM ml_learning.decision_truth_hours_cagg
WHERE decisions <> 0;

-- name: decision_label_hours
CREATE MATERIALIZED VIEW IF NOT EXISTS ml_learning.decision_label_hours_cagg
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    agent_name, time_bucket('1 hour', minute) AS hour, arm, label, served, rules, ml,
    sum(decisions) AS decisions
FROM ml_learning.decision_label_shards
GROUP BY agent_name, time_bucket('1 hour', minute), arm, label, served, rules, ml
WITH NO DATA;
CREATE INDEX IF NOT EXISTS decision_label_hours_cagg_agent ON ml_learning.decision_label_hours_cagg (agent_name, hour);
CREATE OR REPLACE VIEW ml_learning.decision_label_hours AS
SELECT
    agent_name, hour, arm, label, served, rules, nullif(ml, '') AS ml,
    decisions::bigint AS decisions
FROM ml_learning.decision_label_hours_cagg
WHERE decisions <> 0;
