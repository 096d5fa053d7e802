-- Queries of migrate.py.

-- name: lock
-- For the transaction, so that it works through a pooler and ends with its process. The number is "pointsma".
SELECT pg_advisory_xact_lock(x'706f696e74736d61'::bigint)

-- name: create_versions
CREATE SCHEMA IF NOT EXISTS ml_learning;
CREATE TABLE IF NOT EXISTS ml_learning.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: versions_exist
SELECT to_regclass('ml_learning.schema_migrations') IS NOT NULL

-- name: applied
SELECT version, name, checksum, applied_at FROM ml_learning.schema_migrations ORDER BY version

-- name: record
INSERT INTO ml_learning.schema_migrations (version, name, checksum) VALUES (%s, %s, %s)
