-- Queries of pool.py.

-- name: in_utc
-- So that times read the same on every server, and none leaves the years 1 to 9999.
SET TIME ZONE 'UTC'

-- name: may_serve
SELECT EXISTS (
    SELECT FROM pg_roles
    WHERE rolname = 'pointsman_service'
        AND pg_has_role(current_user, oid, CASE
            WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER'
        END)
)

-- name: serve
-- Takes away all rights that the service does not need, whoever it logged in as.
SET ROLE pointsman_service

-- name: unpack_without_bound
-- Late truth changes minutes that TimescaleDB has compressed by now. By default a transaction that unpacks more than
-- 100,000 rows fails, again at each attempt, and would hold the sink up. Elsewhere there is no such setting.
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'
